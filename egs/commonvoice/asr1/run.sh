#!/usr/bin/env bash
# Common Voice, one language of a release: phonemes (PER), letters (CER, WER) or sentencepiece units from one hour.
#
#   ./run.sh --lang nl --release /data/cv-corpus-17.0-2024-03-15
#   ./run.sh --lang tr --release /data/cv-corpus-17.0-2024-03-15 --token-type char --method weight
#   ./run.sh --lang sv-SE --stage 3                                       go on from the third stage
#   ./run.sh --lang nl --release DIR --upstream tiny --max-updates 50     does everything work? (no GPU)
#   ./run.sh --help                                                       all options
#
# Stages: 1 corpus (from --release), 2 checks and token list, 3 feature cache, 4 training, 5 decoding, 6 table.
# Several languages: run_multilingual.sh. Languages, settings, figures: README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What this recipe knows of its corpus; an option given on the command line comes later, and wins. --release is the name
# that --corpus has here.
. ../../TEMPLATE/asr1/asr.sh \
    --lang nl \
    --subset 1h \
    --known-subsets "1min 10min 1h 10h all" \
    --own-subsets true \
    --train-set train \
    --valid-set dev \
    --test-sets test \
    --token-type phn \
    --upstream xls_r_300m \
    --sparsity-of "xls_r_300m=0.06 xlsr_53=0.06" \
    --corpus-option release \
    "${@/#--release/--corpus}"
