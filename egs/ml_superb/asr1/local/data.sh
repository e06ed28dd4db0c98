#!/usr/bin/env bash
# Write data/LANG/{train_SUBSET,dev,test} and data/all/{test,dialect} of ML-SUPERB 2.0.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --corpus DIR [options]
  --corpus DIR       the HuggingFace dataset (parquet, or saved to disk), or the folder that holds eighth_version
                     (default: downloads/ml_superb_hf, where it is there)
  --dialects DIR     the language varieties, beside an eighth_version
  --subset S         of training, 10min or 1h (default: 1h)
  --langs \"L1 L2\"    codes of the languages to prepare (default: all)
  --data DIR         where to write (default: data)
  --nj N             threads that read recordings (default: 2)"

. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
corpus='' dialects='' subset=1h langs='' data=data nj=2 downloads=downloads
local_options "corpus dialects subset langs data nj" "$@"
[[ -n ${corpus} || ! -d ${downloads}/ml_superb_hf ]] || corpus=${downloads}/ml_superb_hf
[[ -n ${corpus} ]] || die "the corpus is not here, and its 14.8 GB are not fetched unasked. Fetch it with
  hf download espnet/ml_superb_hf --repo-type dataset --local-dir ${PWD}/${downloads}/ml_superb_hf
or unpack the archive of huggingface.co/datasets/ftshijt/mlsuperb_8th; then name its folder with --corpus DIR"
options=(--subset "${subset}" --nj "${nj}")
[[ -z ${dialects} ]] || options+=(--dialects "${dialects}")
read -ra codes <<<"${langs}"
[[ ${#codes[@]} -eq 0 ]] || options+=(--langs "${codes[@]}")
prepare ml_superb "${corpus}" "${data}" "${options[@]}"
