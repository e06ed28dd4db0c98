#!/usr/bin/env python3
"""Digits and letters of two voices of one language -> Kaldi directories (called by local/data.sh).

Each voice says each word once. So: training on the first voice, its recordings played at several speeds (which moves
the pitch along); development on other speeds of the same recordings; test on the second voice. Only the test set is
another voice, and what development selects is what suits the first one. All in telephone bandwidth.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from s3router.data.audio import resample, write_audio
from s3router.data.kaldi import Utterance
from s3router.data.utt2label import write_labelled
from s3router.errors import DataError, run_script

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sid1" / "local"))
from people import RATE, VOICES, prompts_of, telephone

KEYWORD = re.compile(r"digits/(\d|1\d|20|30|40|50|60|70|80|90)|letters/([a-z])")
SPEEDS = {"train": (80, 84, 88, 92, 96, 100, 104, 108, 112, 116, 120), "dev": (86, 94, 102, 110, 118)}  # percent
LEAST = 5  # keywords that both voices must have


def keywords_of(voice, prompts: Path, downloads: Path) -> dict[str, Path]:
    """keyword -> file of one voice."""
    root = voice.root(prompts, downloads)
    return {match[1] or match[2]: path for key, path in prompts_of(voice, root) if (match := KEYWORD.fullmatch(key))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lang", required=True, choices=("es", "fr", "it"))
    parser.add_argument("--prompts", type=Path, required=True, help="downloads folder of ../asr1")
    parser.add_argument("--downloads", type=Path, required=True, help="unpacked packages of the second voices")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    first, second = (voice for voice in VOICES if voice.lang == args.lang)
    files = [keywords_of(voice, args.prompts, args.downloads) for voice in (first, second)]
    audio = [{word: telephone(path) for word, path in sorted(found.items())} for found in files]
    audio = [{word: samples for word, samples in found.items() if samples is not None} for found in audio]
    words = sorted(audio[0].keys() & audio[1].keys())
    if len(words) < LEAST:
        both = f"{first.speaker} and {second.speaker}"
        raise DataError(f"{both} have {len(words)} keywords in common, expected {LEAST} or more: fetch the voices anew")
    wavs = (args.out / "wav").resolve()
    wavs.mkdir(parents=True, exist_ok=True)
    takes = {"test": [(second, 1, (100,))], "dev": [(first, 0, SPEEDS["dev"])], "train": [(first, 0, SPEEDS["train"])]}
    for side, ((voice, index, speeds),) in takes.items():
        utts, labels = [], {}
        for word in words:
            for speed in speeds:
                utt = f"{voice.speaker}-{word}-{speed:03d}"
                samples = resample(audio[index][word], speed, 100)
                write_audio(wavs / f"{utt}.wav", samples, RATE)
                utts.append(Utterance(utt, str(wavs / f"{utt}.wav"), "", voice.speaker, len(samples) / RATE))
                labels[utt] = (word,)
        write_labelled(args.out / side, utts, labels)
        print(f"{args.out / side}: {len(utts)} recordings of {len(words)} keywords by {voice.speaker}")
    return 0


if __name__ == "__main__":
    run_script(main)
