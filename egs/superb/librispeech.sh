# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the local/data.sh of pr1 and asr1, after ../../data.sh: sets corpus, fetching what is missing of LibriSpeech.
if [[ -z $corpus ]]; then
    for part in train-clean-100 dev-clean test-clean; do
        [[ ! -d $downloads/LibriSpeech/$part ]] || continue
        "$root/egs/librispeech/asr1/local/fetch.sh" "https://www.openslr.org/resources/12/$part.tar.gz" "$downloads"
        unpack "$part.tar.gz" "LibriSpeech/$part" "LibriSpeech/$part"
    done
    corpus=$downloads
fi
