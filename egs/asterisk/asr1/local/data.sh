#!/usr/bin/env bash
# Fetch one language of the Asterisk voice prompts and write data/LANG/{train,dev,test} as Kaldi directories.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --lang en|es|fr|it|ru [options]
  --lang L          language
  --sounds DIR      take the .g722 files of one voice from this folder instead of fetching them (also: --corpus DIR)
  --transcripts F   core-sounds-L.txt[.gz]; needed only if it does not lie in the --sounds folder
  --downloads DIR   cache of what is fetched (default: downloads)
  --data DIR        where to write (default: data)
A second run finds its work done. Delete data/L to prepare again, downloads/L to fetch again."

lang='' sounds='' corpus='' transcripts='' downloads=downloads data=data
. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
local_options "lang sounds corpus transcripts downloads data" "$@"
sounds=${sounds:-$corpus} # as run.sh calls it
case $lang in
    en | es | fr | it | ru) ;;
    '') die "--lang is missing: en, es, fr, it or ru" ;;
    *) die "no Asterisk prompts in '$lang'; known: en, es, fr, it, ru" ;;
esac

mkdir -p "$downloads" "$data"
if command -v flock >/dev/null; then # two runs at once: the second waits and finds the work done
    exec 9>>"$data/.$lang.lock"
    flock 9
fi

# What was prepared by other rules or from elsewhere is prepared again.
stamp=$data/$lang/.prepared
rules=$(cat "$root"/s3router/{corpora/asterisk,data/text}.py - <<<"$(realpath -m "$data") $sounds $transcripts" | sha256sum)
if [[ -f $stamp && -d $data/$lang/wav && -s $data/$lang/train/wav.scp && -s $data/$lang/dev/wav.scp &&
    -s $data/$lang/test/wav.scp && $(head -n 1 "$stamp") == "$rules" ]]; then
    tail -n +2 "$stamp"
    exit 0
fi
rm -f "$stamp"

if [[ -n $sounds ]]; then
    [[ -d $sounds ]] || die "--sounds $sounds: no such folder"
    if [[ -z $transcripts ]]; then
        transcripts=$(find "$sounds/" -name "core-sounds-$lang.txt*" | head -n 1)
        [[ -n $transcripts ]] || die "no core-sounds-$lang.txt under $sounds; name it with --transcripts"
    fi
    [[ -f $transcripts ]] || die "--transcripts $transcripts: no such file"
    "$here/checksum.sh" "$lang" "$sounds" "$transcripts"
else
    [[ -z $transcripts ]] || die "--transcripts goes with --sounds"
    [[ -d $downloads/$lang ]] || "$here/fetch.sh" "$lang" "$downloads"
    sounds=$downloads/$lang/voice transcripts=$downloads/$lang/core-sounds-$lang.txt
fi

mkdir -p "$data/$lang"
prepare asterisk "$sounds" "$data/$lang" --lang "$lang" --transcripts "$transcripts" | tee "$data/$lang/prepare.log"
{
    echo "$rules"
    echo "$data/$lang is ready (drops: $data/$lang/dropped.tsv)"
    grep -A 4 '^  train' "$data/$lang/prepare.log"
} >"$stamp.tmp"
mv "$stamp.tmp" "$stamp"
