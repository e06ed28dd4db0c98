#!/usr/bin/env bash
# What the masks of the finished runs of conf/ctc.yaml say of their languages, and how well each mask serves the others.
#
#   s3router experiment run conf/ctc.yaml --only _router_ --seeds 0 1 2      the masks
#   ./run_analysis.sh                                    packs, analysis/transfer.csv, ANALYSIS.md and analysis/
#   ./run_analysis.sh --transfer-runs ""                 without transfer, whose heads take half a minute each
#   ./run_analysis.sh --audio "dump/el/dev dump/ca/dev"  representations, too
#   ./run_analysis.sh --speech "dump/{lang}/dev"         how pure characters are in each layer, with masks and without
#
# ../../TEMPLATE/asr1/analysis.sh tells of all options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

. ../../TEMPLATE/asr1/analysis.sh \
    --runs "exp/ctc/*_router_s0.10_seed*" \
    --transfer-runs "exp/ctc/*_router_s0.10_seed0_*" \
    --train "dump/{lang}/train_5min da=dump/da/train" \
    --dev "dump/{lang}/dev" \
    --test "dump/{lang}/test" \
    --maker "s3router experiment run conf/ctc.yaml" \
    --command "./run_analysis.sh${1+$(printf ' %q' "$@")}" \
    "$@"
