#!/usr/bin/env bash
# Make the Python environment of s3router, or find in a moment that it is ready. Needs no root.
#
#   tools/setup.sh [--with-lm] [--with-onnx] [--with-serve] [--with-data] [--with-all] [--check]
#
#   --with-lm   also the beam-search decoder with n-gram language models (flashlight-text; CPython 3.12 alone has it)
#   --with-onnx also what s3router bake --onnx needs (onnx, onnxruntime)
#   --with-serve also what s3router serve needs (FastAPI, uvicorn …), and its tests (openai, selenium)
#   --with-data also HuggingFace's datasets and lhotse, for s3router convert and training from Python
#   --with-all  all of these, as far as the interpreter has them
#   --check     check what is installed once more, even where it is known to be ready
#
# S3ROUTER_VENV=/your/env   use an environment of your own: it is checked, never changed
# S3ROUTER_PYTHON=/a/python the interpreter to build tools/venv with (CPython 3.12 or 3.13)
# pip's own settings (PIP_INDEX_URL, PIP_CACHE_DIR, proxies ...) are honoured.
#
# May be killed at any moment and run again: the stamp that says "ready" is written last.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "${tools}")
venv=${S3ROUTER_VENV:-${tools}/venv}
with_lm=false
with_onnx=false
with_serve=false
with_data=false
with_all=false
pyenv=${PYENV_ROOT:-${HOME:-/root}/.pyenv}/versions
needed_gib=9 # 7 for the environment, the rest for the largest wheel while it is unpacked

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}

main() {
    local check=false
    while [ $# -gt 0 ]; do
        case $1 in
            --with-lm | --with_lm) with_lm=true ;;
            --with-onnx | --with_onnx) with_onnx=true ;;
            --with-serve | --with_serve) with_serve=true ;;
            --with-data | --with_data) with_data=true ;;
            --with-all | --with_all) with_all=true ;;
            --check) check=true ;;
            -h | --help) usage && exit 0 ;;
            *) die "unknown option $1; the known ones are --with-lm --with-onnx --with-serve --with-data --with-all" \
                "--check --help" ;;
        esac
        shift
    done
    settle_extras
    key=$(stamp_key)
    [ "${check}" = true ] || ! all_ready || return 0
    # One set-up at a time for each clone; the lock goes with the process, so none is left behind by a kill.
    [ -w "${tools}" ] || die "${tools} cannot be written to (it belongs to $(stat -c %U "${tools}")): work in a clone of your" \
        "own, or ask for permission"
    exec 9>>"${tools}/.setup.lock"
    if ! command -v flock >/dev/null; then
        say "there is no flock here (util-linux): do not call two set-ups at once"
    elif ! flock --nonblock 9; then
        say "another set-up is running in ${tools}: waiting for it (process $(cat "${tools}/.setup.lock"))"
        flock 9
        [ "${check}" = true ] || ! all_ready || return 0
    fi
    echo "$$ on $(uname -n)" >"${tools}/.setup.lock"
    if is_foreign; then
        [ -x "${venv}/bin/python" ] || die "S3ROUTER_VENV=${venv}: there is no bin/python in it; name an environment that" \
            "is there, or unset it and have ${tools}/venv made"
        say "checking ${venv} (yours: it is not changed)"
    else
        make_venv
        settle_extras
        install
    fi
    local extras=()
    [ "${with_lm}" = false ] || extras+=(--with-lm)
    [ "${with_onnx}" = false ] || extras+=(--with-onnx)
    [ "${with_serve}" = false ] || extras+=(--with-serve)
    [ "${with_data}" = false ] || extras+=(--with-data)
    if ! is_foreign; then
        extras+=(--constraints "${tools}/constraints.txt")
        unset PYTHONDONTWRITEBYTECODE # else each start compiles all that it imports: the trial keeps what it has compiled
    fi
    "${venv}/bin/python" "${tools}/check_install.py" ${extras[@]+"${extras[@]}"} ||
        die "${venv} is not usable: see above. $(is_foreign || echo "To build it anew: rm -r ${venv}, then ${tools}/setup.sh")"
    write_stamp base
    [ "${with_lm}" = false ] || write_stamp lm
    [ "${with_onnx}" = false ] || write_stamp onnx
    [ "${with_serve}" = false ] || write_stamp serve
    [ "${with_data}" = false ] || write_stamp data
    say "ready: ${venv}"
}

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

