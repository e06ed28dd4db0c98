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

option_in_range() {
    if [[ ! ${!1} =~ ^[0-9]*\.?[0-9]+$ ]] ||
        ! awk -v x="${!1}" -v low="$2" -v high="$3" 'BEGIN { exit !(x >= low && x < high) }'; then
        die "--${1//_/-} '${!1}' is not a number from $2 up to, but not including, $3"
    fi
}

option_is_word() {
    [[ ${!1} =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] ||
        die "--${1//_/-} '${!1}' becomes part of a folder's name: use letters, digits and _ . - only"
}

option_is_count() {
    [[ ${!1} =~ ^[1-9][0-9]*$ ]] || die "--${1//_/-} '${!1}' is not a whole number above 0"
}

option_is_folder() { # or nothing
    [ -z "${!1}" ] || [ -d "${!1}" ] || die "--${1//_/-} ${!1}: no such folder"
}

option_is_checkpoint() { # a path to one that is there; what is no path, s3prl and the Hugging Face hub will look for
    if [[ ${!1} == [./]* ]] && [ ! -e "${!1}" ]; then die "--${1//_/-} ${!1}: no such file"; fi
}

stages_in_order() {
    # shellcheck disable=SC2154 # options of the sourcing script, as in run_stage
    [ "${stage}" -le "${stop_stage}" ] || die "--stage ${stage} comes after --stop-stage ${stop_stage}: nothing to do"
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
        # one option a line, so that a difference can be read
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

# run_once LOG [--show] [--inputs FILE...] [--outputs FILE...] -- COMMAND...
#
# Runs COMMAND with its output in LOG (its last line, or with --show all of it, on the screen, too), unless it has been run before with the same
# words on the same inputs (files, or the files in a folder, by name, size and time) and its outputs are still there: LOG.done remembers that. A command
# that fails shows the last lines of its log and ends the recipe; its outputs do not count as finished.
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
        [ ${#inputs[@]} -eq 0 ] || find -L "${inputs[@]}" -maxdepth 1 -type f ! -name '.*' ! -name 'log*' -printf '%p %s %T@\n' | sort
    } | sha256sum)
    if [ "$(cat "${log_file}.done" 2>/dev/null)" = "${key}" ] && all_exist ${outputs[@]+"${outputs[@]}"}; then
        log "  finished before (to do it again: rm ${log_file}.done)"
        return
    fi
    mkdir -p "$(dirname "${log_file}")"
    rm -f "${log_file}.done"
    if [ "${show}" = true ]; then
        "$@" 2>&1 | tee "${log_file}" || status=${PIPESTATUS[0]}
    else
        "$@" >"${log_file}" 2>&1 || status=$?
    fi
    if [ "${status}" -ne 0 ]; then
        [ "${show}" = true ] || { printf -- '--- the last lines of %s:\n' "${log_file}" && tail -n 15 "${log_file}"; } >&2
        die "'$*' failed (status ${status}); its output is in ${log_file}"
    fi
    for file in ${outputs[@]+"${outputs[@]}"}; do
        [ -e "${file}" ] || die "'$*' has ended well but left no ${file}; its output is in ${log_file}"
    done
    [ "${show}" = true ] || tail -n 1 "${log_file}"
    printf '%s\n' "${key}" >"${log_file}.done"
}

all_exist() {
    local file
    for file in "$@"; do [ -e "${file}" ] || return 1; done
}
