# shellcheck shell=bash disable=SC2034,SC2154
# The preparation of the recipes beside it. Each local/data.sh sources it with the recipe's name and its own arguments:
# what is missing of the corpus is fetched, unless --corpus names it, and `s3router prepare` writes data/{train,dev,test}.
. "$(dirname "${BASH_SOURCE[0]}")/../../utils/local_data.sh"
recipe=$1 corpus='' downloads=downloads data=data fold='' lists='' lexicon='' more=''
shift

get() { "${root}/egs/superb/fetch.sh" "$1" "${downloads}" ${2:+"$2"}; } # get URL [SHA256]

# by_hand WHY PAGE NAME [ARCHIVE]: the folder NAME, or an archive of it, must lie in ${downloads}.
by_hand() {
    [[ -d ${downloads}/$3 || -f ${downloads}/${4:-$3} ]] || die "$1 See $2
Put ${4:-the folder $3} into $(realpath -m "${downloads}") and run again, or name the unpacked folder: ./run.sh --corpus DIR"
    [[ -z ${4:-} ]] || unpack "$4" "$3"
    corpus=${downloads}/$3
}

librispeech() {
    local part
    for part in train-clean-100 dev-clean test-clean; do
        [[ ! -d ${downloads}/LibriSpeech/${part} ]] || continue
        "${root}/egs/librispeech/asr1/local/fetch.sh" "https://www.openslr.org/resources/12/${part}.tar.gz" "${downloads}"
        unpack "${part}.tar.gz" "LibriSpeech/${part}" "LibriSpeech/${part}"
    done
    corpus=${downloads}
}

# Checksums of the archives are those that torchaudio states; the site asks for an account, which curl reads from ~/.netrc.
voxceleb1() {
    local site=https://thor.robots.ox.ac.uk/~vgg/data/voxceleb part sum
    get https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/iden_split.txt
    if [[ ! -d ${downloads}/dev ]]; then
        while read -r part sum; do get "${site}/vox1a/vox1_dev_wav_part${part}" "${sum}"; done <<'SUMS'
aa 21ec6ca843659ebc2fdbe04b530baa4f191ad4b0971912672d92c158f32226a0
ab 311d21e0c8cbf33573a4fce6c80e5a279d80736274b381c394319fc557159a04
ac 92b64465f2b2a3dc0e4196ae8dd6828cbe9ddd1f089419a11e4cbfe2e1750df0
ad 00e6190c770b27f27d2a3dd26ee15596b17066b715ac111906861a7d09a211a5
SUMS
        cat "${downloads}"/vox1_dev_wav_parta[a-d] >"${downloads}/vox1_dev_wav.zip"
        unpack vox1_dev_wav.zip dev
        rm -f "${downloads}/vox1_dev_wav.zip"
    fi
    get "${site}/vox1a/vox1_test_wav.zip" 8de57f347fe22b2c24526e9f444f689ecf5096fc2a92018cf420ff6b5b15eaea
    unpack vox1_test_wav.zip test
    corpus=${downloads}
}

speech_commands() {
    local base=http://download.tensorflow.org/data train=speech_commands_v0.01 test=speech_commands_test_set_v0.01
    get "${base}/${train}.tar.gz" 743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d
    get "${base}/${test}.tar.gz"
    unpack "${train}.tar.gz" "${train}"
    unpack "${test}.tar.gz" "${test}"
    corpus=${downloads}
}

fetch_lexicons() {
    local site=https://huggingface.co/datasets/s3prl/g2p/raw/main/lexicon name
    lexicons=()
    for name in librispeech-lexicon-200k-g2p.txt librispeech-lexicon-allothers-g2p.txt; do
        "${root}/egs/superb/fetch.sh" "${site}/${name}" "${downloads}" "" \
            "name lists of pronunciations that you have: ./run.sh --local-data-opts '--lexicon FILE'"
        lexicons+=("${downloads}/${name}")
    done
}

# At the revision that s3prl takes. They are asked for only where the corpus is there, and only those of the fold.
fetch_folds() {
    local site=https://huggingface.co/datasets/s3prl/iemocap_split/raw/4097f2b496c41eed016d4e5eb0ada4cccd46d1f3 part
    lists=${downloads}/iemocap_split
    for part in train test; do
        "${root}/egs/superb/fetch.sh" "${site}/Session${fold}/${part}_meta_data.json" "${lists}/Session${fold}" "" \
            "name a folder with Session1 … Session5 of these lists: ./run.sh --local-data-opts '--lists DIR' (--lists own
draws a validation set of other utterances, with which figures are not the benchmark's)"
    done
}

