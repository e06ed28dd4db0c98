#!/usr/bin/env bash
# Fetch what is missing of LibriSpeech and write data/en/{train_SUBSET,dev,dev_clean,dev_other,test_clean,test_other}.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --subset 10min|1h|10h|100h [options]
  --corpus DIR       folder with the unpacked LibriSpeech (dev-clean, …); nothing is fetched then
  --librilight DIR   the folder librispeech_finetuning (default: beside or in the corpus)
  --downloads DIR    cache of what is fetched (default: downloads)
  --openslr URL      mirror (default: https://www.openslr.org/resources)
  --librilight-url U of librispeech_finetuning.tgz
  --checksums FILE   of the archives (default: local/checksums.txt)
  --data DIR         where to write (default: data)
What is prepared already stays as it is. Delete data/en to prepare it again."

. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
lang=en corpus='' librilight='' downloads=downloads data=data subset=''
openslr=https://www.openslr.org/resources
librilight_url=https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz
checksums=$here/checksums.txt
local_options "lang subset corpus librilight downloads openslr librilight-url checksums data" "$@"
[[ $lang == en ]] || die "LibriSpeech is English, not '$lang'"
parts=(dev-clean dev-other test-clean test-other)
case $subset in
    10min | 1h | 10h) ;;
    100h) parts+=(train-clean-100) ;;
    *) die "--subset is 10min, 1h, 10h or 100h, not '$subset'" ;;
esac

if [[ -z $corpus ]]; then
    for part in "${parts[@]}"; do
        [[ ! -d $downloads/LibriSpeech/$part ]] || continue
        "$here/fetch.sh" "$openslr/12/$part.tar.gz" "$downloads" "$checksums"
        unpack "$part.tar.gz" "LibriSpeech/$part" "LibriSpeech/$part"
    done
    if [[ $subset != 100h && -z $librilight && ! -d $downloads/librispeech_finetuning ]]; then
        "$here/fetch.sh" "$librilight_url" "$downloads" "$checksums"
        unpack "${librilight_url##*/}" librispeech_finetuning librispeech_finetuning
    fi
    corpus=$downloads
fi

prepare librispeech "$corpus" "$data/en" --subset "$subset" ${librilight:+--librilight "$librilight"}
