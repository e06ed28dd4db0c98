#!/usr/bin/env bash
# Language identification over the Asterisk voice prompts: five languages.
#
#   ./run.sh                                           frozen upstream
#   ./run.sh --method router --sparsity 0.1              a mask of the upstream for this task
#   ./run.sh --lr "1e-2 3e-3 1e-3"                     several learning rates, decided on dev
#   ./run.sh --help                                    all options
#
# Stages: 1 corpus, 2 checks, 3 training, 4 selection on dev, 5 prediction of test, 6 table. The whole table: run_table.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ../../TEMPLATE/superb.sh --task cls --crop 3 "$@"
