#!/usr/bin/env bash
# Names of drawings, spoken in nine languages: 4 to 16 minutes of labelled speech each, real voices, from a Debian package.
#
#   ./run.sh --lang el                                 Greek: masks on a whole Whisper, encoder and decoder
#   ./run.sh --lang be --subset 5min --method lora     Belarusian, five minutes; LoRA instead
#   ./run.sh --lang ro --task ctc --sparsity 0.10      letters on the encoder of whisper_base
#   ./run.sh --help                                    all options
#
# Stages: 1 corpus, 2 subsets, checks and token list, 3 feature cache, 4 training, 5 decoding, 6 table. README.md tells of the corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What this recipe knows of its corpus; an option given on the command line comes later, and wins.
. ../../TEMPLATE/asr1/asr.sh \
    --lang el \
    --known-langs "be bg ca da el es fr ro ru" \
    --known-subsets "2min 5min all" \
    --train-set train \
    --valid-set dev \
    --test-sets test \
    --task auto \
    --upstream whisper_base \
    --fallback whisper_base=tiny \
    --corpus-form sentences \
    "$@"
