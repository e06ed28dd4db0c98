#!/usr/bin/env bash
# Make the runs behind RESULTS.md that are missing, and write RESULTS.md and its plots from all that are there.
# Unattended, for hours; killed and called again it goes on. What is run stands in conf/table.yaml.
#
#   ./run_table.sh --dry-run                    what there is to do
#   ./run_table.sh --jobs 2                     two runs at a time, one thread each
#   ./run_table.sh --only '^en_5min'            a part of it
#   ./run_table.sh --max-updates 40 --no-sweep --seeds 0 --only '^en_2min'     a trial, kept under exp/trial
#   ./run_table.sh --report-only                rewrite RESULTS.md from results/
#   ./run_table.sh --help                       all options
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=utils/path.sh
. ../../../utils/path.sh
# One thread a run: two runs side by side do more on two cores than one run with two threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python local/table/make.py "$@"
