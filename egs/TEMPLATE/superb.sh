# shellcheck shell=bash
# Train one task of SUPERB's kind (utterance classification; phonemes, letters or slots with CTC; verification;
# diarisation) on a frozen, finetuned or routed upstream, predict the test sets, and score.
#
# Sourced by the run.sh of a recipe, with the names of its sets and then the options that the user gave:
#   ./run.sh --method router --sparsity 0.1 --lr "1e-3 1e-4"
#   ./run.sh --skip-data-prep --train-set /my/train --valid-set /my/dev --test-sets "/my/test1 /my/test2"
# Stages: 1 corpus, 2 checks, 3 training (with several learning rates: one run each), 4 selection on the validation set,
# 5 prediction of the test sets, 6 table. What is finished is skipped, what was interrupted goes on. All files of a model
# are in exp/NAME. Paths are relative to the recipe's folder.
set -euo pipefail

S3ROUTER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "${S3ROUTER_ROOT}/utils/path.sh"
. "${S3ROUTER_ROOT}/utils/stage.sh"
. "${S3ROUTER_ROOT}/utils/sets.sh"

# what to run
stage=1               # first stage
stop_stage=6          # last stage
ngpu=0                # GPUs (0: CPU)
nproc=1               # processes that train together without GPUs
nj=2                  # threads that check audio
# data
task=cls              # the task: ks, ic, sid, er, pr, asr, sf, sv, sd, or cls for any corpus (for recipes)
corpus=               # folder in which the corpus lies already (default: local/data.sh fetches it)
skip_data_prep=false  # do not run local/data.sh: the sets below are there already
local_data_opts=      # further options of local/data.sh
lang=                 # language, where the corpus has several: the folder under data/ (for recipes)
fold=                 # cross-validation fold, where the task has some
train_set=train       # Kaldi directory with utt2label (pr, asr, sf: with text; sd: with rttm): a path, or a name under data/
valid_set=dev         # the same (sv: with trials); selects the best checkpoint and the learning rate
test_sets="test"      # the same as that, to predict; separated by spaces, which the path of a folder may have, too
classes=              # list of classes (default: those of the training labels)
# model
method=frozen         # what trains besides the head: frozen (nothing), router (masks), weight, ffn_weight, lora, dora, bitfit, houlsby, sparse_delta, bitdelta, magnitude (an untrained mask), scratch (random upstream), or what prunes: omp, imp, parp, parp_p, router_p
mode=                 # former name of --method
sparsity=             # share of the weights that are removed, from 0 up to 1 (router, magnitude, and what prunes; default: 0.1)
mask_conf=            # further fields of MaskConfig, such as granularity=2:4 or '{"granularity": "2:4"}' (the same methods)
upstream=tiny         # the upstream: tiny, or a name that s3router upstream list prints, or s3prl's
upstream_ckpt=        # its checkpoint, where the name does not imply one
lr=                   # learning rate of the head; several in quotes are all tried (default: the benchmark's)
upstream_lr=          # of what trains in the upstream; several in quotes are all tried
max_updates=          # optimizer steps (default: the benchmark's)
seed=0                # of initialisation, batches and dropout
crop=                 # seconds to which training utterances are cut at random (not with method frozen)
cache=true            # keep what the frozen feature extractor or upstream gives in dump/features
config=               # YAML file with options of s3router superb-train; those given here go before it
train_args=           # further options of s3router superb-train, such as "--batch-size 8"
tag=                  # name of the experiment's folder (default: made from the options)
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

main() {
    check_options
    name_everything
    need_writable data "${exp}"
    "${S3ROUTER_ROOT}/tools/setup.sh"
    [ "${stage}" -gt 2 ] || upstream_is_known
    run_stage 1 "corpus -> ${data}" prepare_corpus
    run_stage 2 "checks of the sets" check_sets
    run_stage 3 "training -> ${exp}" train
    run_stage 4 "selection on ${valid_set##*/} -> ${exp}/selected" select_best
    run_stage 5 "prediction -> ${exp}/predict_*" predict
    run_stage 6 "table -> ${exp}/RESULTS.md" report
}

check_options() {
    local value
    method=${mode:-${method}}
    option_is_one_of task ks ic sid er pr asr sf sv sd cls
    # shellcheck disable=SC2086 # words
    option_is_one_of method ${methods}
    option_is_word upstream
    [ -z "${lang}" ] || option_is_word lang
    [ -z "${tag}" ] || option_is_word tag
    [ -z "${max_updates}" ] || option_is_count max_updates
    [ -z "${crop}" ] || option_in_range crop 0.1 100000
    option_is_count nj
    option_is_count nproc
    option_is_folder corpus
    [ -z "${classes}" ] || need "${classes}" "you (or leave out --classes)"
    [ -z "${config}" ] || need "${config}" "you (or leave out --config)"
    option_is_checkpoint upstream_ckpt
    [ -z "${sparsity}" ] || option_in_range sparsity 0 1
    has_masks "${method}" || [ -z "${sparsity}${mask_conf}" ] ||
        die "--sparsity and --mask-conf are for methods with masks, and ${method} has none"
    [ "${method}" != frozen ] || [ -z "${upstream_lr}" ] || die "--upstream-lr: with --method frozen the upstream does not train"
    for value in ${lr} ${upstream_lr}; do
        [[ ${value} =~ ^[0-9]*\.?[0-9]+(e-?[0-9]+)?$ ]] || die "learning rate '${value}' is not a number such as 1e-3"
    done
    if [ "${task}" = er ]; then option_is_one_of fold 1 2 3 4 5; fi
    stages_in_order 6
}

