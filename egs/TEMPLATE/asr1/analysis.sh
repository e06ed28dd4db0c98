# shellcheck shell=bash
# What the masks of finished runs say of their languages: a pack of each, and one analysis of all.
# Ends with ANALYSIS.md, and in analysis/ the same as one HTML page, with figures and tables.
#
# Sourced by the run_analysis.sh of a recipe, with the names of its runs and sets and then the options that the user gave.
# All runs must be of one upstream and mask the same weights: CTC and whole recognisers apart.
set -euo pipefail

S3ROUTER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
. "${S3ROUTER_ROOT}/utils/path.sh"
. "${S3ROUTER_ROOT}/utils/stage.sh"

runs=             # folders of finished runs, by pattern; of grids without languages: LANG=PATTERN
transfer_runs=    # those whose masks also serve the other languages, with a head fitted anew; none: no transfer
# shellcheck disable=SC2034 # read by name
train=            # data directories that these heads learn from: a path with {lang} in it, and LANG=PATH for others
# shellcheck disable=SC2034
dev=              # the same, to choose the best head on
# shellcheck disable=SC2034
test=             # the same, to test it on
max_test_seconds= # longer test sets are cut to this
transfer_seeds=   # of the heads, several of them in quotes (0)
audio=            # data directories that frozen and routed representations are compared on
speech=           # data directories with texts, for the purity of characters: a path with {lang} in it, and LANG=PATH for others
upstream_ckpt=    # the backbone's checkpoint, where its name does not imply one
language=         # ROUTE=CODE, where a language's name is no ISO 639 code
folder=analysis   # for the HTML page, figures and tables
output=ANALYSIS.md # the page
command="./run_analysis.sh" # what the page says that it was written by
maker="./run_table.sh" # what makes runs, for messages
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

main() {
    local packs=() langs=() options=()
    packs_of "${runs}"
    [ -z "${upstream_ckpt}" ] || options+=(--upstream-ckpt "${upstream_ckpt}")
    [ ${#packs[@]} -gt 1 ] || die "--runs '${runs}': ${#packs[@]} finished runs; two at least are compared (${maker} makes them)"
    [ -z "${transfer_runs}" ] || transfer
    # shellcheck disable=SC2206 # words
    [ -z "${audio}" ] || options+=(--audio ${audio})
    [ -z "${speech}" ] || add_speech
    # shellcheck disable=SC2206
    [ -z "${language}" ] || options+=(--language ${language})
    python -m s3router analyze "${packs[@]}" -o "${folder}" --markdown "${output}" ${options[@]+"${options[@]}"} \
        --command "${command}"
}

# packs_of RUNS: adds a pack of each finished run to packs, and its language to langs
packs_of() {
    local word pattern lang run
    # shellcheck disable=SC2086 # words
    set -f && set -- $1 && set +f
    for word in "$@"; do
        lang='' pattern=${word}
        [[ ${word} != *=* ]] || { lang=${word%%=*} && pattern=${word#*=}; }
        for run in ${pattern}; do
            [ -s "${run}/result.json" ] || continue # not finished
            pack "${run}" "${lang}"
        done
    done
}

pack() { # pack RUN LANG; without a language it is the one that the run's result names
    local lang=${2:-$(language_of "$1/result.json")} file
    [ -n "${lang}" ] || die "$1: its grid has no languages; say LANG=PATTERN in --runs"
    file=exp/analysis/${lang}_$(basename "$1").pack
    run_once "${file%.pack}.log" --inputs "$1/result.json" --outputs "${file}" -- \
        python -m s3router pack "$1" --route "${lang}" -o "${file}"
    packs+=("${file}")
    langs+=("${lang}")
}

language_of() {
    python -c 'import json, sys; print(json.load(open(sys.argv[1], encoding="utf-8")).get("lang", ""))' "$1"
}

# Heads for every language under every mask; options gets the table.
transfer() {
    local all=("${packs[@]}") opts=() name
    packs=() langs=()
    packs_of "${transfer_runs}"
    [ ${#packs[@]} -gt 0 ] || die "--transfer-runs '${transfer_runs}': no finished runs (${maker} makes them)"
    for name in train dev test; do
        [ -n "${!name}" ] || die "--${name} is missing: transfer needs the sets of the languages"
        opts+=("--${name}")
        words_for "${!name}"
    done
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream-ckpt "${upstream_ckpt}")
    [ -z "${max_test_seconds}" ] || opts+=(--max-test-seconds "${max_test_seconds}")
    # shellcheck disable=SC2086 # words
    python -m s3router transfer "${packs[@]}" -o "${folder}/transfer.csv" "${opts[@]}" --seeds ${transfer_seeds:-0}
    packs=("${all[@]}")
    options+=(--relate "transfer=${folder}/transfer.csv")
}

add_speech() {
    local opts=()
    words_for "${speech}"
    options+=(--speech "${opts[@]}")
}

words_for() { # adds those words to opts that are no LANG=PATH, or of a language that is served
    local word
    # shellcheck disable=SC2086 # words
    set -f && set -- $1 && set +f
    for word in "$@"; do
        [[ ${word} == *=* ]] && [[ " ${langs[*]} " != *" ${word%%=*} "* ]] || opts+=("${word}")
    done
}

main
