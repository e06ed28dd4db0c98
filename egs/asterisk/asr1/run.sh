#!/usr/bin/env bash
# From nothing to a WER/CER table: the Asterisk voice prompts, one language, one model, in six to ten minutes on two cores.
# Masks adapt a whole Whisper (whisper_base, encoder and decoder); where it cannot be downloaded, a line says so, and the small
# upstream that ships with s3router, tiny, learns to write letters (CTC).
#
#   ./run.sh                                           English, masks that remove 5 % of the feed-forward weights
#   ./run.sh --lang fr --subset 5min --sparsity 0.10
#   ./run.sh --method lora                             or weight: what people would do otherwise
#   ./run.sh --task ctc                                letters on the encoder of whisper_base
#   ./run.sh --upstream tiny                           the recipe behind RESULTS.md
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
    --task auto \
    --upstream whisper_base \
    --fallback whisper_base=tiny \
    --corpus-form prompts \
    "$@"
