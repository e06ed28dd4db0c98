#!/usr/bin/env bash
# LibriSpeech with few labels: 10 minutes, 1 hour, 10 hours (Libri-light's lists), or train-clean-100.
#
#   ./run.sh --subset 10h --sparsity 0.1 --upstream wav2vec2_base_960
#   ./run.sh --subset 1h --upstream hubert_base --librispeech /data/LibriSpeech      a corpus that you have already
#   ./run.sh --subset 10min --upstream tiny --max-updates 50                         does everything work? (no GPU)
#   ./run.sh --help                                                                  all options
#
# Stages: 1 corpus (fetched, with checksums, unless --librispeech names it), 2 checks and token list, 3 feature cache,
# 4 training, 5 decoding, 6 table. Selection on dev-clean and dev-other. Language model, settings, figures: README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What this recipe knows of its corpus; an option given on the command line comes later, and wins. --librispeech is the
# name that --corpus has here. Sparsity of the large model: where the paper's curve is lowest.
. ../../TEMPLATE/asr1/asr.sh \
    --lang en \
    --known-langs en \
    --subset 10h \
    --known-subsets "10min 1h 10h 100h" \
    --own-subsets true \
    --train-set train \
    --valid-set dev \
    --decode-valid false \
    --test-sets "dev_clean dev_other test_clean test_other" \
    --tokens conf/tokens.txt \
    --upstream wav2vec2_base_960 \
    --sparsity-of "wav2vec2_large_ll60k=0.04" \
    --corpus-option librispeech \
    "${@/#--librispeech/--corpus}"
