# shellcheck shell=bash
# Train one ASR model on a frozen or finetuned speech upstream, decode, and score: from a corpus to a table.
#
# Sourced by the run.sh of a recipe, with the names of its sets and then the options that the user gave:
#   ./run.sh --lang fr --sparsity 0.06 --stage 3 --stop-stage 5
#   ./run.sh --skip-data-prep --train-set /my/train --valid-set /my/dev --test-sets "/my/test1 /my/test2"
# Stages: 1 corpus, 2 subsets, checks and token list, 3 feature cache, 4 training, 5 decoding, 6 table. What is
# finished is skipped, what was interrupted goes on. All of one model lies in exp/NAME. Paths are relative to the
# recipe's folder.
set -euo pipefail

S3ROUTER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
. "${S3ROUTER_ROOT}/utils/path.sh"
. "${S3ROUTER_ROOT}/utils/stage.sh"
. "${S3ROUTER_ROOT}/utils/sets.sh"

# what to run
stage=1               # first stage
stop_stage=6          # last stage
ngpu=0                # GPUs on each machine (0: CPU)
num_nodes=1           # machines that train together (docs/scale.md)
nj=2                  # threads that read and convert audio
# data
lang=en               # language: the folder under data/
known_langs=          # languages that the recipe's corpus has (for recipes)
corpus=               # folder in which the corpus lies already (default: local/data.sh fetches it)
subset=all            # labelled part of the training set, one of the known ones
known_subsets="2min 5min all"  # the parts that there are (for recipes)
own_subsets=false     # local/data.sh makes the part that --subset names (for recipes)
skip_data_prep=false  # do not run local/data.sh: the sets below are there already
local_data_opts=      # further options of local/data.sh
train_set=train       # Kaldi directory: a path, or a name under data/LANG
valid_set=dev         # Kaldi directory that selects the best checkpoint
test_sets="test"      # Kaldi directories to decode besides it, separated by spaces; a folder may have spaces in its path
token_type=char       # what the model writes: char, bpe, or phn (phonemes, where local/data.sh makes them)
bpe_size=200          # units of --token-type bpe
tokens=               # a ready token list (default: made from the token sets)
token_sets=           # sets whose texts make the token list (default: the training and the validation set)
max_seconds=40.0      # longer training utterances are left out, with a report
# model
method=router         # what trains: router (masks), weight, frozen (head only) or scratch (random upstream)
sparsity=             # share of the weights that the masks remove, from 0 up to 1 (method router; default: as conf or the masks have it)
sparsity_of=          # other defaults of --sparsity, as "xls_r_300m=0.06 tiny=0.2" (for recipes)
upstream=tiny         # tiny, a public one (s3router upstream list), auto (the checkpoint tells), or any name of s3prl
upstream_ckpt=        # its checkpoint, where the name does not imply one
seed=0                # of initialisation, batches and dropout
config=               # training configuration (default: from conf/presets.yaml, or else conf/train_METHOD.yaml)
max_updates=          # optimizer steps (default: as the configuration says)
train_args=           # further options of s3router train, such as "--score_lr 1e-2"
tag=                  # name of the experiment's folder (default: made from the options)
# decoding
decode_valid=true     # decode the validation set, too
beam_size=1           # 1: greedy; above: beam search (needs tools/setup.sh --with-lm)
lm=                   # n-gram language model for the beam search, ARPA
decode_args=          # further options of s3router decode
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

main() {
    check_options
    name_everything
    need_writable data dump "${exp}"
    "${S3ROUTER_ROOT}/tools/setup.sh"
    [ "${stage}" -gt 3 ] || upstream_is_known
    check_decoding
    [ "${stage}" -gt 3 ] || one_at_a_time data/.preparing.lock "prepares data here"
    run_stage 1 "corpus -> ${data}" prepare_corpus
    run_stage 2 "subsets, checks and token list -> ${dump}" prepare_sets
    check_training
    run_stage 3 "feature cache -> ${cache}" fill_cache
    exec 8>&- # runs that have waited go on
    run_stage 4 "training -> ${exp}" train
    run_stage 5 "decoding -> ${exp}/decode_*" decode
    run_stage 6 "table -> ${exp}/RESULTS.md" report
}

