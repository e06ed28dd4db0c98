#!/usr/bin/env bash
# VoxCeleb1 for verification -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" sv1 "$@"