# expected: what --corpus names; fetched: whether it can be fetched; names, more: further options, and their meanings
fetched=fetched names=''
case ${recipe} in
    ks1) expected="folder with speech_commands_v0.01/ and speech_commands_test_set_v0.01/" ;;
    ic1) expected="the folder fluent_speech_commands_dataset, or the one that holds it" fetched='' ;;
    sid1) expected="folder with iden_split.txt and */wav/id1XXXX/…/*.wav (dev/wav, test/wav)" ;;
    sv1) expected="folder with iden_split.txt, voxceleb1_test_v2.txt and */wav/id1XXXX/…/*.wav (dev/wav, test/wav)" ;;
    er1) expected="IEMOCAP_full_release, or the folder that holds it (Session1 … Session5)" fetched='' names="fold lists"
        more="
  --fold K         1 to 5: the session of the test set; data/foldK is written
  --lists DIR      SUPERB's lists of the folds, Session1/{train,test}_meta_data.json … (default: iemocap_split in the
                   corpus's folder; else they are fetched); own: a validation set of other utterances, without lists" ;;
    asr1) expected="the folder LibriSpeech, or the one that holds it (7 GB)" ;;
    pr1) expected="the folder LibriSpeech, or the one that holds it (7 GB)" names=lexicon
        more="
  --lexicon FILE   'WORD P1 P2 ...' per line (default: the two files that the benchmark uses are fetched)" ;;
    sf1) expected="the folder SNIPS (all.iob.snips.txt, train, valid, test with *.wav), or the one that holds it" fetched='' ;;
    sd1) expected="clone of s3prl's LibriMix, with Libri2Mix/wav16k/max and metadata/LibriSpeech/*.rttm" fetched='' ;;
    qbe1) expected="folder quesst14Database, or the one that holds it" ;;
esac
usage="usage: local/data.sh [options]
  --corpus DIR     ${expected}${fetched:+ (default: it is fetched)}
  --downloads DIR  cache of what is fetched, and place of archives that are got by hand (default: downloads)
  --data DIR       where to write (default: data)${more}"
local_options "corpus downloads data ${names}" "$@"

case ${recipe} in
    ks1)
        [[ -n ${corpus} ]] || speech_commands
        prepare speech-commands "${corpus}" "${data}"
        ;;
    ic1)
        [[ -n ${corpus} ]] || by_hand "Fluent Speech Commands cannot be fetched by a script: its makers ask you to agree to its licence." \
            https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/ \
            fluent_speech_commands_dataset fluent_speech_commands_dataset.tar.gz
        prepare fluent-speech-commands "${corpus}" "${data}"
        ;;
    sid1)
        [[ -n ${corpus} ]] || voxceleb1
        prepare voxceleb1 "${corpus}" "${data}"
        ;;
    sv1)
        [[ -n ${corpus} ]] || { get https://www.openslr.org/resources/49/voxceleb1_test_v2.txt && voxceleb1; }
        prepare voxceleb1-verification "${corpus}" "${data}"
        ;;
    er1)
        [[ ${fold} == [1-5] ]] || die "--fold is 1 to 5, not '${fold}'"
        [[ -n ${corpus} ]] || by_hand "IEMOCAP cannot be fetched by a script: its makers give it out on request." \
            https://sail.usc.edu/iemocap/ IEMOCAP_full_release
        [[ -n ${lists} || -d ${corpus}/iemocap_split ]] || fetch_folds
        prepare iemocap "${corpus}" "${data}/fold${fold}" --fold "${fold}" ${lists:+--lists "${lists}"}
        ;;
    asr1)
        [[ -n ${corpus} ]] || librispeech
        prepare librispeech-superb "${corpus}" "${data}"
        ;;
    pr1)
        lexicons=("${lexicon}")
        [[ -n ${lexicon} ]] || fetch_lexicons
        [[ -n ${corpus} ]] || librispeech
        prepare librispeech-superb "${corpus}" "${data}" --lexicon "${lexicons[@]}"
        ;;
    sf1)
        [[ -n ${corpus} ]] || by_hand "Audio SNIPS cannot be fetched by a script: the prepared corpus lies on a drive that asks for a browser." \
            https://github.com/s3prl/s3prl/blob/main/s3prl/downstream/docs/superb.md#sf-end-to-end-slot-filling SNIPS SNIPS.zip
        prepare snips "${corpus}" "${data}"
        ;;
    sd1)
        [[ -n ${corpus} ]] || die "LibriMix cannot be fetched: it is mixed from LibriSpeech and the WHAM! noises.
Clone https://github.com/s3prl/LibriMix, run its generate_librimix_sd.sh, put the folder Libri2Mix into the clone (beside
metadata/LibriSpeech) and name the clone: ./run.sh --corpus DIR"
        prepare librimix "${corpus}" "${data}"
        ;;
    qbe1)
        [[ -n ${corpus} ]] || { get https://speech.fit.vutbr.cz/files/quesst14Database.tgz && unpack quesst14Database.tgz quesst14; }
        prepare quesst14 "${corpus:-${downloads}/quesst14}" "${data}"
        ;;
esac
