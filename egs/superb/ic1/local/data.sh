#!/usr/bin/env bash
# Fluent Speech Commands -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" ic1 "$@"
