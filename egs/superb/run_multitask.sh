#!/usr/bin/env bash
# Several tasks on one backbone: a mask for each, packed, all of them evaluated through one resident upstream, and
# compared with one finetuned model per task. Ends with a table: scores, parameters, bytes.
#
#   ./run_multitask.sh --upstream wav2vec2_base --corpora "ic1=/data/fluent er1=/data/IEMOCAP_full_release"
#   ./run_multitask.sh --recipes "ks1 ../asterisk/lid1"          other recipes of utterance classification
#   ./run_multitask.sh --recipes "ks1 ic1" --max-updates 2 --tag trial      does everything work?
#
# Stages: 1 a mask for each task, 2 one finetuned model per task, 3 packs, 4 all tasks through one upstream, 5 the table.
# The models are runs of the recipes' own run.sh (exp/TAG_router and exp/TAG_weight in each). Killed and called again it
# goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ../../utils/path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

recipes="ks1 ic1 sid1 er1" # folders of recipes of utterance classification; a task is called by its recipe, without 1
corpora=              # where their corpora lie: "ks1=DIR ic1=DIR" (default: each recipe fetches its own)
upstream=tiny         # the backbone that they share
upstream_ckpt=        # its checkpoint, where the name does not imply one
sparsity=0.10         # share of the weights that each mask removes
lr=                   # learning rate of the heads; several in quotes are all tried (default: the benchmark's)
mask_lr=              # of the masks' scores, the same
weight_lr=            # of the finetuned weights, the same
max_updates=          # optimizer steps (default: the benchmark's)
seed=0                # of initialisation, batches and dropout
compare=true          # train the finetuned models, too
run_args=             # further options of each run.sh, such as "--ngpu 1"
train_args=           # further options of s3router superb-train, such as "--batch-size 8"
tag=                  # name of the experiments (default: made from the options)
stage=1               # first stage
stop_stage=5          # last stage
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

main() {
    check_options
    "${S3ROUTER_ROOT}/tools/setup.sh"
    run_stage 1 "a mask for each task: ${recipes}" train_masks
    run_stage 2 "one finetuned model per task" train_weights
    run_stage 3 "packs -> ${work}/packs" make_packs
    run_stage 4 "all tasks through one upstream -> ${work}/routed" route
    run_stage 5 "table -> ${work}/RESULTS.md" report
}

check_options() {
    local recipe pair name
    [ -n "${recipes// /}" ] || die "--recipes is empty: name some, such as \"ks1 ic1\""
    for recipe in ${recipes}; do
        [ -x "${recipe}/run.sh" ] || die "--recipes: there is no ${recipe}/run.sh"
        grep -q 'superb.sh --task \(ks\|ic\|sid\|er\|cls\) ' "${recipe}/run.sh" ||
            die "--recipes: ${recipe} is no recipe of utterance classification, and packs hold heads of those only"
        name=$(basename "${recipe}")
        case " ${names[*]-} " in *" ${name%1} "*) die "--recipes: two are called ${name}" ;; esac
        names+=("${name%1}")
        folders+=("${recipe}")
    done
    for pair in ${corpora}; do
        case " ${recipes} " in *" ${pair%%=*} "*) ;; *) die "--corpora: ${pair%%=*} is not among --recipes '${recipes}'" ;; esac
        [ -d "${pair#*=}" ] || die "--corpora ${pair}: no such folder"
    done
    option_is_word upstream
    if [ -e "${upstream_ckpt}" ]; then
        upstream_ckpt=$(realpath "${upstream_ckpt}")
    elif [[ ${upstream_ckpt} == [./]* ]]; then
        die "--upstream-ckpt ${upstream_ckpt}: no such file"
    fi
    option_in_range sparsity 0 1
    option_is_one_of compare true false
    [ -z "${tag}" ] || option_is_word tag
    [ -z "${max_updates}" ] || option_is_count max_updates
    stages_in_order 5
    tag=${tag:-multitask_${upstream}_s${sparsity}${max_updates:+_u${max_updates}}_seed${seed}}
    work=exp/${tag}
}

run_recipe() { # run_recipe FOLDER METHOD OPTIONS...: the recipe's own run.sh
    local folder=$1 method=$2 opts pair
    read -ra opts <<<"${run_args}"
    opts+=(--method "${method}" --upstream "${upstream}" --seed "${seed}" --tag "${tag}_${method}" "${@:3}")
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream-ckpt "${upstream_ckpt}")
    [ -z "${max_updates}" ] || opts+=(--max-updates "${max_updates}")
    [ -z "${lr}" ] || opts+=(--lr "${lr}")
    [ -z "${train_args}" ] || opts+=(--train-args "${train_args}")
    for pair in ${corpora}; do
        [ "${pair%%=*}" != "${folder}" ] || opts+=(--corpus "$(realpath "${pair#*=}")")
    done
    log "  ${folder}/run.sh ${opts[*]}"
    "${folder}/run.sh" "${opts[@]}" || die "${folder}/run.sh has failed: see above. The same command goes on"
}

train_masks() {
    local folder
    for folder in "${folders[@]}"; do
        run_recipe "${folder}" router --sparsity "${sparsity}" ${mask_lr:+--upstream-lr "${mask_lr}"}
    done
}

train_weights() {
    local folder
    if [ "${compare}" = false ]; then
        log "  left out (--compare false)"
        return
    fi
    for folder in "${folders[@]}"; do run_recipe "${folder}" weight ${weight_lr:+--upstream-lr "${weight_lr}"}; done
}

make_packs() {
    local i best
    for i in "${!folders[@]}"; do
        best=${folders[i]}/exp/${tag}_router/selected
        need "${best}/best.pth" "this command with --stage 1"
        run_once "${work}/packs/${names[i]}.log" --inputs "${best}/best.pth" --outputs "${work}/packs/${names[i]}.pack" -- \
            python -m s3router pack "${best}" -o "${work}/packs/${names[i]}.pack" --route "${names[i]}"
    done
}

route() {
    local i packs=() sets=() results=() inputs=() opts=(--upstream "${upstream}")
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream-ckpt "${upstream_ckpt}")
    for i in "${!folders[@]}"; do
        packs+=("${work}/packs/${names[i]}.pack")
        need "${packs[i]}" "this command with --stage 3"
        set=$(python -m s3router experiment tasks --test-set "${folders[i]}" --tag "${tag}") || die "see above"
        sets+=("${names[i]}=${set}")
        inputs+=("${set}/wav.scp" "${set}/utt2label")
        results+=("${work}/routed/predict_${names[i]}/result.json")
    done
    run_once "${work}/routed/log" --show --inputs "${packs[@]}" "${inputs[@]}" --outputs "${results[@]}" -- \
        python -m s3router classify --routes "${packs[@]}" --score "${sets[@]}" --output-dir "${work}/routed" "${opts[@]}"
}

report() {
    local name
    for name in "${names[@]}"; do need "${work}/routed/predict_${name}/result.json" "this command with --stage 4"; done
    python -m s3router experiment tasks "${folders[@]}" --tag "${tag}" --work "${work}" --output "${work}/RESULTS.md" ||
        die "see above"
}

names=() folders=()
main
