#!/usr/bin/env bash
# Speaker identification over all real voices of Asterisk prompts that Debian carries: data/{train,dev,test}.
set -euo pipefail

usage="usage: local/data.sh [options]
  --prompts DIR    downloads folder of ../asr1 (default: ../asr1/downloads); languages that it lacks are fetched there
  --downloads DIR  cache of the further voices (default: downloads)
  --data DIR       where to write (default: data)
  --limit N        at most so many prompts of each voice, to try it out"
prompts=../asr1/downloads downloads=downloads data=data limit=''
while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) echo "$usage" && exit 0 ;;
        --prompts | --downloads | --data | --limit)
            [[ $# -ge 2 ]] || { echo "local/data.sh: $1 needs a value" >&2 && exit 1; }
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        *) echo "local/data.sh: unknown option $1" >&2 && echo "$usage" >&2 && exit 1 ;;
    esac
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
python=python3
venv=${S3ROUTER_VENV:-$root/tools/venv}
if [[ -x $venv/bin/python ]]; then python=$venv/bin/python; fi
for lang in en es fr it ru; do
    [[ -d $prompts/$lang/voice ]] || (cd "$here/../../asr1" && local/fetch.sh $lang downloads)
done
"$here/fetch.sh" "$downloads" asterisk-prompt-es-co asterisk-prompt-fr-armelle asterisk-prompt-it-menardi-wav
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" "$here/prepare.py" --prompts "$prompts" \
    --downloads "$downloads" --out "$data" ${limit:+--limit "$limit"}