# What is asked for, against what there is for this environment's interpreter; before there is one, nothing is refused.
settle_extras() {
    local has_lm=true
    [ ! -e "${venv}/bin/python3.13" ] || has_lm=false
    if [ "${with_all}" = true ]; then
        with_lm=${has_lm}
        with_onnx=true
        with_serve=true
        with_data=true
    elif [ "${with_lm}" = true ] && [ "${has_lm}" = false ]; then
        die "--with-lm: there is no flashlight-text for CPython 3.13. Leave --with-lm out (decoding is greedy then), or" \
            "build with 3.12: rm -r ${venv} && S3ROUTER_PYTHON=/path/to/python3.12 ${tools}/setup.sh --with-lm"
    fi
}

is_foreign() { [ "${venv}" != "${tools}/venv" ]; }

# The environment is ready for one list of pins, one set of checks and one place on disk.
stamp_key() {
    {
        echo "${root} ${venv}"
        cat "${tools}/constraints.txt" "${tools}/check_install.py" "${root}/pyproject.toml"
    } | sha256sum | cut -d' ' -f1
}

stamp_file() {
    if is_foreign; then echo "${tools}/venv.stamps/$(basename "${venv}").$1"; else echo "${venv}/.ready.$1"; fi
}

is_ready() { [ -x "${venv}/bin/python" ] && [ "$(cat "$(stamp_file "$1")" 2>/dev/null)" = "${key}" ]; }

all_ready() {
    is_ready base && { [ "${with_lm}" = false ] || is_ready lm; } && { [ "${with_onnx}" = false ] || is_ready onnx; } &&
        { [ "${with_serve}" = false ] || is_ready serve; } && { [ "${with_data}" = false ] || is_ready data; }
}

write_stamp() {
    local file
    file=$(stamp_file "$1")
    mkdir -p "$(dirname "${file}")"
    echo "${key}" >"${file}.tmp"
    mv "${file}.tmp" "${file}"
}

make_venv() {
    local found
    found=$(version_of "${venv}/bin/python")
    if is_supported "${found}" && "${venv}/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    local python free_gib
    python=$(find_python)
    free_gib=$(($(df -Pk "${tools}" | awk 'NR == 2 { print $4 }') / 1048576))
    [ "${free_gib}" -ge "${needed_gib}" ] ||
        die "${tools} has ${free_gib} GiB free and the environment needs about ${needed_gib}: make room, or set" \
            "S3ROUTER_VENV to an environment elsewhere"
    [ -z "${found}" ] || is_supported "${found}" || say "${venv} is of Python ${found}: it is made anew"
    say "making ${venv} with ${python:-uv}"
    rm -rf "${venv}"
    if [ -n "${python}" ]; then
        # Debian keeps the pip that venv needs in a package of its own, which may be missing.
        "${python}" -m venv "${venv}" >/dev/null 2>&1 ||
            "${python}" -m virtualenv -q "${venv}" 2>/dev/null ||
            virtualenv -q -p "${python}" "${venv}" 2>/dev/null ||
            uv venv -q --seed --clear --python "${python}" "${venv}" 2>/dev/null ||
            { rm -rf "${venv}" && die "$(no_venv_message "${python}")"; }
    else
        uv venv -q --seed --clear --python 3.12 "${venv}" || die "uv could not make ${venv}"
    fi
}

