# shellcheck shell=bash
# Source this after the options of a script have been given their defaults:
#
#     lang=en        # the language
#     max_updates=3000  # how long to train
#     skip_it=false  # leave it out
#     . "${S3ROUTER_ROOT}/utils/parse_options.sh"
#
# Every `name=default  # meaning` line of the sourcing script up to that line is an option: --max-updates 100,
# --max_updates 100, --max-updates=100, and, for those that are true or false, --skip-it alone. A whole number stays a
# whole number. --help prints the list, made from the same lines, with the defaults in force. Anything else is refused,
# with the list of the known ones, before anything has run. Options given later win.
# The leading comment of the script is the head of the help text.

_options_of() { # the names, in the order of the script
    sed -n '/parse_options\.sh/q; s/^\([a-z][a-z0-9_]*\)=.*/\1/p' "$1"
}

_option_help() {
    local name line
    sed -n '2,/^[^#]/{/^#/!d; s/^# \{0,1\}//; p}' "$1"
    printf '\nOptions (with what they are if not given):\n'
    while read -r name; do
        line=$(grep -m 1 "^${name}=" "$1")
        case ${line} in *' # '*) line=${line#*' # '} ;; *) line= ;; esac
        printf '  --%-18s %s%s\n' "${name//_/-}" "${line}" " [${!name}]"
    done < <(_options_of "$1")
}

_option_die() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 2
}

_parse_options() {
    local script=$1 option name value known default
    shift
    known=" $(_options_of "${script}" | tr '\n' ' ')"
    while [ $# -gt 0 ]; do
        option=$1
        shift
        case ${option} in
            -h | --help)
                _option_help "${script}"
                exit 0
                ;;
            --?*) ;;
            *) _option_die "unexpected argument '${option}': options look like --name value (see --help)" ;;
        esac
        name=${option#--}
        name=${name%%=*}
        name=${name//-/_}
        case ${known} in
            *" ${name} "*) ;;
            *) _option_die "unknown option ${option%%=*}; the known ones are:$(_known_options "${known}")" ;;
        esac
        default=${!name}
        case ${option} in
            *=*) value=${option#*=} ;;
            *)
                if [[ ${default} =~ ^(true|false)$ ]] && [[ ${1-} != true && ${1-} != false ]]; then
                    value=true
                elif [ $# -eq 0 ]; then
                    _option_die "${option} needs a value (see --help)"
                else
                    value=$1
                    shift
                fi
                ;;
        esac
        if [[ ${default} =~ ^(true|false)$ ]] && [[ ! ${value} =~ ^(true|false)$ ]]; then
            _option_die "--${name//_/-} is true or false, not '${value}'"
        fi
        if [[ ${default} =~ ^[0-9]+$ ]] && [[ ! ${value} =~ ^[0-9]+$ ]]; then
            _option_die "--${name//_/-} is a whole number, not '${value}'"
        fi
        printf -v "${name}" %s "${value}"
    done
}

_known_options() {
    local name
    for name in $1; do printf ' --%s' "${name//_/-}"; done
}

_parse_options "${BASH_SOURCE[1]}" "$@"
