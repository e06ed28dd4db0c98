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
corpus_option=corpus  # what the recipe calls that option (for recipes)
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
task=ctc              # ctc: letters on the upstream's features; seq2seq: a whole Whisper, encoder and decoder; auto: the upstream tells
method=router         # what trains: router (masks), weight, ffn_weight, lora, dora, bitfit, houlsby, sparse_delta, bitdelta, magnitude, frozen (head only; seq2seq: nothing), scratch (random upstream; ctc); or prunes: omp, imp, parp, parp_p, router_p
sparsity=             # share of the weights that are removed, from 0 up to 1 (router, magnitude, and what prunes; default: as conf or the masks have it)
sparsity_of=          # other defaults of --sparsity, as "xls_r_300m=0.06 tiny=0.2" (for recipes)
upstream=tiny         # tiny, a public one (s3router upstream list), auto (the checkpoint tells), or any name of s3prl
fallback=             # "whisper_base=tiny": tiny is taken where whisper_base cannot be downloaded (for recipes)
language_token=       # seq2seq: the language that Whisper is told (default: --lang)
hypotheses=           # seq2seq: what it writes is brought to this form: none, prompts, sentences (default: the corpus's; your own sets: none)
corpus_form=none      # form of the recipe's own references (for recipes)
zero_shot=true        # seq2seq: also decode the recogniser as it was published, for comparison
upstream_ckpt=        # its checkpoint, where the name does not imply one
seed=0                # of initialisation, batches and dropout
config=               # training configuration (default: the recipe's conf/presets.yaml; for tiny its conf/train_METHOD.yaml; else the TEMPLATE's presets)
max_updates=          # optimizer steps (default: as the configuration says)
train_args=           # further options of s3router train (seq2seq: of seq2seq-train), such as "--score_lr 1e-2"
tag=                  # name of the experiment's folder (default: made from the options)
# decoding
decode_valid=true     # decode the validation set, too
plain_cer=false       # the table also has the CER when diacritics do not count
beam_size=1           # 1: greedy; above: beam search (needs tools/setup.sh --with-lm)
lm=                   # n-gram language model for the beam search, ARPA
decode_args=          # further options of s3router decode
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

main() {
    check_options
    name_everything
    need_writable data dump "${exp}"
    "${S3ROUTER_ROOT}/tools/setup.sh"
    check_decoding
    fall_back
    [ "${stage}" -gt 3 ] || upstream_is_known
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

settle_task() {
    option_is_one_of task auto ctc seq2seq
    [ "${task}" != auto ] || case ${upstream} in
        whisper_*) task=seq2seq wanted_auto=true ;;
        *) task=ctc ;;
    esac
}

# The upstream that a recipe prefers may be out of reach.
fall_back() {
    local why
    [ "${fallback%%=*}" = "${upstream}" ] && [ -z "${upstream_ckpt}" ] && [ "${stop_stage}" -gt 2 ] || return 0
    if [ "${stage}" -gt 4 ]; then # the model of an earlier call tells which one it was
        [ ! -e "${best}" ] && (take_fallback && [ -e "${best}" ]) 2>/dev/null || return 0
        log "no model of ${upstream} is here, and one of ${fallback#*=}, which is taken"
    else
        why=$(python -m s3router upstream fetch "${upstream}" 2>&1 >/dev/null) && return 0
        log "${upstream} cannot be had here, so ${fallback#*=} is used instead, which is far weaker (${why})"
    fi
    take_fallback
}