name_everything() {
    local head up masks rates folder
    data=data${lang:+/${lang}}${fold:+/fold${fold}}
    mapfile -t sets < <(each_set "${test_sets}")
    sets=("$(locate "${train_set}")" "$(locate "${valid_set}")" ${sets[@]+"${sets[@]}"})
    name_sets
    [ ${#sets[@]} -gt 2 ] || die "nothing to predict: name test sets"
    masks=${sparsity:+_s${sparsity}}${mask_conf:+_m$(printf %s "${mask_conf}" | sha256sum | cut -c -6)}
    exp=exp/${tag:-${lang:+${lang}_}${upstream}_${method}${masks}${fold:+_fold${fold}}_seed${seed}}
    for head in ${lr:-default}; do
        for up in ${upstream_lr:-default}; do
            rates='' folder=${exp}/lr_${head}
            [ "${head}" = default ] || rates="--lr ${head}"
            [ "${up}" = default ] || rates+=" --upstream-lr ${up}" folder+=_${up}
            runs+=("${rates}") folders+=("${folder}")
        done
    done
}

prepare_corpus() {
    local opts
    corpus_options || return 0
    [ -z "${fold}" ] || opts+=(--fold "${fold}")
    [ -z "${lang}" ] || opts+=(--lang "${lang}")
    one_at_a_time "${data}/.preparing.lock" "prepares data here"
    run_once "${data}/prepare.log" --show --inputs local/data.sh "${S3ROUTER_ROOT}/s3router/corpora" --outputs "${sets[@]/%//wav.scp}" -- \
        local/data.sh ${opts[@]+"${opts[@]}"}
    exec 8>&-
}

train() { # all is checked before the first update, the test sets, too
    local i more opts rates command=(python)
    need_sets
    # shellcheck disable=SC2162 # a blank inside of a value is written as "\ "
    read -a more <<<"${train_args}"
    [ "${ngpu}" -le 1 ] && [ "${nproc}" -le 1 ] ||
        command=(torchrun --standalone --nproc-per-node "$((ngpu > 0 ? ngpu : nproc))")
    opts=(--task "${task}" --method "${method}" --upstream "${upstream}" --seed "${seed}"
        --train-dir "${sets[0]}" --valid-dir "${sets[1]}" --test-dirs "${sets[@]:2}")
    [ -z "${config}" ] || opts+=(--config "${config}")
    [ -z "${sparsity}" ] || opts+=(--sparsity "${sparsity}")
    [ -z "${mask_conf}" ] || opts+=(--mask-conf "${mask_conf}")
    [ -z "${classes}" ] || opts+=(--classes "${classes}")
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream-ckpt "${upstream_ckpt}")
    [ -z "${max_updates}" ] || opts+=(--max-updates "${max_updates}")
    [ "${method}" = frozen ] || [ -z "${crop}" ] || { opts+=(--max-seconds "${crop}") && cache=false; }
    [ "${cache}" = false ] || [ "${method}" = scratch ] || opts+=(--feature-cache dump/features)
    [ "${ngpu}" -eq 0 ] || opts+=(--device cuda)
    one_at_a_time "${exp}/.lock" "trains ${exp}"
    for i in "${!runs[@]}"; do
        read -ra rates <<<"${runs[i]}"
        log "  run $((i + 1)) of ${#runs[@]}: ${folders[i]}"
        run_once "${folders[i]}/console.log" --show --outputs "${folders[i]}/best.pth" "${folders[i]}/best.json" --inputs \
            "${sets[0]}/wav.scp" "${sets[0]}/${labels}" "${sets[1]}/wav.scp" "${sets[1]}/${tested}" \
            ${config:+"${config}"} -- "${command[@]}" -m s3router superb-train "${opts[@]}" ${rates[@]+"${rates[@]}"} \
            ${more[@]+"${more[@]}"} --output-dir "${folders[i]}"
    done
    exec 8>&-
}

select_best() {
    local folder
    for folder in "${folders[@]}"; do need "${folder}/best.json" "this command with --stage 3"; done
    python -m s3router superb-select "${folders[@]}" --output "${exp}/selected" || die "no selection: see above"
}

predict() {
    local i opts=()
    need "${exp}/selected" "this command with --stage 4"
    [ "${ngpu}" -eq 0 ] || opts+=(--device cuda)
    [ "${task}" != er ] || opts+=(--fold "${fold}")
    for ((i = 2; i < ${#sets[@]}; i++)); do
        run_once "${exp}/predict_${names[i]}/log" --show --inputs "${exp}/selected/best.pth" "${sets[i]}/wav.scp" \
            "${sets[i]}/${tested}" --outputs "${exp}/predict_${names[i]}/result.json" -- \
            python -m s3router superb-predict --exp-dir "${exp}" --data-dir "${sets[i]}" \
            --output-dir "${exp}/predict_${names[i]}" ${opts[@]+"${opts[@]}"}
    done
}

report() {
    local name
    for name in "${names[@]:2}"; do need "${exp}/predict_${name}/result.json" "this command with --stage 5"; done
    python -m s3router superb-table "${exp}" --output "${exp}/RESULTS.md"
}

need_sets() {
    local set how="you (or name another with --train-set, --valid-set or --test-sets)"
    [ "${skip_data_prep}" = true ] || how="this command with --stage 1"
    for set in "${sets[@]}"; do
        need "${set}/wav.scp" "${how}"
    done
    need "${sets[0]}/${labels}" "${how}"
    for set in "${sets[@]:1}"; do need "${set}/${tested}" "${how}"; done
}

names=() runs=() folders=() labels=utt2label
case ${task} in pr | asr | sf) labels=text ;; sd) labels=rttm ;; esac
tested=${labels} # what validation and test sets are compared with
[ "${task}" != sv ] || tested=trials
main
