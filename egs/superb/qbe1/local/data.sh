#!/usr/bin/env bash
# QUESST 2014, its English part -> data/{documents,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" qbe1 "$@"
