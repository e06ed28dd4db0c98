#!/usr/bin/env bash
# LibriMix for diarisation -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" sd1 "$@"
