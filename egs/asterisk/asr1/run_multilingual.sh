#!/usr/bin/env bash
# Many languages on one backbone: masks and finetuned models of each language, packs, one router for all of them, and
# one jointly trained model to compare with. Ends with RESULTS_multilingual.md.
#
#   ./run_multilingual.sh                                         five languages, five labelled minutes each; hours
#   ./run_multilingual.sh --langs "en es" --sparsity "0.30 0.20"  a part of it; dev picks one of these sparsities
#   ./run_multilingual.sh --langs "en es" --sparsity 0.3 --sweep false --max-updates 20    a trial, under exp/trial
#   ./run_multilingual.sh --stage 7                               writes the page again
#
# Stages: 1 models, single and joint, 2 packs, 3 all languages through one router, 5 language identification, 6 memory and
# sizes, 7 the page. The models are runs of ./run_table.sh: what the table has is taken, what is made here, the table finds
# finished. Killed and called again it goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

langs="en es fr it ru"  # the languages
subset=5min           # labelled part of each: 2min, 5min or all
sparsity=             # share of the weights that the masks remove; several: dev picks (default: those of the table)
upstream=             # the backbone that they share (default: that of conf/table.yaml)
upstream_ckpt=        # its checkpoint, where the name does not imply one
seed=0                # of initialisation, batches and dropout
sweep=true            # learning rates as swept for the table; false: the first ones in conf/table.yaml
joint="weight frozen"  # what trains in the joint models: weight, frozen, both, or "" for none
joint_updates=all     # of a joint model: all, as many as the single models together, or one, as many as one of them
max_updates=          # a trial with so many updates, kept apart under exp/trial
jobs=2                # training runs at a time, one thread each
stage=1               # first stage
stop_stage=7          # last stage
output=RESULTS_multilingual.md # the page (a trial's lies beside its packs)
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

# As in run_table.sh; and decoding here is compared with decoding there.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

main() {
    local lang
    check_options
    name_everything
    "${S3ROUTER_ROOT}/tools/setup.sh"
    run_stage 1 "models, single and joint -> ${work}/models" train_models
    run_stage 2 "packs -> ${work}/packs" make_packs
    run_stage 3 "all languages through one router -> ${work}/routed" route
    run_stage 5 "which language is it? -> ${work}/langid.json" identify
    run_stage 6 "memory and sizes -> ${measured}" measure
    run_stage 7 "the page -> ${output}" write_page
}

check_options() {
    local each
    [ -n "${langs// /}" ] || die "--langs is empty: name some languages"
    for each in ${langs}; do
        case ${each} in en | es | fr | it | ru) ;; *) die "--langs: '${each}' is not known; the known ones are: en es fr it ru" ;; esac
    done
    [ "$(tr ' ' '\n' <<<"${langs}" | sort | uniq -d | tr -d '\n')" = '' ] || die "--langs '${langs}' names one twice"
    option_is_one_of subset 2min 5min all
    each_in_range sparsity 0 1
    [ -z "${upstream}" ] || option_is_word upstream
    [ -z "${upstream_ckpt}" ] || [ -n "${upstream}" ] || die "--upstream-ckpt needs --upstream"
    for each in ${joint}; do
        case ${each} in weight | frozen) ;; *) die "--joint: '${each}' is not known; the known ones are: weight frozen" ;; esac
    done
    option_is_one_of joint_updates all one
    [ -z "${max_updates}" ] || option_is_count max_updates
    option_is_count jobs
    stages_in_order 7
}

