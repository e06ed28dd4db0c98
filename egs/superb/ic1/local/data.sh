#!/usr/bin/env bash
# Fluent Speech Commands -> data/{train,dev,test}. The corpus is given out by its makers on request.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     the folder fluent_speech_commands_dataset (with data/ and wavs/), or the one that holds it
  --downloads DIR  where fluent_speech_commands_dataset.tar.gz may lie (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

name=fluent_speech_commands_dataset
page=https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/
if [[ -z $corpus ]]; then
    [[ -d $downloads/$name || -f $downloads/$name.tar.gz ]] || die "Fluent Speech Commands cannot be fetched by a script:
its makers ask you to agree to its licence, at $page.
Put $name.tar.gz into $PWD/$downloads and run again, or name the unpacked folder: ./run.sh --corpus DIR"
    unpack $name.tar.gz $name
    corpus=$downloads
fi
prepare --corpus "$corpus" --out "$data"
