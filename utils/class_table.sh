#!/usr/bin/env bash
# The table of a classification recipe: frozen, weight and router over sparsities, with seeds (called by run_table.sh in the
# recipe's folder). Learning rates are decided on the validation set, with the first seed. What is finished is skipped.
#
#   ./run_table.sh                                     everything, then RESULTS.md
#   ./run_table.sh --dry-run                           what it would run
#   ./run_table.sh --seeds 0 --max-updates 20 --output /tmp/RESULTS.md       a small cut
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/path.sh"
. "${S3ROUTER_ROOT}/utils/stage.sh"

seeds="0 1 2"              # of every row; learning rates are decided with the first
modes="frozen weight router"  # rows
sparsities="0.02 0.06 0.10 0.20 0.30 0.50"  # of the router rows
lrs="1e-2 3e-3 1e-3"       # learning rates of the head that are tried
weight_lrs="1e-3 3e-4 1e-4"  # of the weights (mode weight)
score_lrs="5e-3 1e-3 3e-4" # of the scores (mode router; at the sparsity below)
sweep_sparsity=0.10        # sparsity with which the learning rates of the scores are decided
upstream=tiny              # the upstream
max_updates=1000           # optimizer steps of every run
options=                   # further options of run.sh
output=RESULTS.md          # where the table goes
dry_run=false              # only say what would be run
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

read -ra more <<<"${options}"
name=${upstream}$(printf %s "${options}" | tr -cs 'A-Za-z0-9.' _) # of the experiments
first=${seeds%% *}

run() { # run TAG OPTIONS...
    local tag=$1
    shift
    set -- ./run.sh "${more[@]}" --upstream "${upstream}" --max-updates "${max_updates}" --tag "${tag}" "$@"
    if [ "${dry_run}" = true ]; then printf '%q ' "$@" && echo && return; fi
    "$@"
}

chosen() { # chosen TAG NAME: a learning rate of the selected run
    if [ "${dry_run}" = true ]; then echo "DECIDED" && return; fi
    python -c 'import json, sys; print(json.load(open(sys.argv[1]))["options"][sys.argv[2]])' \
        "exp/$1/selected/config.json" "$2"
}

tags=()
for mode in ${modes}; do
    opts=(--mode "${mode}") rates=() removed=('')
    case ${mode} in
        frozen) sweep=() ;;
        weight) sweep=(--upstream-lr "${weight_lrs}") ;;
        router) sweep=(--upstream-lr "${score_lrs}" --sparsity "${sweep_sparsity}") && read -ra removed <<<"${sparsities}" ;;
        *) die "--modes: unknown ${mode}; known are frozen weight router" ;;
    esac
    decided=table_${name}_${mode}_sweep
    run "${decided}" "${opts[@]}" --lr "${lrs}" ${sweep[@]+"${sweep[@]}"} --seed "${first}" --stop-stage 4
    rates=(--lr "$(chosen "${decided}" lr)")
    [ "${mode}" = frozen ] || rates+=(--upstream-lr "$(chosen "${decided}" upstream_lr)")
    for share in "${removed[@]}"; do
        for seed in ${seeds}; do
            tag=table_${name}_${mode}${share:+_s${share}}_seed${seed}
            run "${tag}" "${opts[@]}" "${rates[@]}" ${share:+--sparsity "${share}"} --seed "${seed}"
            tags+=("exp/${tag}")
        done
    done
done
[ "${dry_run}" = false ] || exit 0
[ ! -s local/results_head.md ] || head=(--head local/results_head.md)
python -m s3router superb-table "${tags[@]}" ${head[@]+"${head[@]}"} --output "${output}"
