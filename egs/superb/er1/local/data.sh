#!/usr/bin/env bash
# IEMOCAP -> data/foldK/{train,dev,test}: session K is the test set. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" er1 "$@"
