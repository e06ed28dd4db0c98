#!/usr/bin/env bash
# What the masks of finished runs say of their languages: a pack of each, and one analysis of all. Minutes; nothing trains.
#
#   ./run_analysis.sh                                        masks of ./run_table.sh conf/seq2seq.yaml on five minutes
#   ./run_analysis.sh --audio "dump/es/dev dump/ru/dev"      representations, too
#   ./run_analysis.sh --runs "exp/seq2seq/*_5min_*_router_* yo=../../yoruba/asr1/exp/seq2seq/*_router_*"
#
# ../../TEMPLATE/asr1/analysis.sh tells of all options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

. ../../TEMPLATE/asr1/analysis.sh \
    --runs "exp/seq2seq/*_5min_*_router_*" \
    --train "dump/{lang}/train_5min" \
    --dev "dump/{lang}/dev" \
    --test "dump/{lang}/test" \
    --command "./run_analysis.sh${1+$(printf ' %q' "$@")}" \
    "$@"
