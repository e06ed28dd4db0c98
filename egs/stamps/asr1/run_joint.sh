#!/usr/bin/env bash
# One model of eight languages with all weights finetuned, and masks for each language on it: what they add, and whether they
# beat masks on the published backbone. Ends with RESULTS_joint.md.
#
#   ./run_joint.sh                                   all of it, 1 to 2 hours on two cores; killed and called again it goes on
#   ./run_joint.sh --langs "el ca" --max-updates 4   a trial, under exp/trial
#   ./run_joint.sh --small true                      the same on a backbone that has lost half of its feed-forward units: RESULTS_joint_small.md
#   ./run_joint.sh --stage 3                         after changes of conf/on_joint.yaml
#
# Stages: 1 the joint model (conf/joint.yaml, joint_small.yaml), 2 its encoder as a plain model, the backbone, 3 masks, weights and heads
# on it (conf/on_joint.yaml; masks and heads: on_joint_small.yaml), also for Danish, which it has not heard, 4 the joint model itself on each language, 5 the page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

langs="be bg ca el es fr ro ru" # the languages
small=false     # true: the joint model is pruned by whole units, and its encoder shrunk (docs/pruning.md)
max_updates=    # a trial with so many updates of every training, kept apart under exp/trial
jobs=2          # training runs at a time, one thread each
stage=1         # first stage
stop_stage=5    # last stage
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

main() {
    check_options
    name_everything
    "${S3ROUTER_ROOT}/tools/setup.sh"
    run_stage 1 "joint model -> ${joint}" train_joint
    run_stage 2 "its encoder as a plain model -> ${backbone}" make_backbone
    run_stage 3 "masks, weights and heads on it -> ${results}" train_on_joint
    run_stage 4 "the joint model by language -> ${results}/joint_model.md" decode_joint
    run_stage 5 "the page -> ${page}" write_page
}

check_options() {
    local each
    for each in ${langs}; do
        case ${each} in be | bg | ca | el | es | fr | ro | ru) ;; *) die "--langs: '${each}' is not known; the known ones are: be bg ca el es fr ro ru" ;; esac
    done
    [ "$(wc -w <<<"${langs}")" -gt 1 ] || die "--langs '${langs}': a joint model needs two languages at least"
    option_is_one_of small true false
    [ -z "${max_updates}" ] || option_is_count max_updates
    option_is_count jobs
    stages_in_order 5
}

name_everything() {
    local values=${langs// /, } name=joint limit=() trained=weight removed=0.10 methods="router, weight, frozen" work
    [ "${small}" = false ] || name=joint_small trained=router_p removed=0.50 methods="router, frozen"
    work=exp/${name} results=results/${name} page=RESULTS_${name}.md to_plain=bake
    [ "${small}" = false ] || to_plain=shrink
    [ -z "${max_updates}" ] || { work=exp/trial/${name} limit=(--max-updates "${max_updates}") results=exp/trial/results page=exp/trial/RESULTS.md; }
    joint=${work}/models/joint_${trained} backbone=${work}/backbone
    joint_grid=("conf/${name}.yaml" "${limit[@]}" --set "routes={axis: lang, values: [${values}], at: {subset: 5min}, sparsities: [${removed}], single: [],
        joint: [${trained}], joint_updates: all, work: ${work}, command: ./run_joint.sh}")
    on_joint_grid=("conf/on_${name}.yaml" "${limit[@]}" --set "upstream_ckpt=${backbone}" --set "cells=[{lang: [${values}], subset: 5min,
        methods: [${methods}], sparsities: [0.10]}, {lang: da, subset: all, methods: [${methods}], sparsities: [0.10]}]")
}

train_joint() { python -m s3router experiment run "${joint_grid[@]}" --jobs "${jobs}" --no-report; }

make_backbone() {
    [ ! "${joint}/result.json" -nt "${backbone}/config.json" ] || rm -rf "${backbone}" # of an earlier joint model
    run_once "${backbone}.log" --inputs "${joint}/result.json" --outputs "${backbone}/config.json" -- \
        python -m s3router "${to_plain}" "${joint}" -o "${backbone}"
}

train_on_joint() { python -m s3router experiment run "${on_joint_grid[@]}" --jobs "${jobs}" --no-report; }

decode_joint() {
    local lang sets=()
    for lang in ${langs}; do
        run_once "${backbone%/*}/decode_${lang}.log" --inputs "${joint}/result.json" "dump/${lang}/test" --outputs "${joint}/decode_${lang}/result.json" -- \
            python -m s3router decode --exp-dir "${joint}" --data-dir "dump/${lang}/test" --output-dir "${joint}/decode_${lang}"
        sets+=("${lang}")
    done
    python -m s3router results "${joint}" --sets "${sets[@]}" --output "${results}/joint_model.md"
}

write_page() {
    python -m s3router experiment plot "${on_joint_grid[@]}"
    python -m s3router experiment table "${on_joint_grid[@]}"
}

main
