#!/usr/bin/env bash
# Any utterance classification: Kaldi directories (wav.scp and utt2label, one "UTTERANCE LABEL" per line) -> accuracy.
#
#   ./run.sh --train-set /my/train --valid-set /my/dev --test-sets /my/test
#   ./run.sh --train-set /my/train --valid-set /my/dev --test-sets /my/test --method router --sparsity 0.1 --lr "1e-2 1e-3"
#   ./run.sh --help                                    all options
#
# wav.scp may name files of any format and rate, ark offsets, or pipes. A label is one word, and every class needs a
# training utterance. Models, predictions and the table are left in exp/ (of this folder, or of a copy of it beside it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ../superb.sh --task cls --skip-data-prep true "$@"
