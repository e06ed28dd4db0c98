#!/usr/bin/env bash
# Fetch VoxCeleb1 and write data/{train,dev,test} by its official split for identification.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     folder with iden_split.txt and */wav/id1XXXX/…/*.wav (dev/wav, test/wav; default: it is fetched)
  --downloads DIR  cache of what is fetched (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

if [[ -z $corpus ]]; then
    . "$(dirname "${BASH_SOURCE[0]}")/../../voxceleb.sh"
fi
prepare --corpus "$corpus" --out "$data"
