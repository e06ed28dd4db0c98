#!/usr/bin/env bash
# Real speech in a layout of ML-SUPERB 2.0: the names of drawings that egs/stamps/asr1 has, of its nine languages.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/stamps.sh [options]
  --layout L         eighth_version or huggingface (default: eighth_version)
  --langs \"L1 L2\"    of bel bul cat dan ell fra ron rus spa (default: all); Danish is one of the benchmark's reserved languages
  --stamps DIR       the unpacked package tuxpaint-stamps-default; nothing is fetched then
  --downloads DIR    cache of what is fetched, 161 MB, and of the recordings (default: downloads)
  --corpus DIR       where to write (default: downloads/stamps_LAYOUT)"

. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
declare -A names=([bel]=be [bul]=bg [cat]=ca [dan]=da [ell]=el [fra]=fr [ron]=ro [rus]=ru [spa]=es)
layout=eighth_version langs="bel bul cat dan ell fra ron rus spa" stamps='' downloads=downloads corpus=''
local_options "layout langs stamps downloads corpus" "$@"
case ${layout} in eighth_version | huggingface) ;; *) die "--layout is eighth_version or huggingface, not ${layout}" ;; esac
corpus=${corpus:-${downloads}/stamps_${layout}}
[[ ! -e ${corpus} ]] || die "${corpus} is there already; remove it first, or name another --corpus"
for lang in ${langs}; do
    [[ -n ${names[${lang}]-} ]] || die "--langs: ${lang} is none of bel bul cat dan ell fra ron rus spa"
done
languages=()
for lang in ${langs}; do
    "${root}/egs/stamps/asr1/local/data.sh" --lang "${names[${lang}]}" --downloads "${downloads}" \
        --data "${downloads}/stamps" ${stamps:+--corpus "${stamps}"}
    languages+=("${lang}=${downloads}/stamps/${names[${lang}]}")
done
s3router ml-superb-write "${corpus}" --layout "${layout}" --source stamps "${languages[@]}"
