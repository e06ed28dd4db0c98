#!/usr/bin/env bash
# From nothing to a WER/CER table: the Asterisk voice prompts, one language, one model. About ten minutes on two cores; the
# default upstream, tiny, ends at 38 % CER on English, whisper_base at 10 %.
#
#   ./run.sh                                           English, masks that remove 10 % of the feed-forward weights
#   ./run.sh --lang fr --subset 5min --sparsity 0.06
#   ./run.sh --upstream whisper_base --train-args "--score_lr 1e-3 --head_lr 2e-3"     a strong upstream
#   ./run.sh --method weight --stage 4 --stop-stage 5
#   ./run.sh --skip-data-prep --train-set /my/train --valid-set /my/dev --test-sets /my/test
#   ./run.sh --help                                    all options
#
# Stages: 1 corpus, 2 subsets, checks and token list, 3 feature cache, 4 training, 5 decoding, 6 table.
# The corpus, its licences and what was dropped from it: README.md. The results table: run_table.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What this recipe knows of its corpus; an option given on the command line comes later, and wins.
. ../../TEMPLATE/asr1/asr.sh \
    --lang en \
    --known-langs "en es fr it ru" \
    --train-set train \
    --valid-set dev \
    --test-sets test \
    "$@"
