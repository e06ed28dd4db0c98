#!/usr/bin/env bash
# SUPERB speaker verification: VoxCeleb1, trained on its development speakers, tested on the trials of the other 40.
#
#   ./run.sh --upstream wav2vec2_base --lr "1e-3 1e-4"                   frozen upstream: the constrained track
#   ./run.sh --upstream wav2vec2_base --method router --sparsity 0.1      a mask of the upstream for this task
#   ./run.sh --corpus DIR                                               a corpus that you have already
#   ./run.sh --help                                                     all options
#
# Stages: 1 corpus, 2 checks, 3 training (one run for each learning rate), 4 selection on the validation trials (speakers
# held out of training), 5 scores of the test trials (with the submission's file), 6 table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ../../TEMPLATE/superb.sh --task sv --cache false "$@"
