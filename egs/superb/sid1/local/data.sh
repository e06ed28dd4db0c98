#!/usr/bin/env bash
# VoxCeleb1 by its official split for identification -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" sid1 "$@"
