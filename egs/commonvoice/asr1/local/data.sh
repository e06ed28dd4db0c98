#!/usr/bin/env bash
# Write data/LANG[_phn]/{train_SUBSET,dev,test} (train for all of it) from an unpacked Common Voice release.
# shellcheck disable=SC2034,SC2154 # utils/local_data.sh reads and sets them
set -euo pipefail

usage="usage: local/data.sh --lang L --subset 1h --corpus RELEASE [options]
  --lang L           locale, as the release names it: nl, zh-TW, sv-SE …
  --corpus DIR       the release (a folder for each language), or the folder of the language itself;
                     default: the one cv-corpus-* in downloads
  --subset S         1min, 10min, 1h, 10h …, or all
  --token-type T     phn: the texts are phonemes of espeak-ng
  --train-from T     train (default), or validated: all validated clips of speakers who are not in dev and test
  --dev-minutes M    at most (default: 60)
  --test-minutes M   at most (default: all)
  --nj N             threads that read clips (default: 2)
  --data DIR         where to write (default: data)
What is prepared already stays as it is. Delete data/L to prepare it again."

. "$(dirname "${BASH_SOURCE[0]}")/../../../../utils/local_data.sh"
corpus='' data=data lang='' subset='' token_type='' train_from='' dev_minutes='' test_minutes='' nj=''
local_options "corpus data lang subset token-type train-from dev-minutes test-minutes nj" "$@"
options=()
for name in lang subset token_type train_from dev_minutes test_minutes nj; do
    [[ -z ${!name} ]] || options+=("--${name//_/-}" "${!name}")
done

if [[ -z $corpus ]]; then
    mapfile -t found < <(compgen -G 'downloads/cv-corpus-*/' || true) # folders; archives may lie beside them
    [[ ${#found[@]} -gt 0 ]] || die "which release? Common Voice is given out by the Mozilla Data Collective, https://mozilladatacollective.com, and nowhere else;
the links of before and the copies on the HuggingFace hub are gone. There, make an account, accept the terms of each language's
archive, and download it; or make an API key and let Mozilla's own client fetch it (its page says the ID under Download, API):
  pip install datacollective
  MDC_API_KEY=... MDC_DOWNLOAD_PATH=downloads python -c 'from datacollective import download_dataset; download_dataset(\"ID\")'
Unpack the archives, and name the folder (it holds a folder for each language) with --release DIR, or put it or a link to it into
$PWD/downloads."
    [[ ${#found[@]} -eq 1 ]] || die "which release? There are ${found[*]}: name one with --release"
    corpus=${found[0]%/}
fi

prepare commonvoice "$corpus" "$data" ${options[@]+"${options[@]}"}
