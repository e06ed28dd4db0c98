#!/usr/bin/env bash
# SUPERB speaker diarisation: LibriMix, mixtures of two speakers with noise (Libri2Mix, 16 kHz, max, mix_both).
#
#   ./run.sh --corpus DIR --upstream wav2vec2_base --lr "1e-2 1e-3 1e-4"   frozen upstream: the constrained track
#   ./run.sh --corpus DIR --upstream wav2vec2_base --method router --sparsity 0.1
#   ./run.sh --help                                                       all options
#
# Stages: 1 corpus, 2 checks, 3 training (one run for each learning rate), 4 selection on the validation set (which chooses
# threshold and median filter, too), 5 prediction of the test set (with the submission's files), 6 table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ../../TEMPLATE/superb.sh --task sd --cache false "$@"
