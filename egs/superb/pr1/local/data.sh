#!/usr/bin/env bash
# LibriSpeech as phonemes of its lexicon -> data/{train,dev,test}. Options: --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh" pr1 "$@"
