#!/usr/bin/env bash
# What the masks of finished runs say of their languages: a pack of each, and one analysis of all. Minutes; nothing trains.
# Ends with ANALYSIS.md, and in analysis/ the same as one HTML page, with figures and tables.
#
#   ./run_analysis.sh                                        masks of ./run_table.sh conf/seq2seq.yaml on five minutes
#   ./run_analysis.sh --audio "dump/es/dev dump/ru/dev"      representations, too
#   ./run_analysis.sh --runs "exp/seq2seq/*_5min_*_router_* yo=../../yoruba/asr1/exp/seq2seq/*_router_*"
#
# All runs must be of one upstream and mask the same weights: CTC and whole recognisers apart.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

runs="exp/seq2seq/*_5min_*_router_*" # folders, by pattern; of other grids than those with languages: LANG=PATTERN
audio=                               # data directories that frozen and routed representations are compared on
language=                            # ROUTE=CODE, where a language's name is no ISO 639 code
folder=analysis                      # for the HTML page, figures and tables
output=ANALYSIS.md                   # the page
command="./run_analysis.sh$(printf ' %q' "$@")"
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

main() {
    local word pattern lang run packs=() options=()
    # shellcheck disable=SC2086 # words
    set -f && set -- ${runs} && set +f
    for word in "$@"; do
        lang='' pattern=${word}
        [[ ${word} != *=* ]] || { lang=${word%%=*} && pattern=${word#*=}; }
        for run in ${pattern}; do
            [ -s "${run}/result.json" ] || continue # not finished
            pack "${run}" "${lang}"
        done
    done
    [ ${#packs[@]} -gt 1 ] || die "--runs '${runs}': ${#packs[@]} finished runs; two at least are compared (./run_table.sh makes them)"
    # shellcheck disable=SC2206 # words
    [ -z "${audio}" ] || options+=(--audio ${audio})
    # shellcheck disable=SC2206
    [ -z "${language}" ] || options+=(--language ${language})
    python -m s3router analyze "${packs[@]}" -o "${folder}" --markdown "${output}" ${options[@]+"${options[@]}"} \
        --command "${command}"
}

pack() { # pack RUN LANG: adds it to packs; without a language it is the one that the run's result names
    local lang=${2:-$(language_of "$1/result.json")} file
    [ -n "${lang}" ] || die "$1: its grid has no languages; say LANG=PATTERN in --runs"
    file=exp/analysis/${lang}_$(basename "$1").pack
    run_once "${file%.pack}.log" --inputs "$1/result.json" --outputs "${file}" -- \
        python -m s3router pack "$1" --route "${lang}" -o "${file}"
    packs+=("${file}")
}

language_of() {
    python -c 'import json, sys; print(json.load(open(sys.argv[1], encoding="utf-8")).get("lang", ""))' "$1"
}

main
