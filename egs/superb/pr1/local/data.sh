#!/usr/bin/env bash
# Fetch LibriSpeech's train-clean-100, dev-clean and test-clean and the benchmark's lexicon, and write
# data/{train,dev,test}, whose texts are phonemes.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     the folder LibriSpeech, or the one that holds it (default: it is fetched, about 7 GB)
  --lexicon FILE   'WORD P1 P2 ...' a line (default: the two files that the benchmark uses are fetched)
  --downloads DIR  cache of what is fetched (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

site=https://huggingface.co/datasets/s3prl/g2p/raw/main/lexicon
lexicons=("$lexicon")
if [[ -z $lexicon ]]; then
    lexicons=()
    for name in librispeech-lexicon-200k-g2p.txt librispeech-lexicon-allothers-g2p.txt; do
        "$fetch" "$site/$name" "$downloads"
        lexicons+=("$downloads/$name")
    done
fi
. "$root/egs/superb/librispeech.sh"
prepare --corpus "$corpus" --out "$data" --lexicon "${lexicons[@]}"
