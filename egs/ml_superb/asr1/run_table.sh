#!/usr/bin/env bash
# The whole comparison: masks for each language beside one joint model with frozen weights and one with finetuned ones. Learning rates are
# swept on dev, and so is the sparsity; three seeds. Ends with exp/RESULTS.md (of a trial: exp/trial/RESULTS.md). Options go to ./run.sh, which goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && . ./path.sh
figures=() trial=
[[ " $* " =~ \ --max[-_]updates[\ =]([0-9]+)\  ]] && trial=${BASH_REMATCH[1]} # run.sh keeps trials apart
for seed in 0 1 2; do
    ./run.sh --sparsity "0.06 0.10 0.14" --sweep true "$@" --seed "${seed}" --tag "table_seed${seed}"
    for system in masks joint_frozen joint_weight; do
        file=exp/${trial:+trial/}table_seed${seed}${trial:+_${trial}}/${system}/figures.json
        [ ! -e "${file}" ] || figures+=("${system}_seed${seed}=${file}")
    done
done
exec python -m s3router ml-superb-score --figures "${figures[@]}" --output "exp/${trial:+trial/}RESULTS.md"
