#!/usr/bin/env bash
# Compare one language's recordings and transcripts with local/checksums.txt.
#
#   local/checksum.sh LANG SOUNDS_DIR TRANSCRIPTS
#
# The sums are of the content (every .g722 with its name; the text uncompressed), not of packages, so that every
# release of Debian and the Asterisk project's archives are held to the same. Another content is used all the same,
# with a warning: a newer release of the prompts is a corpus too, but its figures cannot be compared with ours.
set -euo pipefail

lang=$1 transcripts=$3
mark=$(find "$2/" -path '*/digits/1.g722' | head -n 1) # every voice has it; the names are summed from its folder
voice=${mark:+$(dirname "$(dirname "$mark")")}
voice=${voice:-$2}
table=$(dirname "${BASH_SOURCE[0]}")/checksums.txt

sum_of() { sha256sum | cut -d ' ' -f 1; }
plain() { if [[ $1 == *.gz ]]; then gzip -dc "$1"; else cat "$1"; fi; }

recordings=$(cd "$voice" && find . -name '*.g722' -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sum_of)
text=$(plain "$transcripts" | sum_of)
for found in "$lang recordings $recordings" "$lang transcripts $text"; do
    if ! grep -qxF "$found" "$table"; then
        echo "WARNING: the ${found% *} differ from release 1.6.1, on which the results of this recipe were made:" >&2
        echo "  expected $(grep "^${found% *} " "$table" || echo nothing), found $found" >&2
        echo "  If files are missing or damaged, delete the downloads and run again. If this is another release, go on:" >&2
        echo "  the split of the known prompts stays as it is, but figures are not comparable." >&2
    fi
done
