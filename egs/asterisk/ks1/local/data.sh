#!/usr/bin/env bash
# Keywords from digit and letter prompts, learnt from one voice and recognised in another: data/LANG/{train,dev,test}.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --lang es|fr|it [options]
  --lang L         language (each has two voices)
  --prompts DIR    downloads folder of ../asr1 (default: ../asr1/downloads); a language that it lacks is fetched there
  --downloads DIR  cache of the second voices (default: ../sid1/downloads)
  --data DIR       where to write (default: data)"
lang='' prompts=../asr1/downloads downloads=../sid1/downloads data=data
. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
local_options "lang prompts downloads data" "$@"
case $lang in
    es) package=asterisk-prompt-es-co ;;
    fr) package=asterisk-prompt-fr-armelle ;;
    it) package=asterisk-prompt-it-menardi-wav ;;
    *) die "--lang is es, fr or it, not '$lang': of the others Debian has one voice only" ;;
esac
[[ -d $prompts/$lang/voice ]] || (cd "$here/../../asr1" && local/fetch.sh "$lang" downloads)
"$here/../../sid1/local/fetch.sh" "$downloads" "$package"
prepare asterisk-keywords "$prompts" "$data/$lang" --lang "$lang" --voices "$downloads"
