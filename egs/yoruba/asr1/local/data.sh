#!/usr/bin/env bash
# Fetch the Yoruba speech project where --corpus names no folder, and write data/yo/{train_SUBSET,dev,test}.
# All of the training set is data/yo/train.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --subset 10min|all [options]
  --corpus DIR       the repository, or a folder in its layout (wav, flac or opus); nothing is fetched then
  --downloads DIR    cache of what is fetched (default: downloads)
  --revision R       commit of github.com/ogunlao/yoruba_speech_project to fetch (default: HEAD)
  --data DIR         where to write (default: data)
What is prepared already is prepared again when this stage is run; it takes seconds."

. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
lang=yo corpus='' downloads=downloads data=data subset='' revision=HEAD
local_options "lang subset corpus downloads data revision" "$@"
[[ $lang == yo ]] || die "this corpus is Yoruba (yo), not '$lang'"
[[ -n $corpus ]] || corpus=$(github_archive ogunlao/yoruba_speech_project "$revision")
prepare yoruba "$corpus" "$data/yo" --subset "$subset"
