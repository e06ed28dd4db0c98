#!/usr/bin/env bash
# Which language is it? A classifier on the first layers of the frozen upstream, fitted on five minutes of each language, and what it
# is worth: on the test sets, and on voices that it was not fitted on. Minutes; nothing trains. Ends with RESULTS_langid.md.
#
#   ./run_langid.sh                                    the five languages of the prompts
#   ./run_langid.sh --more "yo=../../yoruba/asr1/dump/yo mdw=../../mboshi/asr1/dump/mdw"     folders with train_5min, dev, test
#
# The sets of a language are those of ./run.sh --lang LANG --subset 5min --stop-stage 2. Other voices: those of ../sid1 (test
# side), and espeak-ng's. What is measured is kept in results/langid/*.json, and not measured again while the classifier is there and of
# the same languages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./path.sh
. "${S3ROUTER_ROOT}/utils/stage.sh"

langs="en es fr it ru" # of the prompts
more=                  # further ones: LANG=FOLDER, separated by spaces
upstream=whisper_base  # the backbone
upstream_ckpt=         # its checkpoint, where the name does not imply one
output=RESULTS_langid.md # the page
command="./run_langid.sh${1+$(printf ' %q' "$@")}"
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
work=exp/langid
pack=${work}/${upstream}.pack
results=results/langid/${upstream}

main() {
    local lang each train=() dev=() test=() backbone=(--upstream "${upstream}")
    [ -z "${upstream_ckpt}" ] || backbone+=(--upstream-ckpt "${upstream_ckpt}")
    for lang in ${langs}; do
        case ${lang} in en | es | fr | it | ru) ;; *) die "--langs: '${lang}' is not known; the known ones are: en es fr it ru" ;; esac
    done
    option_is_word upstream
    mkdir -p "${work}" results/langid
    for lang in ${langs}; do
        [ -s "dump/${lang}/train_5min/wav.scp" ] || ./run.sh --lang "${lang}" --subset 5min --stop-stage 2
    done
    for each in $(own) ${more}; do
        need "${each#*=}/train_5min/wav.scp" "s3router subset --minutes 5"
        train+=("${each}/train_5min") dev+=("${each}/dev") test+=("${each}/test")
    done
    [ "$(cat "${pack}.langs" 2>/dev/null)" = "${langs} ${more}" ] || rm -f "${pack}" # of other languages
    measured test_sets "${backbone[@]}" --fit "${train[@]}" --dev "${dev[@]}" -o "${pack}" --test "${test[@]}"
    echo "${langs} ${more}" >"${pack}.langs"
    [ -s ../sid1/data/test/wav.scp ] || (cd ../sid1 && ./run.sh --stop-stage 1)
    telephone same fr=june it=carlo ru=ivrvoiceru
    telephone other es=colombia fr=armelle it=menardi
    synthetic
    page
}

own() { for lang in ${langs}; do echo "${lang}=dump/${lang}"; done; }

measured() { # measured NAME OPTIONS...: s3router langid, unless its result is there, and of this classifier
    [ -s "${pack}" ] && [ "${results}_$1.json" -nt "${pack}" ] && return
    log "$1 -> ${results}_$1.json"
    python -m s3router langid "${@:2}" --output "${results}_$1.json"
}

telephone() { # telephone NAME LANG=SPEAKER...: test prompts of speakers of ../sid1, at telephone bandwidth
    local each speaker sets=()
    for each in "${@:2}"; do
        [[ " ${langs} " = *" ${each%%=*} "* ]] || continue # of the languages that it knows
        speaker=${each#*=}
        mkdir -p "${work}/${speaker}"
        awk -v speaker="${speaker}" 'NR == FNR { if ($2 == speaker) own[$1]; next } $1 in own' \
            ../sid1/data/test/utt2label ../sid1/data/test/wav.scp >"${work}/${speaker}/recordings.scp"
        sets+=("${each%=*}=${work}/${speaker}/recordings.scp")
    done
    [ ${#sets[@]} -gt 0 ] || { rm -f "${results}_telephone_$1.json" && return 0; } # of other languages
    measured "telephone_$1" --langid "${pack}" --test "${sets[@]}"
}

synthetic() { # the test sentences, spoken by espeak-ng
    local lang sets=()
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
    measured espeak --langid "${pack}" --test "${sets[@]}"
}

page() {
    python - "${results}" "${output}" "${command}" <<'END'
import sys
from pathlib import Path

from s3router.files import read_json, write_lines
from s3router.serving.langid import Identified, table

results, output, command = sys.argv[1:]
parts = {
    "test_sets": "The test sets",
    "telephone_same": "The same voices at telephone bandwidth",
    "telephone_other": "Other voices at telephone bandwidth",
    "espeak": "The test sentences, spoken by espeak-ng",
}
lines = ["# Which language is it? By a classifier on the frozen first layers", "", "Written by:", "", "```sh", command, "```", ""]
lines += [
    "Each language was fitted on one voice in one recording condition (English and Spanish have the same voice), and its test set",
    "has the same. So a high figure there says that the voice and the channel were recognised as much as the language. The sections",
    "on other voices say what is left of it without them.",
]
for name, title in parts.items():
    if not Path(f"{results}_{name}.json").is_file():
        continue  # no recordings of these languages
    found = read_json(f"{results}_{name}.json", "run run_langid.sh")["classifier"]
    by = Identified(found["counts"], 0.0, 0.0, 0.0)
    lines += ["", f"## {title}", "", *table(by), "", f"**{100 * found['accuracy']:.1f} %** of all utterances are right."]
    if name == "test_sets":
        told = found["training"]
        dev = ", ".join(f"layer {layer}: {100 * value:.1f} %" for layer, value in told["dev_accuracy_by_layer"].items())
        seconds = sum(told["audio_seconds"].values())
        lines += [
            f"`{found['backbone']}`, {told['layers_of_backbone']} layers. Right on dev, mean over languages: {dev}; taken:",
            f"layer {found['layers']}. Fitted on {seconds / 60:.0f} minutes in {told['seconds']:.0f} s. Cost, transcription included:",
            f"{found['passes_by_layers']:.2f} passes by the number of layers, {found['passes_by_time']:.2f} by time.",
        ]
write_lines(output, lines)
END
    log "${output} is written"
}

main
