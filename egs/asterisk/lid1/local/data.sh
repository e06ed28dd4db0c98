#!/usr/bin/env bash
# Language identification over the Asterisk voice prompts: data/{train,dev,test} out of the sets of ../asr1.
set -euo pipefail

usage="usage: local/data.sh [--prompts DIR] [--data DIR]
  --prompts DIR  data folder of ../asr1 (default: ../asr1/data); languages that it lacks are fetched and prepared there
  --data DIR     where to write (default: data)"
prompts=../asr1/data data=data
while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) echo "$usage" && exit 0 ;;
        --prompts | --data)
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
    [[ -s $prompts/$lang/train/wav.scp ]] || (cd "$here/../../asr1" && local/data.sh --lang $lang)
done
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" "$here/prepare.py" --prompts "$prompts" --out "$data"
