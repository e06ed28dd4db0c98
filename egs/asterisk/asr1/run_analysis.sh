#!/usr/bin/env bash
# What the masks of finished runs say of their languages: a pack of each, how well each mask serves the other languages,
# and one analysis of all. No mask trains; heads do, and that takes an hour of a core, the rest half an hour.
#
#   s3router experiment run conf/ctc.yaml --only _router_    the masks: five languages of prompts here,
#   (cd ../../yoruba/asr1 && s3router experiment run conf/ablation.yaml --only 'router_s0.10' --seeds 0 1 2)    Yoruba,
#   (cd ../../mboshi/asr1 && s3router experiment run conf/ctc_300.yaml --only _router_)    and Mboshi, in the same way
#   ./run_analysis.sh                                        packs, ANALYSIS.md and analysis/, of what of them is there
#   ./run_analysis.sh --transfer-runs "" --audio "" --speech ""    bits alone, in two minutes
#   ./run_analysis.sh --runs "exp/seq2seq/*_5min_*_router_*" --transfer-runs "" --speech ""    masks of whole recognisers
#
# ../../TEMPLATE/asr1/analysis.sh tells of all options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

yoruba=../../yoruba/asr1 mboshi=../../mboshi/asr1
. ../../TEMPLATE/asr1/analysis.sh \
    --runs "exp/ctc/*_router_s0.10_seed* yo=${yoruba}/exp/ablation/10min_*_router_s0.10_seed* mdw=${mboshi}/exp/ctc_300/10min_*_router_s0.10_seed*" \
    --transfer-runs "exp/ctc/*_router_s0.10_seed0_* yo=${yoruba}/exp/ablation/10min_*_router_s0.10_seed0_* mdw=${mboshi}/exp/ctc_300/10min_*_router_s0.10_seed0_*" \
    --train "dump/{lang}/train_5min yo=${yoruba}/dump/yo/train_10min mdw=${mboshi}/dump/mdw/train_10min" \
    --dev "dump/{lang}/dev yo=${yoruba}/dump/yo/dev mdw=${mboshi}/dump/mdw/dev" \
    --test "dump/{lang}/test yo=${yoruba}/dump/yo/test mdw=${mboshi}/dump/mdw/test" \
    --max-test-seconds 600 \
    --audio "dump/en/dev dump/ru/dev" \
    --speech "dump/{lang}/dev yo=${yoruba}/dump/yo/dev mdw=${mboshi}/dump/mdw/dev" \
    --maker "s3router experiment run conf/ctc.yaml" \
    --command "./run_analysis.sh${1+$(printf ' %q' "$@")}" \
    "$@"
