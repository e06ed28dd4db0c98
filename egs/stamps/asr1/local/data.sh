#!/usr/bin/env bash
# Fetch and unpack Debian's package of Tux Paint's stamps where --corpus names no folder, and write data/LANG/{train,dev,test}.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --lang LANG [options]
  --lang LANG        be, bg, ca, da, el, es, fr, ro or ru
  --corpus DIR       the unpacked package tuxpaint-stamps-default; nothing is fetched then
  --downloads DIR    cache of what is fetched, 161 MB (default: downloads)
  --data DIR         where to write (default: data)
What is prepared already is prepared again when this stage is run; it takes seconds."

. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
lang='' corpus='' downloads=downloads data=data
local_options "lang corpus downloads data" "$@"
[[ -n $lang ]] || die "--lang is missing
${usage}"
if [[ -z $corpus ]]; then
    "${root}/egs/asterisk/sid1/local/fetch.sh" "$downloads" tuxpaint-stamps-default
    corpus=$downloads/tuxpaint-stamps-default
fi
prepare stamps "$corpus" "$data/$lang" --lang "$lang"
