#!/usr/bin/env bash
# Fetch Speech Commands v1 and write data/{train,dev,test} with the twelve classes of SUPERB.
# shellcheck disable=SC2034,SC2154 # ../../data.sh sets them
set -euo pipefail
usage="usage: local/data.sh [options]
  --corpus DIR     folder with speech_commands_v0.01/ and speech_commands_test_set_v0.01/ (default: they are fetched)
  --downloads DIR  cache of what is fetched (default: downloads)
  --data DIR       where to write (default: data)"
. "$(dirname "${BASH_SOURCE[0]}")/../../data.sh"

base=http://download.tensorflow.org/data
train=speech_commands_v0.01 test=speech_commands_test_set_v0.01
if [[ -z $corpus ]]; then
    "$fetch" $base/$train.tar.gz "$downloads" 743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d
    "$fetch" $base/$test.tar.gz "$downloads"
    unpack $train.tar.gz $train
    unpack $test.tar.gz $test
    corpus=$downloads
fi
prepare --corpus "$corpus" --out "$data"
