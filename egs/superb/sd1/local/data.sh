#!/usr/bin/env bash
# LibriMix for diarisation -> data/{train,dev,test}. The mixtures are made out of LibriSpeech and WHAM! noises.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     folder with Libri2Mix/wav16k/max (metadata/*.csv, train-100, dev, test) and
                   metadata/LibriSpeech/*.rttm, as s3prl's LibriMix makes and holds them
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

[[ -n $corpus ]] || die "LibriMix cannot be fetched: it is mixed from LibriSpeech and the WHAM! noises.
Clone https://github.com/s3prl/LibriMix, run its generate_librimix_sd.sh, put the folder Libri2Mix into the clone (beside
metadata/LibriSpeech) and name the clone: ./run.sh --corpus DIR"
prepare --corpus "$corpus" --out "$data"
