#!/usr/bin/env bash
# Fetch and unpack Debian packages with further voices, without root (called by local/data.sh here and of ../ks1).
#
#   local/fetch.sh DOWNLOADS PACKAGE...
#
# Leaves DOWNLOADS/PACKAGE/. A PACKAGE_*.deb that lies in DOWNLOADS already is taken.
set -euo pipefail

downloads=$1
shift
say() { echo "local/fetch.sh: $*" >&2; }
mkdir -p "$downloads"
for package in "$@"; do
    [[ ! -d $downloads/$package ]] || continue
    if ! compgen -G "$downloads/${package}_*.deb" >/dev/null; then
        say "downloading $package with apt-get"
        (cd "$downloads" && apt-get -qq download "$package") || {
            say "cannot fetch it. Put ${package}_*.deb from a Debian mirror into $downloads and run again"
            exit 1
        }
    fi
    command -v dpkg >/dev/null || { say "dpkg is not installed; unpack ${package}_*.deb into $downloads/$package" && exit 1; }
    work=$(mktemp -d "$downloads/.unpack.XXXXXX")
    dpkg -x "$(compgen -G "$downloads/${package}_*.deb" | sort | tail -n 1)" "$work"
    mv "$work" "$downloads/$package"
done
