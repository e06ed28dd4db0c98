# shellcheck shell=bash disable=SC2034,SC2154
# Source this in a recipe's local/data.sh: its options, archives, and `s3router prepare`. Sets here (the recipe's folder
# local) and root (this clone). The script sets `usage`, its help text, and each of its options to the default.
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    echo "local/${0##*/}: $*" >&2
    exit 1
}

# local_options NAMES ARGUMENTS...: --some-name VALUE sets some_name, if it is one of the NAMES ("some-name other").
local_options() {
    local _names=" $1 " _name
    shift
    while [[ $# -gt 0 ]]; do
        case $1 in --help | -h) echo "${usage}" && exit 0 ;; esac
        _name=${1#--}
        [[ $1 =~ ^--[a-z-]+$ && ${_names} == *" ${_name} "* ]] || die "unknown option $1
${usage}"
        [[ $# -ge 2 ]] || die "$1 needs a value"
        printf -v "${_name//-/_}" %s "$2"
        shift 2
    done
}

# unpack ARCHIVE FOLDER [PART]: an archive that lies in ${downloads}, or a folder PART in it, becomes ${downloads}/FOLDER,
# whole or not at all.
unpack() {
    local work
    [[ ! -d ${downloads}/$2 ]] || return 0
    work=$(mktemp -d "${downloads}/.unpack.XXXXXX")
    echo "local/data.sh: unpacking $1" >&2
    case $1 in
        *.zip) python3 -m zipfile -e "${downloads}/$1" "${work}" ;;
        *) tar -xzf "${downloads}/$1" -C "${work}" --no-same-owner ;;
    esac || { rm -rf "${work}" && die "${downloads}/$1 is damaged; delete it and run again"; }
    mkdir -p "$(dirname "${downloads}/$2")"
    mv "${work}${3:+/$3}" "${downloads}/$2"
    rm -rf "${work}"
}

# prepare NAME SOURCE TARGET OPTIONS...
prepare() {
    s3router prepare "$@"
}

# s3router COMMAND...: with the project's Python.
s3router() {
    local python=python3 venv=${S3ROUTER_VENV:-${root}/tools/venv}
    if [[ -x ${venv}/bin/python ]]; then python=${venv}/bin/python; fi
    PYTHONPATH=${root}${PYTHONPATH:+:${PYTHONPATH}} "${python}" -m s3router "$@"
}

# github_archive OWNER/REPOSITORY REVISION: fetches and unpacks a repository's archive; prints its folder.
github_archive() {
    local name=${1##*/}-$2 url=https://github.com/$1/archive/$2.tar.gz
    say() { echo "local/data.sh: $*" >&2; }
    # shellcheck source=utils/download.sh
    . "${root}/utils/download.sh"
    mkdir -p "${downloads}"
    if [[ ! -d ${downloads}/${name} ]]; then
        if [[ ! -f ${downloads}/${name}.tar.gz ]]; then
            say "fetching ${url}"
            download "${url}" "${downloads}/${name}.tar.gz" 3 || die "${url} cannot be fetched. Put it at ${downloads}/${name}.tar.gz and
run again, or name a clone of the repository with --corpus DIR"
            mv "${downloads}/${name}.tar.gz.part" "${downloads}/${name}.tar.gz"
        fi
        unpack "${name}.tar.gz" "${name}"
    fi
    echo "${downloads}/${name}"/*
}
