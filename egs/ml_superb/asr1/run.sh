#!/usr/bin/env bash
# ML-SUPERB 2.0: masks for each of 141 languages on one frozen backbone, a classifier that finds the language, the challenge's six figures.
#
#   ./run.sh --corpus /data/ml_superb_hf                                   XLS-R 300M, all languages
#   ./run.sh --corpus DIR --conf conf/mms_1b.yaml --langs "eng deu yor"    MMS 1B, a part of them
#   ./run.sh --corpus DIR --conf conf/tiny.yaml --max-updates 4            a trial, under exp/trial
#
# Stages: 1 corpus, 2 models, 3 packs, 4 language classifier, 5 decoding, 6 six figures. README.md tells of the corpus and of what was
# run. What is finished is skipped, what was interrupted goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

stage=1               # first stage
stop_stage=6          # last stage
corpus=               # the HuggingFace dataset, or the folder that holds eighth_version (default: downloads/ml_superb_hf)
dialects=             # the language varieties, beside an eighth_version
subset=1h             # labelled part of each language and source: 10min (not in the HuggingFace dataset) or 1h
langs=                # codes of the languages (default: all that the corpus has)
conf=conf/table.yaml  # grid of the models: table.yaml is XLS-R 300M; mms_1b.yaml, whisper_base.yaml, tiny.yaml
systems="masks joint_frozen joint_weight"  # masks: a pack for each language; joint_frozen, joint_weight: one model for all
sparsity=             # share of the weights that masks remove; several: dev picks one for each language (default: the grid's)
seed=0                # of initialisation, batches and dropout
sweep=false           # try the learning rates of the grid; false: the first ones
max_updates=          # a trial with so many updates for each language, kept apart under exp/trial
codec=gaps            # of the packs: coded, gaps or bits (docs/packs.md)
langid_layers=        # layers that the classifier may read (default: the first third)
best=3                # where the classifier is in doubt, the routes of so many languages decode
sure=0.9              # probability from which on it is not in doubt
jobs=1                # trainings at a time
gpus=                 # numbers of the GPUs, separated by commas; each training sees one (default: CPU)
device=cpu            # where packs are tried and sets decoded: cpu, cuda
nj=2                  # threads that read recordings
tag=                  # name of the folder of systems (default: made from the options)
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

main() {
    check_options
    "${S3ROUTER_ROOT}/tools/setup.sh"
    [ -z "${gpus}" ] || [ "${stop_stage}" -lt 2 ] || gpus_are_here "${gpus}"
    run_stage 1 "corpus -> data" prepare_corpus
    [ "${stop_stage}" -gt 1 ] || return 0
    name_everything
    run_stage 2 "models -> ${work}/models" train_models
    run_stage 3 "packs -> ${work}/SYSTEM" make_packs
    run_stage 4 "language classifier -> ${work}/langid.pack" fit_classifier
    run_stage 5 "decoding -> ${work}/SYSTEM/decode" decode
    run_stage 6 "six figures -> ${work}/RESULTS.md" score
}

check_options() {
    local each
    option_is_folder corpus
    option_is_folder dialects
    option_is_one_of subset 10min 1h
    option_is_one_of codec coded gaps bits
    [ -s "${conf}" ] || die "--conf ${conf}: no such file; there are $(echo conf/*.yaml)"
    [ -n "${systems// /}" ] || die "--systems is empty: name some of masks joint_frozen joint_weight"
    for each in ${systems}; do
        case ${each} in masks | joint_frozen | joint_weight) ;; *) die "--systems: '${each}' is not known; the known ones are: masks joint_frozen joint_weight" ;; esac
    done
    [ -z "${max_updates}" ] || option_is_count max_updates
    for each in best jobs nj; do option_is_count "${each}"; done
    option_in_range sure 0 1
    each_in_range sparsity 0 1
    [ -z "${langs}" ] || [ "$(wc -w <<<"${langs}")" -gt 1 ] || die "--langs '${langs}': name at least two languages"
    [ -z "${tag}" ] || option_is_word tag
    stages_in_order 6
}

