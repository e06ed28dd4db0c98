#!/usr/bin/env bash
# Masks for many languages on one backbone: trains them, packs them, and prints one table. (Sweeps, seeds and intervals:
# s3router experiment run conf/table.yaml.)
#
#   ./run_multilingual.sh --release /data/cv-corpus-17.0-2024-03-15
#   ./run_multilingual.sh --release DIR --langs "nl tr" --upstream tiny --run-args "--max-updates 50"
#
# A language that fails is named at the end; the others are trained all the same. What is finished is skipped. Logs are in
# exp/launch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

release=              # folder of the unpacked release, with a folder for each language
langs="nl zh-TW es tt ru it ky tr sv-SE fr en"  # the languages
upstream=xls_r_300m   # the backbone that they share
method=router         # router: masks and one backbone; weight: a model for each, to compare with
sparsity=             # share of the weights that the masks remove (default: as in run.sh)
subset=1h             # labelled part of each language
token_type=phn        # phn, char or bpe
seed=0                # of initialisation, batches and dropout
stop_stage=6          # last stage of each language's run.sh
jobs=1                # languages at a time
run_args=             # further options of run.sh, such as "--ngpu 1"
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

main() {
    local lang name exps=() failed=() options=() more
    option_is_one_of method router weight frozen
    option_is_word upstream
    option_is_count jobs
    option_is_one_of subset 1min 10min 1h 10h all
    option_is_one_of token_type phn char bpe
    [ -z "${sparsity}" ] || option_in_range sparsity 0 1
    option_is_folder release
    for lang in ${langs}; do
        [ -z "${release}" ] || [ -d "${release}/${lang}" ] || die "--langs: ${release} has no folder ${lang}"
    done
    read -ra more <<<"${run_args}"
    name=${subset}_${token_type}_${upstream}_${method}${sparsity:+_s${sparsity}}_seed${seed}
    routes=exp/routes_${name}
    options=(--lang "{lang}" --upstream "${upstream}" --method "${method}" --subset "${subset}" --seed "${seed}"
        --token-type "${token_type}" --tag "{lang}_${name}" --stop-stage "${stop_stage}" ${more[@]+"${more[@]}"})
    [ -z "${sparsity}" ] || options+=(--sparsity "${sparsity}")
    [ -z "${release}" ] || options+=(--release "${release}")
    # a language that fails is named there, with the command that goes on with it; the others are trained all the same
    python -m s3router launch --folder "exp/launch/${name}" --jobs "${jobs}" --over "lang=${langs// /,}" -- \
        ./run.sh "${options[@]}" || failed+=("training")
    for lang in ${langs}; do
        [ -s "exp/${lang}_${name}/valid.cer_ctc.best.pth" ] && [ "${stop_stage}" -ge 5 ] || continue
        [ ! -s "exp/${lang}_${name}/decode_test/result.json" ] || exps+=("exp/${lang}_${name}")
        [ "${method}" != router ] || (pack "${lang}" "exp/${lang}_${name}") || failed+=("the pack of ${lang}")
    done
    if [ "${stop_stage}" -ge 6 ] && [ ${#exps[@]} -gt 0 ]; then
        python -m s3router results "${exps[@]}" --sets test --output "exp/RESULTS_${name}.md"
    fi
    [ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]} (see above). This command goes on with what is not done"
}

# A pack for each trained language, for s3router transcribe --routes.
pack() {
    run_once "${routes}/$1.log" --inputs "$2/valid.cer_ctc.best.pth" --outputs "${routes}/$1.pack" -- \
        python -m s3router pack "$2" --route "$1" -o "${routes}/$1.pack"
}

main
