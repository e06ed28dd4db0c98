#!/usr/bin/env bash
# Audio SNIPS as the benchmark has prepared it -> data/{train,dev,test}. It is got by hand.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     the folder SNIPS (all.iob.snips.txt, train, valid, test with *.wav), or the one that holds it
  --downloads DIR  where SNIPS.zip may lie (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

page=https://github.com/s3prl/s3prl/blob/main/s3prl/downstream/docs/superb.md#sf-end-to-end-slot-filling
if [[ -z $corpus ]]; then
    [[ -d $downloads/SNIPS || -f $downloads/SNIPS.zip ]] || die "Audio SNIPS cannot be fetched by a script: the prepared
corpus lies on a drive that asks for a browser. See $page
Put SNIPS.zip into $PWD/$downloads and run again, or name the unpacked folder: ./run.sh --corpus DIR"
    unpack SNIPS.zip SNIPS
    corpus=$downloads/SNIPS
fi
prepare --corpus "$corpus" --out "$data"