prepare_corpus() {
    local opts=(--subset "${subset}" --nj "${nj}")
    [ -z "${corpus}" ] || opts+=(--corpus "${corpus}")
    [ -z "${dialects}" ] || opts+=(--dialects "${dialects}")
    [ -z "${langs}" ] || opts+=(--langs "${langs}")
    one_at_a_time data/.preparing.lock "prepares data here"
    in_group local/data.sh "${opts[@]}" || die "local/data.sh failed: see above"
    exec 8>&-
}

# Where things are; the languages are those that were prepared.
name_everything() {
    local lang stem joint="" joints=() each named removed others part=""
    stem=$(basename "${conf}" .yaml)
    # three letters: joint models put sets of all languages beside them
    [ -z "${langs}" ] || part=_$(tr -s ' ' '\n' <<<"${langs}" | LC_ALL=C sort -u | sha256sum | cut -c -6)
    [ -d data ] || die "there is no data here. It comes from: this command with --stage 1"
    [ -n "${langs}" ] || langs=$(find data -path "data/???/train_${subset}/wav.scp" | cut -d/ -f2 | LC_ALL=C sort | tr '\n' ' ')
    read -ra codes <<<"${langs}"
    [ ${#codes[@]} -gt 1 ] || die "data has fewer than two languages with train_${subset}. They come from: this command with --stage 1"
    for lang in "${codes[@]}"; do need "data/${lang}/train_${subset}/wav.scp" "this command with --stage 1"; done
    [ "${stem}" != table ] || stem=xls_r_300m
    work=exp/${tag:-${stem}_${#codes[@]}langs${part}_${subset}${sparsity:+_s${sparsity// /-}}_seed${seed}}
    trial=()
    [ -z "${max_updates}" ] || work=exp/trial/${work#exp/}_${max_updates} trial=(--max-updates "${max_updates}")
    for each in ${systems}; do
        case ${each} in joint_*) joints+=("${each#joint_}") ;; esac
    done
    [ ${#joints[@]} -eq 0 ] || joint=$(printf '%s, ' "${joints[@]}")
    axes="{lang: [$(printf '%s, ' "${codes[@]}")], subset: [${subset}]}"
    routes="{axis: lang, values: [$(printf '%s, ' "${codes[@]}")], at: {subset: ${subset}}, seed: ${seed}, work: ${work},"
    routes+=" single: [$([[ " ${systems} " != *" masks "* ]] || echo router)], joint: [${joint}], joint_updates: all,"
    mapfile -t named < <(of_the_grid)
    [ ${#named[@]} -eq 4 ] || die "--conf ${conf} cannot be used: see above"
    removed=${sparsity:-${named[2]}} swept=${named[3]}
    routes+=" sparsities: [${removed// /, }], command: ./run.sh}"
    need data/all/test/reference "this command with --stage 1"
    others=$(cut -d'[' -f2 data/all/test/reference | cut -d']' -f1 | sort -u | { grep -vxF "$(printf '%s\n' "${codes[@]}")" || true; } | tr '\n' ' ')
    [ -z "${others}" ] || echo "run.sh: warning: the figures count these languages, too, which have no model: ${others}(--stage 1 prepares --langs alone)" >&2
    sets=()
    for each in test dialect; do
        [ ! -s "data/all/${each}/wav.scp" ] || sets+=("data/all/${each}")
    done
    backbone=(--upstream "${named[0]}" ${named[1]:+--upstream-ckpt "${named[1]}"})
}

of_the_grid() { # its upstream, the checkpoint (or nothing), the sparsities, and the sweep for what is prepared; a line each
    python - "${conf}" "${subset}" "${codes[@]}" <<'END'
import json
import sys

from s3router.experiments.grid import Grid
from s3router.experiments.routes_grid import Routes

conf, subset, *langs = sys.argv[1:]
grid = Grid.read(conf)
print(grid.upstream, grid.upstream_ckpt or "", " ".join(map(str, Routes.of(grid.raw).sparsities)), sep="\n")
sweep = grid.raw["sweep"]
print(json.dumps(sweep | {"lang": sweep["lang"] if sweep["lang"] in langs else langs[0], "subset": subset}))
END
}

train_models() {
    local first=() devices=()
    [ "${sweep}" = true ] || first=(--no-sweep)
    [ -z "${gpus}" ] || devices=(--gpus "${gpus}" --set "local={ngpu: 1}")
    python -m s3router experiment run "${conf}" --set "axes=${axes}" --set "sweep=${swept}" --set "routes=${routes}" \
        --jobs "${jobs}" ${first[@]+"${first[@]}"} ${trial[@]+"${trial[@]}"} ${devices[@]+"${devices[@]}"} || die "see above. The same command goes on"
}

make_packs() {
    local system lang each pairs=()
    for system in ${systems}; do
        mkdir -p "${work}/${system}"
        if [ "${system}" != masks ]; then
            pack "${system}" "${work}/${system}/joint.pack" "${work}/models/${system}"
            continue
        fi
        for each in "${work}/masks"/*.pack; do # of languages that were served before
            each=$(basename "${each}" .pack)
            [[ " ${codes[*]} langid * " == *" ${each} "* ]] || rm "${work}/masks/${each}.pack"
        done
        for lang in "${codes[@]}"; do pairs+=("${lang}=${work}/models/${lang}_router"); done
        pack masks "${work}/masks" "${pairs[@]}"
    done
}

pack() { # pack SYSTEM PACK EXPERIMENT, or pack SYSTEM FOLDER ROUTE=EXPERIMENT...
    local each inputs=() outputs=("$2")
    [ $# -eq 3 ] || outputs=()
    for each in "${@:3}"; do
        need "${each#*=}/valid.cer_ctc.best.pth" "this command with --stage 2"
        inputs+=("${each#*=}/valid.cer_ctc.best.pth")
        [ $# -eq 3 ] || outputs+=("$2/${each%%=*}.pack")
    done
    run_once "${work}/$1.pack.log" --inputs "${inputs[@]}" --outputs "${outputs[@]}" -- \
        python -m s3router pack "${@:3}" -o "$2" --codec "${codec}" --corpus "ML-SUPERB 2.0, ${subset}"
}

fit_classifier() {
    local lang train=() dev=() layers=() system settings
    for lang in "${codes[@]}"; do
        train+=("${lang}=data/${lang}/train_${subset}") dev+=("${lang}=data/${lang}/dev")
    done
    read -ra layers <<<"${langid_layers}"
    [ ${#layers[@]} -eq 0 ] || layers=(--layers "${layers[@]}")
    run_once "${work}/langid.log" --show --inputs "${train[@]/#*=/}" "${dev[@]/#*=/}" --outputs "${work}/langid.pack" -- \
        python -m s3router langid "${backbone[@]}" --device "${device}" --fit "${train[@]}" --dev "${dev[@]}" \
        ${layers[@]+"${layers[@]}"} -o "${work}/langid.pack"
    for system in ${systems}; do
        mkdir -p "${work}/${system}"
        cp --preserve=timestamps "${work}/langid.pack" "${work}/${system}/langid.pack"
        settings="{\"best\": ${best}, \"sure\": ${sure}}"
        [ "$(cat "${work}/${system}/settings.json" 2>/dev/null)" = "${settings}" ] || echo "${settings}" >"${work}/${system}/settings.json"
    done
}

decode() {
    local system set outputs
    for system in ${systems}; do
        need "${work}/${system}/langid.pack" "this command with --stage 4"
        outputs=()
        for set in "${sets[@]}"; do outputs+=("${work}/${system}/decode/${set##*/}/text"); done
        run_once "${work}/${system}.decode.log" --show --inputs "${work}/${system}"/{*.pack,settings.json} "${sets[@]}" \
            --outputs "${outputs[@]}" -- \
            python -m s3router ml-superb-decode "${work}/${system}" "${backbone[@]}" --device "${device}" \
            --data "${sets[@]}" --output-dir "${work}/${system}/decode"
    done
}

score() {
    local system figures=() more
    for system in ${systems}; do
        need "${work}/${system}/decode/test/text" "this command with --stage 5"
        more=()
        [ ! -s "${work}/${system}/decode/dialect/text" ] ||
            more=(--dialect-ref data/all/dialect/reference --dialect-hyp "${work}/${system}/decode/dialect/text")
        python -m s3router ml-superb-score --ref data/all/test/reference --hyp "${work}/${system}/decode/test/text" \
            ${more[@]+"${more[@]}"} --json "${work}/${system}/figures.json" >"${work}/${system}/figures.txt"
        figures+=("${system}=${work}/${system}/figures.json")
    done
    python -m s3router ml-superb-score --figures "${figures[@]}" --output "${work}/RESULTS.md"
}

main
