# shellcheck shell=bash
# Source this: what the stage scripts are made of. Checks of options, needed files, stages, and steps that run once.

log() { printf '%s %s\n' "$(date '+%H:%M:%S')" "$*"; }

die() {
    printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# --- checks of options: option_is_one_of NAME KNOWN..., option_in_range NAME LOW HIGH (number, HIGH itself excluded)
option_is_one_of() {
    local name=$1 known
    shift
    for known in "$@"; do
        [ "${!name}" != "${known}" ] || return 0
    done
    die "--${name//_/-} '${!name}' is not known; the known ones are: $*"
}

# Training methods, as s3router.tuners has them.
# shellcheck disable=SC2034 # for the scripts that source this
methods="scratch frozen weight ffn_weight lora dora bitfit houlsby sparse_delta bitdelta magnitude router omp imp parp parp_p router_p"

has_masks() { [[ " magnitude router omp imp parp parp_p router_p " == *" $1 "* ]]; }

option_in_range() {
    if [[ ! ${!1} =~ ^[0-9]*\.?[0-9]+$ ]] ||
        ! awk -v x="${!1}" -v low="$2" -v high="$3" 'BEGIN { exit !(x >= low && x < high) }'; then
        die "--${1//_/-} '${!1}' is not a number from $2 up to, but not including, $3"
    fi
}

each_in_range() { # as option_in_range, for each word of the option
    local name=$1 "$1" words=${!1}
    for words in ${words}; do
        printf -v "${name}" %s "${words}"
        option_in_range "$@"
    done
}

option_is_word() {
    [[ ${!1} =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] ||
        die "--${1//_/-} '${!1}' becomes part of a folder's name: use letters, digits and _ . - only"
}

option_is_count() {
    [[ ${!1} =~ ^[1-9][0-9]*$ ]] || die "--${1//_/-} '${!1}' is not a whole number above 0"
}

option_is_folder() { # option_is_folder NAME [WHAT A RECIPE CALLS IT]; or nothing
    [ -z "${!1}" ] || [ -d "${!1}" ] || die "--${2:-${1//_/-}} ${!1}: no such folder"
}

gpus_are_here() { # once the environment is there: gpus_are_here 0,1
    [[ $1 =~ ^[0-9]+(,[0-9]+)*$ ]] || die "--gpus '$1': numbers of GPUs are needed, separated by commas"
    python - "$1" <<'END' || die "--gpus $1 cannot be used: see above"
import sys

import torch

here = torch.cuda.device_count()
lacking = [number for number in sys.argv[1].split(",") if int(number) >= here]
if lacking:
    sys.exit(f"GPU {', '.join(lacking)}: torch finds {here} here; s3router doctor says more")
END
}

option_is_checkpoint() { # a path to one that is there; what is no path, s3prl and the Hugging Face hub will look for
    if [[ ${!1} == [./]* ]] && [ ! -e "${!1}" ]; then die "--${1//_/-} ${!1}: no such file"; fi
}

upstream_is_known() { # once the environment is there: a mistyped name is refused before data are prepared for it
    # shellcheck disable=SC2154 # options of the sourcing script, as in run_stage
    local name=${upstream} ckpt=${upstream_ckpt:+--upstream-ckpt=${upstream_ckpt}}
    [ "${name}" = tiny ] || python -m s3router upstream known "${name}" ${ckpt:+"${ckpt}"} ||
        die "--upstream ${name} cannot be used: see above"
}

stages_in_order() { # stages_in_order LAST
    # shellcheck disable=SC2154 # options of the sourcing script, as in run_stage
    [ "${stage}" -le "${stop_stage}" ] || die "--stage ${stage} comes after --stop-stage ${stop_stage}: nothing to do"
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge 1 ] ||
        die "--stage ${stage} --stop-stage ${stop_stage}: nothing to do, the stages are 1 to $1"
}

# need_writable FOLDER...: stop, unless each, or the folder that it will be made in, can be written to.
need_writable() {
    local folder
    for folder in "$@"; do
        while [ ! -e "${folder}" ]; do folder=$(dirname "${folder}"); done
        [ -w "${folder}" ] || die "$(readlink -f "${folder}") cannot be written to (it belongs to $(stat -c %U "${folder}")):" \
            "work in a clone of your own, or ask for permission"
    done
}

# need FILE COMMAND: stop, unless FILE is there and not empty (or a folder), saying where it comes from.
need() {
    [ -d "$1" ] || [ -s "$1" ] || die "$1 is missing or empty. It comes from: $2"
}

# same_settings FOLDER OPTIONS FILE...: a folder with checkpoints goes on with the options and configuration files that
# it was begun with, or not at all. Without checkpoints it takes the new ones.
same_settings() {
    local folder=$1 new="${1}/.settings.new.${RANK:-0}" file # machines that train together share the folder
    mkdir -p "${folder}"
    {
        # one option per line, so that a difference can be read
        printf '%s\n' "${2// --/$'\n'--}"
        for file in "${@:3}"; do printf '# %s\n' "${file}" && cat "${file}"; done
    } >"${new}"
    if [ -s "${folder}/settings" ] && compgen -G "${folder}/*.pth" >/dev/null && ! cmp -s "${new}" "${folder}/settings"; then
        diff "${folder}/settings" "${new}" | sed -n 's/^</  before:/p; s/^>/  now:   /p' >&2 || true
        rm -f "${new}"
        die "${folder} holds a model of other settings (above). Give this one a name of its own with --tag NAME," \
            "or remove the folder"
    fi
    mv "${new}" "${folder}/settings"
}

# run_stage NUMBER TITLE FUNCTION: runs FUNCTION when NUMBER lies between ${stage} and ${stop_stage}, two options of the
# sourcing script.
run_stage() {
    # shellcheck disable=SC2154
    if [ "$1" -lt "${stage}" ] || [ "$1" -gt "${stop_stage}" ]; then return 0; fi
    log "Stage $1: $2"
    "$3"
}

# one_at_a_time FILE WHAT: of runs that are started at once and make the same files (data of several seeds or subsets, one
# model twice), the second waits, and finds them finished. Locked until file descriptor 8 is closed; FILE says by whom.
one_at_a_time() {
    command -v flock >/dev/null || return 0
    mkdir -p "$(dirname "$1")"
    exec 8>>"$1"
    if ! flock --nonblock 8; then
        log "another run $2: waiting for it ($(exec 8>&- && lock_holder "$1"))"
        flock 8 || { log "  this file system has no locks: going on without" && return; }
    fi
    printf '%s %s %s\n' "$$" "$(uname -n)" "$(readlink -f "$0")" >"$1"
}

# lock_holder FILE: who has locked it; where that process has been killed, what it has left running.
lock_holder() {
    local pid host command other left=
    read -r pid host command <"$1" || { echo "process unknown" && return; }
    if [ "${host}" = "$(uname -n)" ] && ! kill -0 "${pid}" 2>/dev/null; then
        for other in $(find -L /proc/[0-9]*/fd -maxdepth 1 -samefile "$1" 2>/dev/null | cut -d/ -f3 | sort -un); do
            # find has had it open, too
            if [ "${other}" != $$ ] && kill -0 "${other}" 2>/dev/null; then left+="${other} "; fi
        done
        [ -z "${left}" ] || pid="${left% }, left by ${pid}"
    fi
    echo "process ${pid} on ${host}: ${command}"
}

# in_group [--log FILE] COMMAND...: COMMAND in a process group of its own, with FILE as a copy of its output. A signal that
# ends this script ends the group, too.
in_group() {
    local status=0 copy=
    if [ "$1" = --log ]; then copy=$2 && shift 2; fi
    set -m
    if [ -n "${copy}" ]; then
        "$@" </dev/null 2>&1 | tee "${copy}" &
    else
        "$@" </dev/null &
    fi
    set +m
    group=$(jobs -p %%)
    wait "$!" || status=$?
    group=
    return "${status}"
}

group=
end_group() { # end_group STATUS
    trap '' HUP INT TERM
    [ -z "${group}" ] || { kill -TERM -- "-${group}" && wait; } 2>/dev/null
    exit "$1"
}
trap 'end_group 129' HUP
trap 'end_group 130' INT
trap 'end_group 143' TERM

# run_once LOG [--show] [--inputs FILE...] [--outputs FILE...] -- COMMAND...
#
# Runs COMMAND with its output in LOG (its last line, or with --show all of it, on the screen, too), unless it has been run before with the same
# words on the same inputs (files, or the files in a folder, by name, size and time) and its outputs are still there: LOG.done remembers that. A command
# that fails shows the first problems and the last lines of its log and ends the recipe; its outputs do not count as
# finished.
run_once() {
    local log_file=$1 list='' show=false key file status=0
    local inputs=() outputs=()
    shift
    while [ "$1" != -- ]; do
        case $1 in
            --show) show=true ;;
            --inputs | --outputs) list=$1 ;;
            *) if [ "${list}" = --inputs ]; then inputs+=("$1"); else outputs+=("$1"); fi ;;
        esac
        shift
    done
    shift
    for file in ${inputs[@]+"${inputs[@]}"}; do [ -e "${file}" ] || die "$* needs ${file}, which is missing"; done
    key=$({
        printf '%s\n' "$*"
        for file in ${inputs[@]+"${inputs[@]}"}; do
            if [ -d "${file}" ]; then # logs and hidden files in it do not count
                find -L "${file}" -maxdepth 1 -type f ! -name '.*' ! -name 'log*' -printf '%p %s %T@\n'
            else
                find -L "${file}" -maxdepth 0 -type f -printf '%p %s %T@\n'
            fi
        done | sort
    } | sha256sum)
    if [ "$(cat "${log_file}.done" 2>/dev/null)" = "${key}" ] && all_exist ${outputs[@]+"${outputs[@]}"}; then
        log "  finished before (to do it again: rm ${log_file}.done)"
        return
    fi
    mkdir -p "$(dirname "${log_file}")"
    rm -f "${log_file}.done"
    if [ "${show}" = true ]; then
        in_group --log "${log_file}" "$@" || status=$?
    else
        in_group "$@" >"${log_file}" 2>&1 || status=$?
    fi
    if [ "${status}" -ne 0 ]; then
        # what was shown may have gone elsewhere than errors do
        if [ "${show}" = false ] || ! { [ -t 1 ] || [ /dev/fd/1 -ef /dev/fd/2 ]; }; then show_log "${log_file}" >&2; fi
        die "'$*' failed (status ${status}); its output is in ${log_file}"
    fi
    for file in ${outputs[@]+"${outputs[@]}"}; do
        [ -e "${file}" ] || die "'$*' has ended well but left no ${file}; its output is in ${log_file}"
    done
    [ "${show}" = true ] || tail -n 1 "${log_file}"
    printf '%s\n' "${key}" >"${log_file}.done"
}

# show_log FILE: all of a short log; of a long one the first lines that name a problem, where the cause mostly is, and
# the last ones.
show_log() {
    if [ "$(wc -l <"$1")" -le 30 ]; then
        printf -- '--- %s:\n' "$1" && cat "$1"
        return
    fi
    printf -- '--- the first problems in %s:\n' "$1"
    grep -m 1 -A 9 -iE '(^|[^a-z])(errors?|problems?|failed|cannot|traceback)([^a-z]|$)' "$1" || head -n 5 "$1"
    printf -- '--- its last lines:\n'
    tail -n 15 "$1"
}

all_exist() {
    local file
    for file in "$@"; do [ -e "${file}" ] || return 1; done
}
