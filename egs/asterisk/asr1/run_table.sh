#!/usr/bin/env bash
# The runs behind RESULTS.md (conf/table.yaml), or those of another grid: ./run_table.sh conf/seq2seq.yaml. Makes those that
# are missing, then the page and its figures. Unattended, for hours; killed and called again it goes on. Further options:
# s3router experiment run --help. With --quick after conf/pruning.yaml: a few updates of each method, to see that all runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && . ./path.sh
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # of each run: two side by side do more on two cores than one with two threads
grid=conf/table.yaml
case ${1:-} in *.yaml) grid=$1 && shift ;; esac
if [ "${1:-}" = --quick ]; then
    shift
    set -- --max-updates 4 --no-sweep --seeds 0 --only '_(weight|s0.70)_' "$@"
fi
exec python -m s3router experiment run "${grid}" "$@"
