#!/usr/bin/env bash
# Speaker identification over all real voices of Asterisk prompts that Debian carries: data/{train,dev,test}.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh [options]
  --prompts DIR    downloads folder of ../asr1 (default: ../asr1/downloads); languages that it lacks are fetched there
  --downloads DIR  cache of the further voices (default: downloads)
  --data DIR       where to write (default: data)
  --limit N        at most so many prompts of each voice, to try it out"
prompts=../asr1/downloads downloads=downloads data=data limit=''
. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
local_options "prompts downloads data limit" "$@"
for lang in en es fr it ru; do
    [[ -d $prompts/$lang/voice ]] || (cd "$here/../../asr1" && local/fetch.sh $lang downloads)
done
"$here/fetch.sh" "$downloads" asterisk-prompt-es-co asterisk-prompt-fr-armelle asterisk-prompt-it-menardi-wav
prepare asterisk-speakers "$prompts" "$data" --voices "$downloads" ${limit:+--limit "$limit"}
