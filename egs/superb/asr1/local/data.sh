#!/usr/bin/env bash
# LibriSpeech as letters -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" asr1 "$@"
