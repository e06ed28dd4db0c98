#!/usr/bin/env bash
# All five folds of emotion recognition with the same options, and the mean of their accuracies. (Sweeps, seeds and masks
# over all folds: s3router experiment run conf/table.yaml.)
#
#   ./run_folds.sh --upstream wav2vec2_base --lr "1e-3 1e-4"       (options as of run.sh; --tag and --fold are set here)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && . ../../../utils/path.sh

for option in "$@"; do
    case ${option} in --help | -h) exec ./run.sh --help ;; --tag* | --fold*)
        echo "run_folds.sh: ${option%%=*} is set by this script; leave it out" >&2 && exit 2 ;;
    esac
done
name=folds_$(printf '%s\n' "$@" | sha256sum | cut -c -8)
./run.sh "$@" --fold 1 --tag "${name}_1" --stage 1 --stop-stage 2 # what is wrong is said once, and not five times
python -m s3router launch --folder "exp/${name}" --over fold=1..5 -- ./run.sh "$@" --fold "{fold}" --tag "${name}_{fold}"
python -m s3router superb-table --folds exp/"${name}"_[1-5] --output "exp/${name}.md"
echo "(exp/${name}.md: $*)"
