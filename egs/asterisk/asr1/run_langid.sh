#!/usr/bin/env bash
# Which language is it? A classifier on the first layers of the frozen upstream, fitted on five minutes of each language, and what it
# is worth: on the test sets, and on voices that it was not fitted on. Minutes; nothing trains.
#
#   ./run_langid.sh                                    the five languages of the prompts
#   ./run_langid.sh --more "yo=../../yoruba/asr1/dump/yo mdw=../../mboshi/asr1/dump/mdw"     folders with train_5min, dev, test
#
# The sets of a language are those of ./run.sh --lang LANG --subset 5min --stop-stage 2. Other voices: those of ../sid1 (test
# side), and espeak-ng's. Results: results/langid/*.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

langs="en es fr it ru" # of the prompts
more=                  # further ones: LANG=FOLDER, separated by spaces
upstream=whisper_base  # the backbone
upstream_ckpt=         # its checkpoint, where the name does not imply one
output=results/langid  # where the results go
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
work=exp/langid
pack=${work}/${upstream}.pack
train=() dev=() test=()
for lang in ${langs}; do
    [ -s "dump/${lang}/train_5min/wav.scp" ] || ./run.sh --lang "${lang}" --subset 5min --stop-stage 2
    more="${lang}=dump/${lang} ${more}"
done
for each in ${more}; do
    need "${each#*=}/train_5min/wav.scp" "s3router subset --minutes 5"
    train+=("${each}/train_5min") dev+=("${each}/dev") test+=("${each}/test")
done

log "a classifier -> ${pack}"
mkdir -p "${work}" "${output}"
python -m s3router langid --upstream "${upstream}" ${upstream_ckpt:+--upstream-ckpt "${upstream_ckpt}"} \
    --fit "${train[@]}" --dev "${dev[@]}" --test "${test[@]}" -o "${pack}" --output "${output}/${upstream}.json"

# voice LANG SPEAKER: the test prompts of one speaker of ../sid1, at telephone bandwidth
voice() {
    mkdir -p "${work}/$2"
    awk -v speaker="$2" 'NR == FNR { if ($2 == speaker) own[$1]; next } $1 in own' \
        ../sid1/data/test/utt2label ../sid1/data/test/wav.scp >"${work}/$2/recordings.scp"
    printf '%s=%s\n' "$1" "${work}/$2/recordings.scp"
}

[ -s ../sid1/data/test/wav.scp ] || (cd ../sid1 && ./run.sh --stop-stage 1)
telephone() { # telephone NAME LANG=SPEAKER...
    local name=$1 each sets=()
    shift
    for each in "$@"; do sets+=("$(voice "${each%=*}" "${each#*=}")"); done
    log "at telephone bandwidth: ${name} voices"
    python -m s3router langid --langid "${pack}" --test "${sets[@]}" --output "${output}/${upstream}_telephone_${name}.json"
}
telephone same fr=june it=carlo ru=ivrvoiceru
telephone other es=colombia fr=armelle it=menardi

log "synthetic voices"
sets=()
for lang in ${langs}; do
    mkdir -p "${work}/espeak/${lang}"
    python - "${lang/en/en-us}" "dump/${lang}/test/text" "${work}/espeak/${lang}" <<'END'
import sys
from pathlib import Path

import soundfile

from s3router.data.espeak import synthesize

voice, texts, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
for utt, text in (line.split(maxsplit=1) for line in texts.read_text(encoding="utf-8").splitlines()):
    soundfile.write(folder / f"{utt}.wav", *synthesize(text, voice))
END
    sets+=("${lang}=${work}/espeak/${lang}")
done
python -m s3router langid --langid "${pack}" --test "${sets[@]}" --output "${output}/${upstream}_espeak.json"
