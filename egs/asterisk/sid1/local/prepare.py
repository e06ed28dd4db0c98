#!/usr/bin/env python3
"""All voices of Asterisk prompts -> Kaldi directories whose labels are the speakers (called by local/data.sh).

Which prompts are for training, development and test is decided by their name alone (as in ../asr1), so no sentence of
the test set has been heard in training from any speaker. Everything is brought to telephone bandwidth (nothing above 4
kHz): some packages hold 8 kHz recordings, and the bandwidth alone would tell their speakers. What the codecs (G.722,
GSM, PCM) leave is still there.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from s3router.data.audio import write_audio
from s3router.data.kaldi import Utterance
from s3router.data.utt2label import write_labelled
from s3router.errors import DataError, run_script

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "asr1" / "local"))
from people import RATE, VOICES, prompts_of, telephone
from prepare import side_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, required=True, help="downloads folder of ../asr1")
    parser.add_argument("--downloads", type=Path, required=True, help="unpacked packages of the further voices")
    parser.add_argument("--limit", type=int, help="prompts of each voice")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    wavs = (args.out / "wav").resolve()
    wavs.mkdir(parents=True, exist_ok=True)
    sides: dict[str, list[Utterance]] = {"test": [], "dev": [], "train": []}
    for voice in VOICES:
        left_out = kept = 0
        for key, path in prompts_of(voice, voice.root(args.prompts, args.downloads)):
            if args.limit is not None and kept >= args.limit:
                break
            utt = f"{voice.speaker}-{voice.lang}-{key.replace('/', '_')}"
            wav = wavs / f"{utt}.wav"
            samples = telephone(path)
            if samples is None:
                left_out += 1
                continue
            write_audio(wav, samples, RATE)
            sides[side_of(key)].append(Utterance(utt, str(wav), "", voice.speaker, len(samples) / RATE))
            kept += 1
        print(f"{voice.speaker} ({voice.lang}, {voice.package}): {kept} prompts, {left_out} left out")
        if not kept:
            raise DataError(f"{voice.package}: no usable prompt; delete {args.downloads / voice.package} and run again")
    if empty := [side for side, utts in sides.items() if not utts]:
        raise DataError(f"no prompt for {' and '.join(empty)}: --limit {args.limit} is too small")
    for side, utts in sides.items():
        write_labelled(args.out / side, utts, {utt.utt: (utt.speaker,) for utt in utts})
        counts = ", ".join(f"{name} {n}" for name, n in sorted(Counter(u.speaker for u in utts).items()))
        print(f"{args.out / side}: {len(utts)} prompts ({counts})")
    return 0


if __name__ == "__main__":
    run_script(main)
