#!/usr/bin/env bash
# SUPERB intent classification: Fluent Speech Commands, three slots that must all be right.
#
#   ./run.sh --upstream wav2vec2_base --lr "1e-2 1e-3 1e-4"              frozen upstream: the constrained track
#   ./run.sh --upstream wav2vec2_base --method router --sparsity 0.1      a mask of the upstream for this task
#   ./run.sh --corpus DIR                                               a corpus that you have already
#   ./run.sh --help                                                     all options
#
# Stages: 1 corpus, 2 checks, 3 training (one run for each learning rate), 4 selection on the validation set, 5
# prediction of the test set (with the submission's file), 6 table. Selection never looks at the test set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ../../TEMPLATE/superb.sh --task ic "$@"
