#!/usr/bin/env bash
# Fetch and unpack the Asterisk core sounds of one language (called by local/data.sh).
#
#   local/fetch.sh LANG DOWNLOADS
#
# Leaves DOWNLOADS/LANG/{voice/…/*.g722,core-sounds-LANG.txt}. Three ways, the first that works:
#   1. packages or archives that already lie in DOWNLOADS (asterisk-core-sounds-*.deb, or the .tar.gz below);
#   2. Debian and Ubuntu packages through apt-get download: no root, and no package lists needed beforehand;
#   3. the Asterisk project's own archive.
# Integrity: apt checks signatures, dpkg and gzip their own sums; and the unpacked content is compared with
# local/checksums.txt, whichever way it came.
set -euo pipefail

lang=$1 downloads=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=("asterisk-core-sounds-$lang" "asterisk-core-sounds-$lang-g722")
archive="asterisk-core-sounds-$lang-g722-1.6.1.tar.gz"
url="https://downloads.asterisk.org/pub/telephony/sounds/releases/$archive"

say() { echo "local/fetch.sh: $*" >&2; }

newest() { # newest PATTERN...: the last file that matches, nothing if none does
    compgen -G "$1" | LC_ALL=C sort | tail -n 1 || true
}

from_apt() {
    local private=$downloads/apt log=$downloads/apt/log fresh
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    mkdir -p "$private/state/lists/partial" "$private/cache/archives/partial"
    fresh=$(mktemp -d "$downloads/.debs.XXXXXX")
    # Clean-up hooks of container images want root: switched off, for this command alone.
    printf '%s\n' '#clear APT::Update::Post-Invoke;' '#clear APT::Update::Post-Invoke-Success;' \
        "Dir::State \"$private/state\";" "Dir::Cache \"$private/cache\";" >"$private/apt.conf"
    say "downloading ${packages[*]} with apt-get"
    if ! (cd "$fresh" && apt-get -qq download "${packages[@]}") >"$log" 2>&1; then
        say "the system's package lists do not do; making private ones in $private"
        apt-get -qq -c "$private/apt.conf" update >>"$log" 2>&1 || true # one dead source must not stop the others
        if ! (cd "$fresh" && apt-get -qq -c "$private/apt.conf" download "${packages[@]}") >>"$log" 2>&1; then
            rm -rf "$fresh"
            say "apt-get cannot get them; its last lines ($log):"
            tail -n 5 "$log" >&2
            return 1
        fi
    fi
    mv "$fresh"/*.deb "$downloads/"
    rm -rf "$fresh" "$private"
}

from_archive() {
    say "downloading $url"
    if command -v curl >/dev/null; then
        curl -fsSL --connect-timeout 20 --retry 2 -C - -o "$downloads/$archive.part" "$url" >&2 || return 1
    elif command -v wget >/dev/null; then
        wget -q --connect-timeout=20 --tries=3 -c -O "$downloads/$archive.part" "$url" || return 1
    else
        say "neither curl nor wget is installed"
        return 1
    fi
    mv "$downloads/$archive.part" "$downloads/$archive"
}

unpack() { # unpack FILE INTO
    say "unpacking $1"
    case $1 in
        *.deb) dpkg -x "$1" "$2" ;;
        *) tar -xzf "$1" -C "$2" --no-same-owner ;;
    esac || {
        say "$1 is damaged; delete it and run again"
        exit 1
    }
}

found() { # sets files to what lies in DOWNLOADS for this language
    local text sounds
    text=$(newest "$downloads/${packages[0]}_*.deb") sounds=$(newest "$downloads/${packages[1]}_*.deb")
    if [[ -n $text && -n $sounds ]] && command -v dpkg >/dev/null; then
        files=("$text" "$sounds")
    elif [[ -f $downloads/$archive ]]; then
        files=("$downloads/$archive")
    else
        return 1
    fi
}

mkdir -p "$downloads"
downloads=$(cd "$downloads" && pwd)
if ! found; then
    from_apt || from_archive || {
        say "cannot fetch the corpus. Put one of these into $downloads and run again:"
        say "  $archive  (from $url)"
        say "  ${packages[0]}_*.deb and ${packages[1]}_*.deb  (from a Debian or Ubuntu mirror)"
        say "or name an unpacked folder: local/data.sh --lang $lang --sounds DIR"
        exit 1
    }
    found
fi

work=$(mktemp -d "$downloads/.unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/raw" "$work/ready"
for file in "${files[@]}"; do unpack "$file" "$work/raw"; done
marks=$(find "$work/raw" -path '*/digits/1.g722')
text=$(find "$work/raw" -name "core-sounds-$lang.txt*" | head -n 1)
if [[ $(grep -c . <<<"$marks") != 1 || -z $text ]]; then
    say "${files[*]}: expected one G.722 voice and core-sounds-$lang.txt in it; delete and run again"
    exit 1
fi
if [[ $text == *.gz ]]; then gzip -dc "$text"; else cat "$text"; fi >"$work/ready/core-sounds-$lang.txt"
mv "$(dirname "$(dirname "$marks")")" "$work/ready/voice"
"$here/checksum.sh" "$lang" "$work/ready/voice" "$work/ready/core-sounds-$lang.txt"
rm -rf "${downloads:?}/$lang"
mv "$work/ready" "$downloads/$lang"
