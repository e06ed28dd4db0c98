#!/usr/bin/env bash
# Speaker verification over the voices of Asterisk prompts: trained on four people, tested on three others.
#
#   ./run.sh                                           frozen upstream
#   ./run.sh --method router --sparsity 0.1              a mask of the upstream for this task
#   ./run.sh --lr "3e-3 1e-3"                          several learning rates, decided on the trials of dev
#   ./run.sh --help                                    all options
#
# Stages: 1 corpus, 2 checks, 3 training, 4 selection on dev, 5 scores of the test trials, 6 table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ../../TEMPLATE/superb.sh --task sv --cache false "$@"
