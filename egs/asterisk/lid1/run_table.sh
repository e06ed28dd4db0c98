#!/usr/bin/env bash
# The runs behind RESULTS.md (conf/table.yaml), or those of another grid: ./run_table.sh conf/whisper_base.yaml. Makes those that
# are missing, then the page. Killed and called again it goes on. Further options: s3router experiment run --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && . ../../../utils/path.sh
grid=conf/table.yaml
case ${1:-} in *.yaml) grid=$1 && shift ;; esac
exec python -m s3router experiment run "${grid}" "$@"
