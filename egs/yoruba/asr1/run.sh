#!/usr/bin/env bash
# Yoruba with 10 or 50 labelled minutes: a language that public models hardly know, one speaker, real recordings.
#
#   ./run.sh --subset 10min --sparsity 0.10            masks on the encoder of whisper_base, CTC over letters
#   ./run.sh --subset all --method weight              50 minutes; finetune the weights instead
#   ./run.sh --corpus /data/yoruba_speech_project      a clone that you have already
#   ./run.sh --help                                    all options
#
# Stages: 1 corpus, 2 checks and token list, 3 feature cache, 4 training, 5 decoding, 6 table. README.md tells of the corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What this recipe knows of its corpus; an option given on the command line comes later, and wins.
. ../../TEMPLATE/asr1/asr.sh \
    --lang yo \
    --known-langs yo \
    --subset 10min \
    --known-subsets "10min all" \
    --own-subsets true \
    --train-set train \
    --valid-set dev \
    --test-sets test \
    --upstream whisper_base \
    --corpus-form sentences \
    --plain-cer true \
    "$@"
