#!/usr/bin/env bash
# Make the official 4-gram language model (OpenSLR 11) ready for decoding: lower case, as the model's letters are.
#
#   local/lm.sh [--arpa-gz 4-gram.arpa.gz] [--downloads DIR]
#
# Leaves DIR/4-gram.arpa for ./run.sh --lm; the words in it, 200,000, are the lexicon: each is spelled by its
# letters, so that the pronunciation lexicon of OpenSLR is not needed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
arpa_gz='' downloads=downloads
die() { echo "local/lm.sh: $*" >&2; exit 1; }
while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        --arpa-gz | --downloads)
            [[ $# -ge 2 ]] || die "$1 needs a value"
            name=${1#--}
            printf -v "${name//-/_}" '%s' "$2"
            shift 2
            ;;
        *) die "unknown option $1; the known ones are --arpa-gz and --downloads" ;;
    esac
done

arpa=$downloads/4-gram.arpa
if [[ ! -s $arpa ]]; then
    if [[ -z $arpa_gz ]]; then
        "$here/fetch.sh" https://www.openslr.org/resources/11/4-gram.arpa.gz "$downloads"
        arpa_gz=$downloads/4-gram.arpa.gz
    fi
    [[ -f $arpa_gz ]] || die "$arpa_gz: no such file"
    mkdir -p "$downloads"
    gzip -dc "$arpa_gz" | tr '[:upper:]' '[:lower:]' >"$arpa.tmp" || die "$arpa_gz is damaged; delete it and run again"
    tail -n 5 "$arpa.tmp" | grep -qxF "\\end\\" || die "$arpa_gz is no complete ARPA file; delete it and run again"
    mv "$arpa.tmp" "$arpa"
fi
echo "$arpa is ready: ./run.sh … --stage 5 --beam-size 50 --lm $arpa --decode-args \"--lm-unit word --lm-weight 2\""
