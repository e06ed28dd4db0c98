#!/usr/bin/env bash
# SUPERB query by example: QUESST 2014, spoken queries in spoken documents. Nothing is trained: queries are warped onto
# documents (DTW) in the hidden states of a frozen upstream; the layer is chosen on the development queries.
#
#   ./run.sh --upstream wav2vec2_base                       all layers
#   ./run.sh --upstream wav2vec2_base --layers "5 6 7 8"    some of them
#   ./run.sh --corpus DIR                                   a corpus that you have already
#   ./run.sh --help                                         all options
#
# Stages: 1 corpus, 2 checks, 3 hidden states, the layer, and the search (with the submission's file and a table).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
S3ROUTER_ROOT=$(cd ../../.. && pwd)
. "${S3ROUTER_ROOT}/utils/path.sh"
. "${S3ROUTER_ROOT}/utils/stage.sh"
. "${S3ROUTER_ROOT}/utils/sets.sh"

stage=1          # first stage
stop_stage=3     # last stage
ngpu=0           # GPUs (0: CPU), for the upstream; the search itself runs on the CPU
nj=2             # threads that check audio
corpus=          # folder in which the corpus lies already (default: local/data.sh fetches it)
skip_data_prep=false # do not run local/data.sh: the sets below are there already
local_data_opts= # further options of local/data.sh
documents=documents # Kaldi directory to search in: a path, or a name under data/
valid_set=dev    # the same of queries, with hits and, for the leaderboard's scale, all_languages.json; decides the layer
test_sets="test" # the same, searched with that layer; separated by spaces
upstream=tiny    # the upstream: tiny, or a name that s3router upstream list prints, or s3prl's
upstream_ckpt=   # its checkpoint, where the name does not imply one
layers=          # layers to try, from 0, in quotes (default: all)
tag=             # name of the experiment's folder (default: made from the options)
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

main() {
    local layer
    option_is_word upstream
    option_is_count nj
    [ -z "${tag}" ] || option_is_word tag
    option_is_folder corpus
    [ -n "${test_sets}" ] || die "nothing to search for: name test sets"
    for layer in ${layers}; do [[ ${layer} =~ ^[0-9]+$ ]] || die "layer '${layer}' is not a whole number"; done
    option_is_checkpoint upstream_ckpt
    stages_in_order 3
    mapfile -t sets < <(each_set "${test_sets}")
    sets=("$(locate "${documents}")" "$(locate "${valid_set}")" "${sets[@]}")
    exp=exp/${tag:-${upstream}_frozen}
    need_writable data "${exp}"
    "${S3ROUTER_ROOT}/tools/setup.sh"
    run_stage 1 "corpus -> data" prepare_corpus
    run_stage 2 "checks of the sets" check_sets
    run_stage 3 "search -> ${exp}" search
}

prepare_corpus() {
    local opts
    corpus_options || return 0
    local/data.sh ${opts[@]+"${opts[@]}"} || die "local/data.sh failed: see above"
}

search() {
    local set opts=(--upstream "${upstream}" --hidden-dir "dump/hidden/${exp##*/}" --output-dir "${exp}") inputs=() outputs=()
    need_sets
    [ -z "${upstream_ckpt}" ] || opts+=(--upstream-ckpt "${upstream_ckpt}")
    [ "${ngpu}" -eq 0 ] || opts+=(--device cuda)
    # shellcheck disable=SC2206 # words
    [ -z "${layers}" ] || opts+=(--layers ${layers})
    for set in "${sets[@]}"; do inputs+=("${set}/wav.scp"); done
    for set in "${sets[@]:1}"; do
        inputs+=("${set}/hits")
        [ ! -f "${set}/all_languages.json" ] || inputs+=("${set}/all_languages.json")
    done
    for set in "${sets[@]:2}"; do outputs+=("${exp}/predict_$(basename "${set}")/result.json"); done
    [ "${upstream}" != tiny ] || inputs+=("${S3ROUTER_TINY:-${S3ROUTER_ROOT}/s3router/upstreams/tiny}/model.safetensors")
    run_once "${exp}/search.log" --show --inputs "${inputs[@]}" --outputs "${exp}/RESULTS.md" "${outputs[@]}" -- \
        python -m s3router superb-search "${opts[@]}" --documents "${sets[0]}" --valid-dir "${sets[1]}" \
        --test-dirs "${sets[@]:2}"
}

need_sets() {
    local set how="you (or name another with --documents, --valid-set or --test-sets)"
    [ "${skip_data_prep}" = true ] || how="this command with --stage 1"
    for set in "${sets[@]}"; do need "${set}/wav.scp" "${how}"; done
    for set in "${sets[@]:1}"; do need "${set}/hits" "${how}"; done
}

data=data sets=()
main
