#!/usr/bin/env bash
# Fetch what is missing of LibriSpeech and write data/en/{train_SUBSET,dev,dev_clean,dev_other,test_clean,test_other}.
set -euo pipefail

usage="usage: local/data.sh --subset 10min|1h|10h|100h [options]
  --corpus DIR       folder with the unpacked LibriSpeech (dev-clean, …); nothing is fetched then
  --librilight DIR   the folder librispeech_finetuning (default: beside or in the corpus)
  --downloads DIR    cache of what is fetched (default: downloads)
  --openslr URL      mirror (default: https://www.openslr.org/resources)
  --librilight-url U of librispeech_finetuning.tgz
  --checksums FILE   of the archives (default: local/checksums.txt)
  --data DIR         where to write (default: data)
What is prepared already stays as it is. Delete data/en to prepare it again."

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
lang=en corpus='' librilight='' downloads=downloads data=data subset=''
openslr=https://www.openslr.org/resources
librilight_url=https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz
checksums=$here/checksums.txt
die() { echo "local/data.sh: $*" >&2; exit 1; }
while [[ $# -gt 0 ]]; do
    case $1 in
        --help | -h) echo "$usage"; exit 0 ;;
        --lang | --subset | --corpus | --librilight | --downloads | --openslr | --librilight-url | --checksums | --data)
            [[ $# -ge 2 ]] || die "$1 needs a value"
            name=${1#--}
            printf -v "${name//-/_}" '%s' "$2"
            shift 2
            ;;
        *) die "unknown option $1
$usage" ;;
    esac
done
[[ $lang == en ]] || die "LibriSpeech is English, not '$lang'"
parts=(dev-clean dev-other test-clean test-other)
case $subset in
    10min | 1h | 10h) ;;
    100h) parts+=(train-clean-100) ;;
    *) die "--subset is 10min, 1h, 10h or 100h, not '$subset'" ;;
esac

unpack() { # unpack ARCHIVE FOLDER-IN-IT: into downloads, whole or not at all
    local work
    [[ ! -d $downloads/$2 ]] || return 0
    work=$(mktemp -d "$downloads/.unpack.XXXXXX")
    echo "local/data.sh: unpacking $1" >&2
    tar -xzf "$downloads/$1" -C "$work" --no-same-owner || { rm -rf "$work" && die "$downloads/$1 is damaged; delete it"; }
    mkdir -p "$(dirname "$downloads/$2")"
    mv "$work/$2" "$downloads/$2"
    rm -rf "$work"
}

if [[ -z $corpus ]]; then
    for part in "${parts[@]}"; do
        [[ ! -d $downloads/LibriSpeech/$part ]] || continue
        "$here/fetch.sh" "$openslr/12/$part.tar.gz" "$downloads" "$checksums"
        unpack "$part.tar.gz" "LibriSpeech/$part"
    done
    if [[ $subset != 100h && -z $librilight && ! -d $downloads/librispeech_finetuning ]]; then
        "$here/fetch.sh" "$librilight_url" "$downloads" "$checksums"
        unpack "${librilight_url##*/}" librispeech_finetuning
    fi
    corpus=$downloads
fi

python=python3
venv=${S3ROUTER_VENV:-$root/tools/venv}
if [[ -x $venv/bin/python ]]; then python=$venv/bin/python; fi
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" "$here/prepare.py" --corpus "$corpus" --subset "$subset" \
    --out "$data/en" ${librilight:+--librilight "$librilight"}