name_everything() {
    local name=${langs// /-}_${subset}${upstream:+_${upstream}}
    [ -z "${sparsity}" ] || name+=_s${sparsity// /-}
    work=exp/multilingual/${name}_seed${seed}
    trial=()
    if [ -n "${max_updates}" ]; then
        work=exp/trial/multilingual/${name}_seed${seed}_${max_updates}
        output=${work}/RESULTS.md
        trial=(--max-updates "${max_updates}")
    fi
    models=${work}/models
    measured=${work}/measured.json
    packs=()
    routed=()
    sets=()
    for lang in ${langs}; do
        packs+=("${work}/packs/${lang}.pack")
        sets+=("${lang}=dump/${lang}/test")
        routed+=("${work}/routed/decode_${lang}/result.json")
    done
    backbone=()
    [ -z "${upstream}" ] || backbone+=(--upstream "${upstream}")
    [ -z "${upstream_ckpt}" ] || backbone+=(--upstream-ckpt "${upstream_ckpt}")
    routes="axis: lang, values: $(list "${langs}"), at: {subset: ${subset}}, sparsities: $(list "${sparsity}"), seed: ${seed}"
    routes+=", joint: $(list "${joint}"), joint_updates: ${joint_updates}, work: ${work}, measured: ${measured}"
    command="./run_multilingual.sh --langs '${langs}' --subset ${subset} ${sparsity:+--sparsity "'${sparsity}' "}--seed ${seed}"
    command+=" --joint '${joint}' --joint-updates ${joint_updates}${upstream:+ --upstream ${upstream}}"
    command+="${upstream_ckpt:+ --upstream-ckpt ${upstream_ckpt}}${max_updates:+ --max-updates ${max_updates}}"
    routes+=", command: \"${command}\""
}

list() { echo "[${1// /, }]"; } # words as a list in YAML

experiment() { # experiment VERB OPTIONS...: of the grid, with what the options of this script say in it
    local own=(--set "routes={${routes}}" ${trial[@]+"${trial[@]}"})
    [ -z "${upstream}" ] || own+=(--set "upstream=${upstream}" --set "upstream_ckpt=${upstream_ckpt:-null}")
    python -m s3router experiment "$1" conf/multilingual.yaml "${own[@]}" "${@:2}" || die "see above. The same command goes on"
}

train_models() {
    local first=()
    [ "${sweep}" = true ] || first=(--no-sweep)
    experiment run --jobs "${jobs}" ${first[@]+"${first[@]}"}
}

# Both codecs; what the routes' usual confidence in their own language is goes into the packs that the router holds.
make_packs() {
    local codec best lang pack bare=()
    for lang in ${langs}; do
        best=${models}/${lang}_router/valid.cer_ctc.best.pth
        need "${best}" "this command with --stage 1"
        for codec in bits coded; do
            pack=${work}/packs_${codec}/${lang}.pack
            run_once "${pack%.pack}.log" --inputs "${best}" --outputs "${pack}" -- pack "${lang}" "${codec}" "${pack}"
        done
        bare+=("${work}/packs_bits/${lang}.pack")
    done
    run_once "${work}/packs/log" --show --inputs "${bare[@]}" --outputs "${packs[@]}" -- store_confidences "${bare[@]}"
    python -m s3router inspect --table "${packs[@]}" "${bare[@]/packs_bits/packs_coded}"
}

pack() { # pack LANG CODEC FILE
    python -m s3router pack "${models}/$1_router" --route "$1" --codec "$2" -o "$3" \
        --corpus "Asterisk voice prompts, $1, ${subset}" && stat --printf '  %n: %s bytes\n' "$3"
}

store_confidences() {
    mkdir -p "${work}/packs" && cp "$@" "${work}/packs" &&
        python -m s3router langid --routes "${packs[@]}" ${backbone[@]+"${backbone[@]}"} --dev "${sets[@]/%test/dev}" --store
}

route() {
    for lang in ${langs}; do need "${work}/packs/${lang}.pack" "this command with --stage 2"; done
    run_once "${work}/routed/log" --show --inputs "${packs[@]}" "${sets[@]/#*=/}" \
        --outputs "${routed[@]}" -- \
        python -m s3router transcribe --routes "${packs[@]}" ${backbone[@]+"${backbone[@]}"} --score "${sets[@]}" --output-dir "${work}/routed"
}

identify() {
    for lang in ${langs}; do need "${work}/packs/${lang}.pack" "this command with --stage 2"; done
    run_once "${work}/langid.log" --show --inputs "${packs[@]}" "${sets[@]/#*=/}" --outputs "${work}/langid.json" -- \
        python -m s3router langid --routes "${packs[@]}" ${backbone[@]+"${backbone[@]}"} --test "${sets[@]}" --output "${work}/langid.json"
}

measure() {
    local inputs=("${work}/langid.json" "${routed[@]}" "${packs[@]}") lang
    for lang in ${langs}; do
        need "${models}/${lang}_weight/valid.cer_ctc.best.pth" "this command with --stage 1"
        inputs+=("${models}/${lang}_weight/valid.cer_ctc.best.pth")
    done
    need "${work}/langid.json" "this command with --stage 5"
    run_once "${work}/measure.log" --show --inputs "${inputs[@]}" --outputs "${measured}" -- experiment measure
}

write_page() {
    experiment table --output "${output}"
    [ -n "${max_updates}" ] || { mkdir -p results/multilingual && cp "${measured}" results/multilingual/measured.json; }
}

main
