#!/usr/bin/env bash
# RESULTS.md: frozen, weight and router over sparsities, with seeds. Learning rates are decided on dev, with the first
# seed. Options: those of utils/class_table.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec ../../../utils/class_table.sh "$@"
