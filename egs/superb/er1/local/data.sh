#!/usr/bin/env bash
# IEMOCAP -> data/foldK/{train,dev,test}: session K is the test set. The corpus is given out by its makers on request.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh --fold K [options]
  --fold K         1 to 5
  --corpus DIR     IEMOCAP_full_release, or the folder that holds it (Session1 … Session5)
  --lists DIR      SUPERB's lists of the folds, Session1/{train,test}_meta_data.json … (default: made by local/prepare.py)
  --downloads DIR  where IEMOCAP_full_release may lie (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

[[ $fold == [1-5] ]] || die "--fold is 1 to 5, not '$fold'"
if [[ -z $corpus ]]; then
    [[ -d $downloads/IEMOCAP_full_release ]] || die "IEMOCAP cannot be fetched by a script: its makers give it out on
request, at https://sail.usc.edu/iemocap/. Put the folder IEMOCAP_full_release into $PWD/$downloads and run again, or
name it: ./run.sh --corpus DIR"
    corpus=$downloads
fi
data=$data/fold$fold
prepare --corpus "$corpus" --out "$data" --fold "$fold" ${lists:+--lists "$lists"}
