#!/usr/bin/env bash
# Fetch one file, whole and checked (called by local/data.sh and local/lm.sh).
#
#   local/fetch.sh URL DOWNLOADS [CHECKSUMS]
#
# Leaves DOWNLOADS/FILE. An interrupted download goes on where it was; a file whose checksum (local/checksums.txt) is
# wrong is removed. A file that lies there already, put there by hand, is checked, too.
set -euo pipefail

url=$1 downloads=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checksums=${3:-$here/checksums.txt}
name=${url##*/}
file=$downloads/$name

say() { echo "local/fetch.sh: $*" >&2; }
. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/download.sh"

is_right() { # is_right FILE
    local kind sum
    read -r kind sum _ < <(grep " $name\$" "$checksums") || {
        say "$checksums has no line for $name"
        exit 1
    }
    "${kind}sum" "$1" | grep -q "^$sum "
}

mkdir -p "$downloads"
[[ ! -f $file.checked ]] || [[ ! -f $file ]] || exit 0
if [[ ! -f $file ]]; then
    say "fetching $url"
    # a part that is whole already makes a server refuse to go on with it
    [[ -f $file.part ]] && is_right "$file.part" || download "$url" "$file" 3 || {
        say "cannot fetch it. Put $name into $downloads and run again, or name a folder that holds the unpacked corpus"
        exit 1
    }
    mv "$file.part" "$file"
fi
say "checking $file"
if ! is_right "$file"; then
    rm -f "$file"
    say "$file was damaged (another checksum than in $checksums); it is removed: run again"
    exit 1
fi
touch "$file.checked"
