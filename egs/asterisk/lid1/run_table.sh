#!/usr/bin/env bash
# The runs behind RESULTS.md (conf/table.yaml): makes those that are missing, then the page. Killed and called again it goes
# on. Options: s3router experiment run --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && . ../../../utils/path.sh
exec python -m s3router experiment run conf/table.yaml "$@"
