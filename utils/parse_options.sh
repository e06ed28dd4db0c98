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
# The head of the help text is the leading comment of the script that was called.

_options_of() { # the names, in the order of the script
    sed -n '/parse_options\.sh/q; s/^\([a-z][a-z0-9_]*\)=.*/\1/p' "$1"
}

_found() { # a script's file, wherever it has gone to since it was called by a relative name
    if [ -e "$1" ]; then printf %s "$1"; else printf %s "${1##*/}"; fi
}

_option_help() {
    local _name _line
    sed -n '2,/^[^#]/{/^#/!d; s/^# \{0,1\}//; p}' "$(_found "${BASH_SOURCE[-1]}")"
    printf '\nOptions (with what they are if not given):\n'
    while read -r _name; do
        _line=$(grep -m 1 "^${_name}=" "$1")
        case ${_line} in *' # '*) _line=${_line#*' # '} ;; *) _line= ;; esac
        printf '  --%-18s %s%s\n' "${_name//_/-}" "${_line}" " [${!_name}]"
    done < <(_options_of "$1")
}

_option_die() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 2
}

# The locals are called _like_this: an option may have any other name.
_parse_options() {
    local _script=$1 _option _name _value _known _default
    local -A _defaults # the kind of a value is that of the script's own, not of an earlier --name
    shift
    _known=" $(_options_of "${_script}" | tr '\n' ' ')"
    while [ $# -gt 0 ]; do
        _option=$1
        shift
        case ${_option} in
            -h | --help)
                _option_help "${_script}"
                exit 0
                ;;
            --?*) ;;
            *) _option_die "unexpected argument '${_option}': options look like --name value (see --help)" ;;
        esac
        _name=${_option#--}
        _name=${_name%%=*}
        _name=${_name//-/_}
        case ${_known} in
            *" ${_name} "*) ;;
            *) _option_die "unknown option ${_option%%=*}; the known ones are:$(_spelled "${_known}")" ;;
        esac
        _defaults[${_name}]=${_defaults[${_name}]-${!_name}}
        _default=${_defaults[${_name}]}
        case ${_option} in
            *=*) _value=${_option#*=} ;;
            *)
                if [[ ${_default} =~ ^(true|false)$ ]] && [[ ${1-} != true && ${1-} != false ]]; then
                    _value=true
                elif [ $# -eq 0 ]; then
                    _option_die "${_option} needs a value (see --help)"
                else
                    _value=$1
                    shift
                fi
                ;;
        esac
        if [[ ${_default} =~ ^(true|false)$ ]] && [[ ! ${_value} =~ ^(true|false)$ ]]; then
            _option_die "--${_name//_/-} is true or false, not '${_value}'"
        fi
        if [[ ${_default} =~ ^[0-9]+$ ]] && [[ ! ${_value} =~ ^[0-9]+$ ]]; then
            _option_die "--${_name//_/-} is a whole number, not '${_value}'"
        fi
        printf -v "${_name}" %s "${_value//$'\n'/ }" # lists over several lines are read like those on one
    done
}

_spelled() { # names as options, on one line
    local _name
    for _name in $1; do printf ' --%s' "${_name//_/-}"; done
}

_parse_options "$(_found "${BASH_SOURCE[1]}")" "$@"
