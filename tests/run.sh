#!/usr/bin/env bash
# Lint, shellcheck and all tests; sets up what is missing first. Arguments go to pytest: tests/run.sh -k masks
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. utils/path.sh
tools/setup.sh --with-all || exit 1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # a process of tests on each of two cores, so a thread each
export HF_HUB_OFFLINE=1 # a test that reaches for the network is a broken test

# Two processes, each with whole files, whose fixtures are made once; one where a part was asked for (-n 2 for two).
workers=(-n 2 --dist loadfile)
[ $# -eq 0 ] || workers=()

failed=()
step() {
    printf '\n== %s\n' "$1"
    "${@:2}" || failed+=("$1")
}

mapfile -t scripts < <(find . -path './tools/venv*' -prune -o -path './egs/*/*/data' -prune -o \
    -path './egs/*/*/downloads' -prune -o -path './egs/*/*/exp' -prune -o -name '*.sh' -type f -print | sort)

step "ruff check" python -m ruff check --no-cache .
step "ruff format" python -m ruff format --no-cache --check .
step "shellcheck" shellcheck "${scripts[@]}" .ci/run
step "pytest" python -m pytest -p no:cacheprovider "${workers[@]}" "$@"

if [ ${#failed[@]} -gt 0 ]; then
    printf 'tests/run.sh: FAILED: %s\n' "$(IFS=, && echo "${failed[*]}")" >&2
    exit 1
fi
