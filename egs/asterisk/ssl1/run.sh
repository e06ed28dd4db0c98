#!/usr/bin/env bash
# Pretrain the `tiny` upstream that ships with this project: masked prediction of clustered frames (HuBERT style) on
# the training parts of the five languages of the Asterisk voice prompts and on further voices. No speech of their dev
# and test parts is learnt from. Takes hours on two cores; the same command goes on after a kill.
set -euo pipefail
cd "$(dirname "$0")"

# shellcheck disable=SC2034  # read by utils/stage.sh
stage=1          # first stage to run
# shellcheck disable=SC2034
stop_stage=4     # last stage to run
langs="en es fr it ru"  # languages of the prompts
config=conf/tiny.yaml   # model, training and rounds
exp=exp/tiny     # where checkpoints, log and exports go
init=            # go on from this upstream (a folder), leaving out the rounds before --first-round
first_round=1    # with --init: the first round to run
threads=2        # processor threads
aligner=         # an English experiment of asr1, for character purity
install=false    # put the result in place of the shipped upstream (s3router/upstreams/tiny)

S3ROUTER_ROOT=$(cd ../../.. && pwd)
. "${S3ROUTER_ROOT}/utils/path.sh"
. "${S3ROUTER_ROOT}/utils/stage.sh"
. "${S3ROUTER_ROOT}/utils/parse_options.sh"

data() {
    local lang
    for lang in ${langs}; do
        ../asr1/local/data.sh --lang "${lang}" --downloads ../asr1/downloads --data ../asr1/data
    done
}

further_speech() {
    local lang stamps=tuxpaint-stamps-default menardi=asterisk-prompt-it-menardi-wav
    for lang in ${langs}; do
        need "../asr1/data/${lang}/train/text" "./run.sh --stage 1"
        python -m s3router prepare asterisk-untranscribed "../asr1/downloads/${lang}/voice" "data/${lang}/untranscribed" \
            --prompts "../asr1/data/${lang}"
    done
    ../sid1/local/fetch.sh downloads "${stamps}" "${menardi}"
    python -m s3router prepare tuxpaint "downloads/${stamps}" data/stamps
    python -m s3router prepare asterisk-menardi "downloads/${menardi}" data/menardi --prompts ../asr1/data/it
    run_once data/synthetic.log --inputs data/stamps/wav.scp --outputs data/synthetic/wav.scp -- \
        python -m s3router prepare synthetic "downloads/${stamps}" data/synthetic --prompts ../asr1/data
}

pretrain() {
    local lang train=(data/stamps data/menardi) dev=()
    need data/menardi/wav.scp "./run.sh --stage 2"
    for lang in ${langs}; do
        need "data/${lang}/untranscribed/wav.scp" "./run.sh --stage 2"
        train+=("../asr1/data/${lang}/train" "data/${lang}/untranscribed")
        dev+=("../asr1/data/${lang}/dev")
    done
    # Large tensors come and go at every step: keep their memory instead of giving it back to the system each time.
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 \
        python -m s3router pretrain --config "${config}" --train "${train[@]}" --dev "${dev[@]}" --out "${exp}" \
        --synthetic data/synthetic \
        --threads "${threads}" ${init:+--init "${init}"} --first-round "${first_round}"
}

report() {
    need "${exp}/log.jsonl" "./run.sh --stage 3"
    local options=()
    [ -z "${aligner}" ] || options+=(--aligner "${aligner}" --data ../asr1/data/en)
    ! "${install}" || options+=(--install "${S3ROUTER_ROOT}/s3router/upstreams/tiny" --card conf/model_card.md)
    python -m s3router pretrain-report --config "${config}" --exp "${exp}" ${options[@]+"${options[@]}"}
}

"${S3ROUTER_ROOT}/tools/setup.sh"
run_stage 1 "fetch and prepare the prompts" data
run_stage 2 "find further speech: train-side recordings without a usable transcript, and other voices" further_speech
run_stage 3 "pretrain" pretrain
run_stage 4 "report on held-out speech" report
