#!/usr/bin/env bash
# Fetch the Mboshi-French parallel corpus where --corpus names no folder, and write data/mdw/{train_SUBSET,dev,test}.
# All of the training set is data/mdw/train.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --subset 10min|1h|all [options]
  --corpus DIR       the repository, or a folder in its layout (wav, flac or opus); nothing is fetched then
  --downloads DIR    cache of what is fetched (default: downloads)
  --revision R       commit of github.com/besacier/mboshi-french-parallel-corpus to fetch (default: HEAD)
  --data DIR         where to write (default: data)
What is prepared already is prepared again when this stage is run; it takes a minute."

. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
lang=mdw corpus='' downloads=downloads data=data subset='' revision=HEAD
local_options "lang subset corpus downloads data revision" "$@"
[[ $lang == mdw ]] || die "this corpus is Mboshi (mdw), not '$lang'"
[[ -n $corpus ]] || corpus=$(github_archive besacier/mboshi-french-parallel-corpus "$revision")
prepare mboshi "$corpus" "$data/mdw" --subset "$subset"
