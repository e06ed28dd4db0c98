# shellcheck shell=bash disable=SC2034,SC2154
# What the local/data.sh of the recipes beside it share: sourced after `usage` is set, with the script's arguments. Sets
# corpus, downloads, data, fold, lists, lexicon, here and fetch; gives die, unpack and prepare.
corpus='' downloads=downloads data=data fold='' lists='' lexicon=''
die() { echo "local/data.sh: $*" >&2; exit 1; }
while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) echo "$usage"; exit 0 ;;
        --corpus | --downloads | --data | --fold | --lists | --lexicon)
            [[ $# -ge 2 ]] || die "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        *) die "unknown option $1
$usage" ;;
    esac
done
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
fetch=$root/egs/superb/fetch.sh

unpack() { # unpack ARCHIVE FOLDER: into downloads/FOLDER, whole or not at all
    local work
    [[ ! -d $downloads/$2 ]] || return 0
    work=$(mktemp -d "$downloads/.unpack.XXXXXX")
    echo "local/data.sh: unpacking $1" >&2
    case $1 in
        *.zip) python3 -m zipfile -e "$downloads/$1" "$work" ;;
        *) tar -xzf "$downloads/$1" -C "$work" --no-same-owner ;;
    esac || { rm -rf "$work" && die "$downloads/$1 is damaged; delete it and run again"; }
    mv "$work" "$downloads/$2"
}

prepare() { # prepare OPTIONS...: local/prepare.py with the project's Python
    local python=python3 venv=${S3ROUTER_VENV:-$root/tools/venv}
    if [[ -x $venv/bin/python ]]; then python=$venv/bin/python; fi
    PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" "$here/prepare.py" --out "$data" "$@"
}
