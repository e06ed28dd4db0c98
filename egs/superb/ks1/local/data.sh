#!/usr/bin/env bash
# Speech Commands v1 with the twelve classes of SUPERB -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" ks1 "$@"
