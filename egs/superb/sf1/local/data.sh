#!/usr/bin/env bash
# Audio SNIPS -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" sf1 "$@"
