#!/usr/bin/env bash
# Speaker verification over the voices of Asterisk prompts: data/{train,dev,test} out of the sets of ../sid1.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh [--voices DIR] [--data DIR]
  --voices DIR   data folder of ../sid1 (default: ../sid1/data); made there where it is missing
  --data DIR     where to write (default: data)"
voices=../sid1/data data=data
. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
local_options "voices data" "$@"
[[ -s $voices/train/wav.scp ]] || (cd "$here/../../sid1" && local/data.sh)
prepare asterisk-trials "$voices" "$data"
