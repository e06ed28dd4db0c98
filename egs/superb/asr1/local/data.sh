#!/usr/bin/env bash
# Fetch LibriSpeech's train-clean-100, dev-clean and test-clean, and write data/{train,dev,test}.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     the folder LibriSpeech, or the one that holds it (default: it is fetched, about 7 GB)
  --downloads DIR  cache of what is fetched (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"
. "$root/egs/superb/librispeech.sh"
prepare --corpus "$corpus" --out "$data"
