#!/usr/bin/env bash
# Fetch QUESST 2014 and write data/{documents,dev,test}: its English part, with the ground truth.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     folder quesst14Database, or the one that holds it (default: it is fetched)
  --downloads DIR  cache of what is fetched (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

if [[ -z $corpus ]]; then
    "$fetch" https://speech.fit.vutbr.cz/files/quesst14Database.tgz "$downloads"
    unpack quesst14Database.tgz quesst14
    corpus=$downloads/quesst14
fi
prepare --corpus "$corpus" --out "$data"
