#!/usr/bin/env bash
# Mboshi with 10 minutes, 1 hour or all of 3.8 hours labelled: a language that public models do not know, three speakers.
#
#   ./run.sh --subset 10min --sparsity 0.10            masks on the encoder of whisper_base, CTC over letters
#   ./run.sh --subset all --method weight              3.8 hours; finetune the weights instead
#   ./run.sh --corpus /data/mboshi-french-parallel-corpus      a clone that you have already
#   ./run.sh --help                                    all options
#
# Stages: 1 corpus, 2 checks and token list, 3 feature cache, 4 training, 5 decoding, 6 table. README.md tells of the corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What this recipe knows of its corpus; an option given on the command line comes later, and wins.
. ../../TEMPLATE/asr1/asr.sh \
    --lang mdw \
    --known-langs mdw \
    --subset 10min \
    --known-subsets "10min 1h all" \
    --own-subsets true \
    --train-set train \
    --valid-set dev \
    --test-sets test \
    --upstream whisper_base \
    --corpus-form sentences \
    --language-token auto \
    "$@"