take_fallback() {
    upstream=${fallback#*=}
    max_seconds=${asked_seconds:-${max_seconds}}
    [ -z "${wanted_auto-}" ] || task=auto
    names=()
    check_options
    name_everything
    check_decoding
}

# Everything that can be refused is refused here, before anything has been made.
check_options() {
    local known subsets
    option_is_count num_nodes
    settle_task
    read -ra known <<<"${known_langs}"
    read -ra subsets <<<"${known_subsets}"
    if [ "${task}" = seq2seq ]; then
        [ "${method}" != scratch ] || die "--method scratch is for --task ctc"
        # shellcheck disable=SC2086 # words
        option_is_one_of method ${methods/scratch /}
        [ "${upstream}" != tiny ] || die "--task seq2seq needs a Whisper, such as --upstream whisper_base, and tiny is none"
        [ "${token_type}" = char ] || die "--token-type is for --task ctc: a whole recogniser writes with its own tokens"
        [ -z "${tokens}${lm}" ] || die "--tokens and --lm are for --task ctc: a whole recogniser has its own decoder"
        # sets of one's own may have capitals and punctuation, which the model is to learn
        form_given=${hypotheses}
        [ -n "${hypotheses}" ] || [ "${skip_data_prep}" = true ] || hypotheses=${corpus_form}
        hypotheses=${hypotheses:-none}
        option_is_one_of hypotheses none prompts sentences
        asked_seconds=${asked_seconds:-${max_seconds}}
        max_seconds=$(awk -v x="${max_seconds}" 'BEGIN { print (x > 30 ? 30 : x) }') # Whisper's window
        [ "${num_nodes}" -eq 1 ] || die "--num-nodes is for --task ctc"
    else
        # shellcheck disable=SC2086 # words
        option_is_one_of method ${methods}
        [ -z "${hypotheses}" ] || [ -n "${wanted_auto-}" ] || die "--hypotheses is for --task seq2seq"
    fi
    option_is_one_of subset "${subsets[@]}"
    option_is_one_of token_type char bpe phn
    option_is_count bpe_size
    [ ${#known[@]} -eq 0 ] || [ "${skip_data_prep}" = true ] || option_is_one_of lang "${known[@]}"
    option_is_folder corpus "${corpus_option}"
    [ -z "${tokens}" ] || [ "${token_type}" != bpe ] || die "--tokens is for char and phn: bpe trains its own model"
    [ -z "${tokens}" ] || need "${tokens}" "you (or leave out --tokens)"
    option_is_word lang
    option_is_word upstream
    [ -z "${tag}" ] || option_is_word tag
    [ -z "${max_updates}" ] || option_is_count max_updates
    option_is_count nj
    option_is_count beam_size
    option_in_range max_seconds 0.1 100000
    [ -z "${sparsity}" ] || has_masks "${method}" || die "--sparsity is for methods with masks, and ${method} has none"
    [ -z "${sparsity}" ] || option_in_range sparsity 0 1
    stages_in_order 6
    [ -z "${lm}" ] || [ "${beam_size}" -gt 1 ] || die "--lm needs a beam: add --beam-size 50"
    [ "${beam_size}" -le 1 ] || [ "${token_type}" = char ] ||
        die "--beam-size ${beam_size}: the beam search spells words, with --token-type char; decode ${token_type} greedily, without it"
    [ -z "${lm}" ] || need "${lm}" "you (or leave out --lm)"
    option_is_checkpoint upstream_ckpt
    choose_config
}

# The recipe's own settings, or those that recipes share: ${config} is a file, or ${presets} one that it will be made of.
choose_config() {
    local own=presets.yaml file
    presets=
    if [ -n "${config}" ]; then
        need "${config}" "you (or name another with --config)"
        return
    fi
    [ "${task}" = ctc ] || own=presets_seq2seq.yaml
    for file in "conf/train_${method}.yaml" conf/train_other.yaml; do
        [ "${task}${upstream}" != ctctiny ] || [ -n "${config}" ] || [ ! -s "${file}" ] || config=${file}
    done
    [ ! -s "conf/${own}" ] || config='' presets=conf/${own}
    [ -n "${config}${presets}" ] || presets=${S3ROUTER_ROOT}/egs/TEMPLATE/asr1/conf/presets_${task}.yaml
}

# What the masks remove: --sparsity is passed on to training where it was given, here or for this upstream. ${removed} is
# what the experiment's name shows.
choose_sparsity() {
    local pair words=${train_args} n_m='granularity["'\'']?[=:][[:space:]]*["'\'']?([0-9]+):([0-9]+)'
    local other='(^|--|[[:space:]{,"'\''])sparsity["'\'']?[=:[:space:]]+([0-9.]+)'
    removed=${sparsity}
    has_masks "${method}" && [ -z "${removed}" ] || return 0
    words+=" $(sed 's/#.*//' "${config:-/dev/null}")"
    [ "${task}" != seq2seq ] || words+=" $(sed -n "s/#.*//; /^  ${method}:/p" "${presets:-/dev/null}")"
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
    [ "${task}" = ctc ] || other=seq2seq
    local stem=${lang}_${names[0]#train_}${other:+_${other}}_${upstream}
    exp=exp/${tag:-${stem}_${method}${removed:+_s${removed}}_seed${seed}}
    best=${exp}/valid.cer_ctc.best.pth
    [ "${task}" = ctc ] || best=${exp}/best.pth
    published=${exp}_zero_shot # the recogniser without training, the same for all methods and seeds
    [ -n "${tag}" ] || published=exp/${stem}_zero_shot${language_token:+_${language_token}}${form_given:+_${form_given}}
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
    [ -n "${tokens}" ] || [ "${task}" = seq2seq ] || run_once "${token_list%/*}/log" --inputs "${token_dirs[@]/%//text}" --outputs "${token_list}" -- \
        python -m s3router tokens "${token_dirs[@]}" --output "${token_list}" ${units[@]+"${units[@]}"}
    [ "${token_type}" != bpe ] || units=(--token-type bpe --bpe-model "${bpe_model}")
    for i in "${!sets[@]}"; do
        local limits=()
        [ "${i}" -gt 0 ] || limits=(--max-seconds "${max_seconds}")
        [ "${i}" -gt 0 ] || [ "${task}" = seq2seq ] || limits+=(--token-list "${token_list}" ${units[@]+"${units[@]}"})
        run_once "${dump}/${names[i]}/log" --show --inputs "${sets[i]}" --outputs "${dump}/${names[i]}/wav.scp" -- \
            python -m s3router format-wav "${sets[i]}" "${dump}/${names[i]}" --nj "${nj}" ${limits[@]+"${limits[@]}"}
        printf '%s\n' "${sets[i]}" >"${dump}/${names[i]}/.made_of"
    done
}

make_subsets() {
    local whole minutes
    whole=$(locate "${train_set}")
    for minutes in 2 5; do
        [ "${subset}" = ${minutes}min ] || continue
        run_once "${whole}_${minutes}min/log" --inputs "${whole}" --outputs "${whole}_${minutes}min/wav.scp" -- \
            python -m s3router subset --minutes "${minutes}" "${whole}" "${whole}_${minutes}min"
    done
}

fill_cache() {
    if [ "${task}" = seq2seq ]; then
        log "  left out: a whole recogniser reads the audio itself"
        return
    fi
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
    if [ "${task}" = seq2seq ]; then
        run_once "${dump}/.check/${exp##*/}.log" --inputs "${config}" "${dump}/${names[0]}/text" "${dump}/${names[1]}/text" -- \
            python -m s3router seq2seq-train "${opts[@]}" --output_dir "${exp}" --dry_run
        return
    fi
    run_once "${dump}/.check/${exp##*/}.log" --inputs "${config}" "${token_list}" "${dump}/${names[0]}/text" \
        "${dump}/${names[1]}/text" -- \
        python -m s3router train "${opts[@]}" --ngpu 0 --output_dir "${exp}" --resume false --dry_run true
}

# The same for decoding, which needs no data for it.
check_decoding() {
    local opts
    [ "${stop_stage}" -ge 5 ] && [ "${beam_size}${decode_args}" != 1 ] || return 0
    decoding_options
    python -m s3router decode --dry-run --task "${task}" --exp-dir "${exp}" --data-dir "${dump}" --output-dir "${exp}" "${opts[@]}" ||
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
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream_ckpt "${upstream_ckpt}")
    [ -z "${max_updates}" ] || opts+=(--max_updates "${max_updates}")
    if [ "${task}" = seq2seq ]; then
        opts+=(--config "${config}" --method "${method}" --upstream "${upstream}" --seed "${seed}"
            --language "${language_token:-${lang}}" --text_language "${lang}" --normalize "${hypotheses}"
            --train_dir "${dump}/${names[0]}" --valid_dir "${dump}/${names[1]}" ${more[@]+"${more[@]}"})
        [ "${ngpu}" -eq 0 ] || opts+=(--device cuda)
        return
    fi
    [ "${method}" = scratch ] || opts+=(--feature_cache "${cache}")
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
    [ "${task}" = ctc ] || token_list=
    content=$(cat ${token_list:+"${token_list}"} "${dump}/${names[0]}/text" "${dump}/${names[1]}/text" | sha256sum | cut -c -16)
    # to the end of this run; machines that train together share the folder
    [ "${num_nodes}" -gt 1 ] || one_at_a_time "${exp}/.lock" "trains ${exp}"
    same_settings "${exp}" "${opts[*]} --content_of_the_data ${content}" "${config}"
    if [ "${task}" = seq2seq ]; then
        run_once "${exp}/console.log" --show --outputs "${best}" "${exp}/seq2seq.json" --inputs "${config}" \
            "${dump}/${names[0]}/wav.scp" "${dump}/${names[0]}/text" "${dump}/${names[1]}/text" \
            ${weights[@]+"${weights[@]}"} -- python -m s3router seq2seq-train "${opts[@]}" --output_dir "${exp}"
        return
    fi
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
    if with_published; then
        one_at_a_time "${published}/.lock" "decodes ${published}" # runs of several methods and seeds share it
        publish
        decode_by "${published}" "${published}/best.pth"
        exec 8>&- # that lock, in place of the one of training
        [ "${stage}" -gt 3 ] || [ "${num_nodes}" -gt 1 ] || one_at_a_time "${exp}/.lock" "decodes ${exp}"
    fi
    decode_by "${exp}" "${best}"
}

decode_by() { # EXPERIMENT CHECKPOINT: all sets
    for name in "${decoded[@]}"; do
        folder=$1/decode_${name}${lm:+_lm}
        run_once "${folder}/log" --show --inputs "$2" "${dump}/${name}/wav.scp" "${dump}/${name}/text" \
            ${lm:+"${lm}"} --outputs "${folder}/result.json" -- \
            python -m s3router decode --exp-dir "$1" --data-dir "${dump}/${name}" \
            --output-dir "${folder}" "${opts[@]}"
    done
}

with_published() { [ "${task}" = seq2seq ] && [ "${zero_shot}" = true ] && [ "${method}" != frozen ]; }

publish() { # an experiment of the recogniser as it was published
    local opts config='' presets=${S3ROUTER_ROOT}/egs/TEMPLATE/asr1/conf/presets_seq2seq.yaml
    mkdir -p "${published}"
    method=frozen sparsity='' train_args='' seed=0 max_updates='' training_options "${published}/preset.yaml"
    run_once "${published}/console.log" --outputs "${published}/best.pth" --inputs "${dump}/${names[0]}/text" -- \
        python -m s3router seq2seq-train "${opts[@]}" --output_dir "${published}"
}

report() {
    local name models=()
    for name in "${decoded[@]/%/${lm:+_lm}}"; do
        need "${exp}/decode_${name}/result.json" "this command with --stage 5"
    done
    ! with_published || models+=("${published}")
    models+=("${exp}")
    local plain=()
    [ "${plain_cer}" = false ] || plain=(--plain)
    python -m s3router results "${models[@]}" ${plain[@]+"${plain[@]}"} --sets "${decoded[@]/%/${lm:+_lm}}" --output "${exp}/RESULTS${lm:+_lm}.md"
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
    [ "${task}" = seq2seq ] || need "${token_list}" "this command with --stage 2"
}

names=()
main
