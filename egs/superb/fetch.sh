#!/usr/bin/env bash
# Fetch one file, and check it where its checksum is published (called by the local/data.sh of the recipes beside it).
#
#   ../fetch.sh URL DOWNLOADS [SHA256 [OTHERWISE]]
#
# Leaves DOWNLOADS/FILE. An interrupted download goes on where it was. A file that lies there already, put there by
# hand, is checked, too. Without SHA256 the file's own checksum is noted in FILE.sha256, and holds from then on. OTHERWISE
# says what else the user can do where there is no network.
set -euo pipefail

url=$1 downloads=$2 sum=${3:-}
otherwise=${4:-"name the folder of the unpacked corpus: ./run.sh --corpus DIR"}
name=${url##*/}
file=$downloads/$name
say() { echo "fetch.sh: $*" >&2; }
. "$(dirname "${BASH_SOURCE[0]}")/../../utils/download.sh"

mkdir -p "$downloads"
if [[ ! -f $file ]]; then
    say "fetching $url"
    download "$url" "$file" 2 || {
        say "cannot fetch it. Put $name into $(cd "$downloads" && pwd) by hand (from $url) and run again, or"
        say "$otherwise"
        exit 1
    }
    mv "$file.part" "$file"
fi
[[ -n $sum || ! -s $file.sha256 ]] || sum=$(cut -c -64 "$file.sha256")
[[ -f $file.checked && $file.checked -nt $file ]] && exit 0
say "checking $file"
found=$(sha256sum "$file" | cut -c -64)
if [[ -n $sum && $found != "$sum" ]]; then
    say "$file is damaged: its SHA-256 is $found, expected $sum. Delete it and run again"
    exit 1
fi
if [[ -z $sum ]]; then
    say "no checksum of $name is published; noted in $name.sha256: $found"
    echo "$found  $name" >"$file.sha256"
fi
touch "$file.checked"
