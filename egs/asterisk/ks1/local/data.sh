#!/usr/bin/env bash
# Keywords from digit and letter prompts, learnt from one voice and recognised in another: data/LANG/{train,dev,test}.
set -euo pipefail

usage="usage: local/data.sh --lang es|fr|it [options]
  --lang L         language (each has two voices)
  --prompts DIR    downloads folder of ../asr1 (default: ../asr1/downloads); a language that it lacks is fetched there
  --downloads DIR  cache of the second voices (default: ../sid1/downloads)
  --data DIR       where to write (default: data)"
lang='' prompts=../asr1/downloads downloads=../sid1/downloads data=data
die() { echo "local/data.sh: $*" >&2; exit 1; }
while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) echo "$usage" && exit 0 ;;
        --lang | --prompts | --downloads | --data)
            [[ $# -ge 2 ]] || die "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        *) die "unknown option $1
$usage" ;;
    esac
done
case $lang in
    es) package=asterisk-prompt-es-co ;;
    fr) package=asterisk-prompt-fr-armelle ;;
    it) package=asterisk-prompt-it-menardi-wav ;;
    *) die "--lang is es, fr or it, not '$lang': of the others Debian has one voice only" ;;
esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
python=python3
venv=${S3ROUTER_VENV:-$root/tools/venv}
if [[ -x $venv/bin/python ]]; then python=$venv/bin/python; fi
[[ -d $prompts/$lang/voice ]] || (cd "$here/../../asr1" && local/fetch.sh "$lang" downloads)
"$here/../../sid1/local/fetch.sh" "$downloads" $package
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" "$here/prepare.py" --lang "$lang" --prompts "$prompts" \
    --downloads "$downloads" --out "$data/$lang"