# Everything that can be refused is refused here, before anything has been made.
check_options() {
    local known subsets
    read -ra known <<<"${known_langs}"
    read -ra subsets <<<"${known_subsets}"
    option_is_one_of method router weight frozen scratch
    option_is_one_of subset "${subsets[@]}"
    option_is_one_of token_type char bpe phn
    option_is_count bpe_size
    [ ${#known[@]} -eq 0 ] || [ "${skip_data_prep}" = true ] || option_is_one_of lang "${known[@]}"
    option_is_folder corpus
    [ -z "${tokens}" ] || [ "${token_type}" != bpe ] || die "--tokens is for char and phn: bpe trains its own model"
    [ -z "${tokens}" ] || need "${tokens}" "you (or leave out --tokens)"
    option_is_word lang
    option_is_word upstream
    [ -z "${tag}" ] || option_is_word tag
    [ -z "${max_updates}" ] || option_is_count max_updates
    option_is_count nj
    option_is_count num_nodes
    option_is_count beam_size
    option_in_range max_seconds 0.1 100000
    [ -z "${sparsity}" ] || [ "${method}" = router ] ||
        die "--sparsity is for --method router: with ${method} there are no masks"
    [ -z "${sparsity}" ] || option_in_range sparsity 0 1
    stages_in_order
    [ -z "${lm}" ] || [ "${beam_size}" -gt 1 ] || die "--lm needs a beam: add --beam-size 50"
    [ "${beam_size}" -le 1 ] || [ "${token_type}" = char ] ||
        die "--beam-size ${beam_size}: the beam search spells words, with --token-type char; decode ${token_type} greedily, without it"
    [ -z "${lm}" ] || need "${lm}" "you (or leave out --lm)"
    option_is_checkpoint upstream_ckpt
    if [ -z "${config}" ] && [ -s conf/presets.yaml ]; then
        presets=conf/presets.yaml
    else
        config=${config:-conf/train_${method}.yaml}
        need "${config}" "you (or name another with --config)"
    fi
}

# What the masks remove: --sparsity is passed on to training where it was given, here or for this upstream. ${removed} is
# what the experiment's name shows.
choose_sparsity() {
    local pair words=${train_args} n_m='granularity[=:][[:space:]]*["'\'']?([0-9]+):([0-9]+)'
    local other='(^|--|[[:space:]{,])sparsity[=:[:space:]]+([0-9.]+)'
    removed=${sparsity}
    [ "${method}" = router ] && [ -z "${removed}" ] || return 0
    [ -n "${presets-}" ] || words+=" $(sed 's/#.*//' "${config}")"
    if [[ ${words} =~ ${n_m} ]]; then
        removed=${BASH_REMATCH[1]}of${BASH_REMATCH[2]}
    elif [[ ${words} =~ ${other} ]]; then
        removed=${BASH_REMATCH[2]}
    else
        for pair in ${sparsity_of}; do
            [ "${pair%%=*}" != "${upstream}" ] || removed=${pair#*=} sparsity=${pair#*=}
        done
        removed=${removed:-$(printf %.2f "$(sed -n 's/^DEFAULT_SPARSITY = //p' "${S3ROUTER_ROOT}/s3router/masks/config.py")")}
    fi
}

# Where things are: ${data} as the corpus comes, ${dump} as training reads it, ${exp} what training leaves.
name_everything() {
    local unit=${token_type} folder=${lang} removed
    choose_sparsity
    [ "${token_type}" != bpe ] || unit=bpe${bpe_size}
    [ "${token_type}" != phn ] || [ "${skip_data_prep}" = true ] || folder=${lang}_phn # texts of another kind
    data=data/${folder}
    dump=dump/${folder}
    cache=dump/features
    raw_train=$(locate "${train_set}")
    # directories of one's own are what they are; a part is made of them only where this script makes the parts
    [ "${subset}" = all ] || [ "${skip_data_prep}${own_subsets}" = truetrue ] || raw_train=${raw_train}_${subset}
    mapfile -t sets < <(each_set "${test_sets}")
    sets=("${raw_train}" "$(locate "${valid_set}")" ${sets[@]+"${sets[@]}"})
    name_sets
    local other=${unit#char} # part of a name where it is not the usual one
    token_list=${data}/token_list/${unit}
    [ "${own_subsets}" = false ] || token_list+=_${subset}
    [ "${skip_data_prep}" = false ] || token_list=${dump}/token_list/${names[0]}${other:+_${other}}
    bpe_model=${token_list}/bpe.model
    token_list=${tokens:-${token_list}/tokens.txt}
    decoded=("${names[@]:1}")
    [ "${decode_valid}" = true ] || decoded=("${names[@]:2}")
    [ ${#decoded[@]} -gt 0 ] || die "nothing to decode: name test sets, or leave out --decode-valid false"
    exp=exp/${tag:-${lang}_${names[0]#train_}${other:+_${other}}_${upstream}_${method}${removed:+_s${removed}}_seed${seed}}
    best=${exp}/valid.cer_ctc.best.pth
    weights=() # of the upstream, where they are a file or folder here
    [ ! -e "${upstream_ckpt}" ] || weights=("${upstream_ckpt}")
}

prepare_corpus() {
    local opts
    corpus_options || return 0
    [ "${own_subsets}" = false ] || opts+=(--subset "${subset}")
    [ "${token_type}" != phn ] || opts+=(--token-type phn)
    in_group local/data.sh --lang "${lang}" ${opts[@]+"${opts[@]}"} || die "local/data.sh failed: see above"
}

prepare_sets() {
    local i set whole=${train_set} units=() token_dirs=()
    [ "${own_subsets}" = false ] || whole=${raw_train}
    mapfile -t token_dirs < <(each_set "${token_sets}")
    [ ${#token_dirs[@]} -gt 0 ] || token_dirs=("$(locate "${whole}")" "$(locate "${valid_set}")")
    for set in "${token_dirs[@]}" "${sets[@]:1}"; do need_set "${set}"; done
    [ "${own_subsets}" = true ] || make_subsets
    case ${token_type} in
        phn) units=(--token-type phn) ;;
        bpe) units=(--token-type bpe --bpe-size "${bpe_size}" --bpe-prefix "${bpe_model%.model}") ;;
    esac
    [ -n "${tokens}" ] || run_once "${token_list%/*}/log" --inputs "${token_dirs[@]/%//text}" --outputs "${token_list}" -- \
        python -m s3router tokens "${token_dirs[@]}" --output "${token_list}" ${units[@]+"${units[@]}"}
    [ "${token_type}" != bpe ] || units=(--token-type bpe --bpe-model "${bpe_model}")
    for i in "${!sets[@]}"; do
        local limits=()
        [ "${i}" -gt 0 ] || limits=(--token-list "${token_list}" --max-seconds "${max_seconds}" ${units[@]+"${units[@]}"})
        run_once "${dump}/${names[i]}/log" --show --inputs "${sets[i]}" --outputs "${dump}/${names[i]}/wav.scp" -- \
            python -m s3router format-wav "${sets[i]}" "${dump}/${names[i]}" --nj "${nj}" ${limits[@]+"${limits[@]}"}
        printf '%s\n' "${sets[i]}" >"${dump}/${names[i]}/.made_of"
    done
}

make_subsets() {
    local whole minutes
    whole=$(locate "${train_set}")
    for minutes in 2 5; do
        [ "${skip_data_prep}" = false ] || [ "${subset}" = ${minutes}min ] || continue
        run_once "${whole}_${minutes}min/log" --inputs "${whole}" --outputs "${whole}_${minutes}min/wav.scp" -- \
            python -m s3router subset --minutes "${minutes}" "${whole}" "${whole}_${minutes}min"
    done
}

fill_cache() {
    if [ "${method}" = scratch ]; then
        log "  left out: with --method scratch the feature extractor trains, too"
        return
    fi
    need_formatted
    local opts=()
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream-ckpt "${upstream_ckpt}")
    [ "${ngpu}" -eq 0 ] || opts+=(--device cuda)
    run_once "${cache}/log/${dump#dump/}_${names[0]}_${upstream}.log" \
        --inputs "${dump}/${names[0]}/wav.scp" ${weights[@]+"${weights[@]}"} --outputs "${cache}" -- \
        python -m s3router cache-features --upstream "${upstream}" ${opts[@]+"${opts[@]}"} \
        --feature-cache "${cache}" --data-dir "${dump}/${names[0]}"
}

# What a typing error in options or configuration, or a wrong transcript, would end later is refused before stage 3.
check_training() {
    local opts
    [ "${stage}" -le 3 ] && [ "${stop_stage}" -ge 4 ] || return 0
    need_formatted
    training_options "${dump}/.check/${exp##*/}.yaml"
    run_once "${dump}/.check/${exp##*/}.log" --inputs "${config}" "${token_list}" "${dump}/${names[0]}/text" \
        "${dump}/${names[1]}/text" -- \
        python -m s3router train "${opts[@]}" --ngpu 0 --output_dir "${exp}" --resume false --dry_run true
}

# The same for decoding, which needs no data for it.
check_decoding() {
    local opts
    [ "${stop_stage}" -ge 5 ] && [ "${beam_size}${decode_args}" != 1 ] || return 0
    decoding_options
    python -m s3router decode --dry-run --exp-dir "${exp}" --data-dir "${dump}" --output-dir "${exp}" "${opts[@]}" ||
        die "--beam-size, --lm or --decode-args: see above"
}

# training_options PRESET: fills opts, a variable of the caller, and config; a composed configuration goes to PRESET.
training_options() {
    local more
    # shellcheck disable=SC2162 # a blank inside of a value is written as "\ "
    read -a more <<<"${train_args}"
    if [ -n "${presets-}" ]; then
        config=$1
        python -m s3router presets "${presets}" --method "${method}" --subset "${subset}" --upstream "${upstream}" \
            --output "${config}" || die "${presets} cannot be used: see above"
    fi
    opts=()
    [ -z "${sparsity}" ] || opts+=(--sparsity "${sparsity}")
    [ "${method}" = scratch ] || opts+=(--feature_cache "${cache}")
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream_ckpt "${upstream_ckpt}")
    [ -z "${max_updates}" ] || opts+=(--max_updates "${max_updates}")
    [ "${token_type}" = char ] || opts+=(--token_type "${token_type}")
    [ "${token_type}" != bpe ] || opts+=(--bpemodel "${bpe_model}")
    opts+=(--config "${config}" --method "${method}" --upstream "${upstream}" --seed "${seed}"
        --train_dir "${dump}/${names[0]}" --valid_dir "${dump}/${names[1]}" --token_list "${token_list}"
        ${more[@]+"${more[@]}"})
}

train() {
    local opts content
    need_formatted
    training_options "${exp}/preset.yaml"
    content=$(cat "${token_list}" "${dump}/${names[0]}/text" "${dump}/${names[1]}/text" | sha256sum | cut -c -16)
    # to the end of this run; machines that train together share the folder
    [ "${num_nodes}" -gt 1 ] || one_at_a_time "${exp}/.lock" "trains ${exp}"
    same_settings "${exp}" "${opts[*]} --content_of_the_data ${content}" "${config}"
    if [ "${num_nodes}" -gt 1 ]; then
        opts+=(--dist_world_size "${num_nodes}")
        [ "${ngpu}" -gt 0 ] || opts+=(--dist_backend gloo) # ESPnet's choice, NCCL, is for GPUs
    fi
    run_once "${exp}/console${RANK:+.${RANK}}.log" --show --outputs "${best}" "${exp}/config.yaml" --inputs "${config}" \
        "${token_list}" "${dump}/${names[0]}/wav.scp" "${dump}/${names[0]}/text" "${dump}/${names[1]}/text" \
        ${weights[@]+"${weights[@]}"} -- \
        python -m s3router train "${opts[@]}" --ngpu "${ngpu}" --output_dir "${exp}"
}

decoding_options() { # fills opts, a variable of the caller
    local more
    # shellcheck disable=SC2162 # a blank inside of a value is written as "\ "
    read -a more <<<"${decode_args}"
    opts=(--beam-size "${beam_size}" ${more[@]+"${more[@]}"})
    [ "${ngpu}" -eq 0 ] || opts+=(--device cuda)
    [ -z "${lm}" ] || opts+=(--lm "${lm}")
}

decode() {
    local name opts folder
    need "${best}" "this command with --stage 4"
    need_formatted
    decoding_options
    for name in "${decoded[@]}"; do
        folder=${exp}/decode_${name}${lm:+_lm}
        run_once "${folder}/log" --show --inputs "${best}" "${dump}/${name}/wav.scp" "${dump}/${name}/text" \
            ${lm:+"${lm}"} --outputs "${folder}/result.json" -- \
            python -m s3router decode --exp-dir "${exp}" --data-dir "${dump}/${name}" \
            --output-dir "${folder}" "${opts[@]}"
    done
}

report() {
    local name
    for name in "${decoded[@]/%/${lm:+_lm}}"; do
        need "${exp}/decode_${name}/result.json" "this command with --stage 5"
    done
    python -m s3router results "${exp}" --sets "${decoded[@]/%/${lm:+_lm}}" --output "${exp}/RESULTS${lm:+_lm}.md"
}

need_set() {
    local how="you (or name another with --train-set, --valid-set or --test-sets)"
    [ "${skip_data_prep}" = true ] || how="this command with --stage 1"
    need "$1/wav.scp" "${how}"
    need "$1/text" "${how}"
}

need_formatted() {
    local i mark
    for i in "${!names[@]}"; do
        need "${dump}/${names[i]}/wav.scp" "this command with --stage 2"
        mark=${dump}/${names[i]}/.made_of # directories of one's own often have the same names: train, dev, test
        [ ! -s "${mark}" ] || [ "$(cat "${mark}")" = "${sets[i]}" ] ||
            die "${dump}/${names[i]} was made of $(cat "${mark}") since, not of ${sets[i]}: run stage 2 of this command again"
    done
    need "${token_list}" "this command with --stage 2"
}

names=()
main
