# shellcheck shell=bash
# Source this in a script that fetches files and tells the user by a function `say`.

# download URL FILE TRIES, by curl or wget, to FILE.part: when it is interrupted, the next call goes on there, where the
# server can.
download() {
    if command -v curl >/dev/null; then
        # without the option curl does not look into ~/.netrc; wget always does
        local status=0
        curl -fL --netrc-optional --connect-timeout 20 --retry "$3" -C - -o "$2.part" "$1" >&2 || status=$?
        [ "${status}" -ne 33 ] || { # a server that cannot go on in the middle: from the start
            rm -f "$2.part"
            status=0
            curl -fL --netrc-optional --connect-timeout 20 --retry "$3" -o "$2.part" "$1" >&2 || status=$?
        }
        return "${status}"
    elif command -v wget >/dev/null; then
        wget --connect-timeout=20 --tries="$3" -c -O "$2.part" "$1" >&2
    else
        say "neither curl nor wget is installed"
        return 1
    fi
}
