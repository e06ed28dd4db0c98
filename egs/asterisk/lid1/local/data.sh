#!/usr/bin/env bash
# Language identification over the Asterisk voice prompts: data/{train,dev,test} out of the sets of ../asr1.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh [--prompts DIR] [--data DIR]
  --prompts DIR  data folder of ../asr1 (default: ../asr1/data); languages that it lacks are fetched and prepared there
  --data DIR     where to write (default: data)"
prompts=../asr1/data data=data
. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
local_options "prompts data" "$@"
for lang in en es fr it ru; do
    [[ -s $prompts/$lang/train/wav.scp ]] || (cd "$here/../../asr1" && local/data.sh --lang $lang)
done
prepare asterisk-languages "$prompts" "$data"
