#!/usr/bin/env bash
# The whole comparison: masks for each language beside one joint model with frozen weights and one with finetuned ones. Learning rates are
# swept on dev, and so is the sparsity; three seeds. Ends with exp/RESULTS.md. Options go to ./run.sh, which goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && . ./path.sh
figures=()
for seed in 0 1 2; do
    ./run.sh --sparsity "0.06 0.10 0.14" --sweep true "$@" --seed "${seed}" --tag "table_seed${seed}"
    for system in masks joint_frozen joint_weight; do
        file=$(find exp -path "*table_seed${seed}*/${system}/figures.json" -print -quit)
        [ -z "${file}" ] || figures+=("${system}_seed${seed}=${file}")
    done
done
exec python -m s3router ml-superb-score --figures "${figures[@]}" --output exp/RESULTS.md