no_venv_message() {
    echo "${1} cannot make virtual environments (no ensurepip). One of these helps:"
    echo "  apt-get install python3-venv              (root)"
    echo "  ${1} -m pip install --user virtualenv     (no root)"
    echo "  S3ROUTER_PYTHON=/another/python3.12 ${tools}/setup.sh"
}

# Prints MAJOR.MINOR of an interpreter; nothing where there is none, or where it does not run, as some shims of pyenv.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

is_supported() { [ "$1" = 3.12 ] || [ "$1" = 3.13 ]; }

# Prints the interpreter to build with, or nothing where uv will bring one.
find_python() {
    local candidate candidates=("${S3ROUTER_PYTHON:-}") looked=${S3ROUTER_PYTHON:-}
    if [ -z "${looked}" ]; then
        candidates=(python3.12 "${pyenv}"/3.12*/bin/python python3.13 "${pyenv}"/3.13*/bin/python python3 python)
        looked="python3.12 python3.13 python3 python, ${pyenv}, uv"
    fi
    for candidate in "${candidates[@]}"; do
        if is_supported "$(version_of "${candidate}")"; then
            command -v "${candidate}" && return
        fi
    done
    if [ -z "${S3ROUTER_PYTHON:-}" ] && command -v uv >/dev/null; then
        return
    fi
    die "found neither CPython 3.12 nor 3.13 (looked for ${looked}). One of these brings it:" $'\n' \
        " apt-get install python3.12 python3.12-venv    (root; Ubuntu 24.04; python3.13 on Debian 13)" $'\n' \
        " pyenv install 3.12                            (no root)" $'\n' \
        " pip install uv                                (no root; ${tools}/setup.sh then has uv fetch it)" $'\n' \
        " S3ROUTER_PYTHON=/path/to/python3.12 ${tools}/setup.sh    (where it is elsewhere)"
}

# The list of pins is complete, so pip has nothing to resolve. Two entries are treated apart: setuptools comes first
# (it builds the few pure-Python packages that have no wheel), and the extras only on demand.
install() {
    local pins="${venv}/.pins.txt"
    rm -f "${venv}"/.ready.*
    "${venv}/bin/python" "${tools}/check_install.py" --repair
    say "installing $(grep -c '==' "${tools}/constraints.txt") pinned packages; fetches about 3.4 GB where nothing is here yet (log: ${venv}/setup.log)"
    : >"${venv}/setup.log"
    run_pip "$(grep '^setuptools==' "${tools}/constraints.txt")"
    cp "${tools}/constraints.txt" "${pins}"
    [ "${with_lm}" = true ] || leave_out lm
    [ "${with_onnx}" = true ] || leave_out onnx
    [ "${with_serve}" = true ] || leave_out serve
    [ "${with_data}" = true ] || leave_out data
    run_pip --no-deps --no-build-isolation -r "${pins}"
    run_pip --no-deps --no-build-isolation -e "${root}"
}

# Takes an extra's packages out of the list of pins.
leave_out() {
    grep -v -F -f <(sed '/^#/d;s/$/==/' "${tools}/requirements-$1.txt") "${pins}" >"${pins}.some"
    mv "${pins}.some" "${pins}"
}

# Modules are compiled when they are first imported, many of them by check_install.py: most never are, and all of them
# take minutes on a slow machine.
run_pip() {
    local attempt
    for attempt in 1 2 3; do
        if "${venv}/bin/python" -m pip install --disable-pip-version-check --no-input --no-compile --retries 5 --timeout 60 \
            "$@" >>"${venv}/setup.log" 2>&1; then
            return
        fi
        [ "${attempt}" = 3 ] || { say "pip failed, trying again in $((attempt * 5)) s" && sleep $((attempt * 5)); }
    done
    tail -n 20 "${venv}/setup.log" >&2
    die "pip could not install: the last lines of ${venv}/setup.log are above. Is the package index reachable?" \
        "Running the same command again goes on from here"
}

main "$@"
