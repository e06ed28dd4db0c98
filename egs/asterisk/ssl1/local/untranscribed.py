#!/usr/bin/env python3
"""Find the speech that the transcribed sets leave out: recordings with no usable transcript, on the train side.

Writes a Kaldi directory (wav.scp, utt2spk) of the prompts of one voice that are not in `<data>/*/text`, whose key's
hash puts them into train, and that are neither tones nor silence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

from s3router.data.audio import read_audio
from s3router.errors import DataError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "asr1" / "local"))
from prepare import side_of

NOT_SPEECH = ("silence/", "beep", "ascending", "descending", "confbridge-join", "confbridge-leave", "tt-monkeys")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the language's folder with train/, dev/ and test/")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sides = (args.data / side / "text" for side in ("train", "dev", "test"))
    known = {line.split(maxsplit=1)[0] for side in sides for line in side.read_text(encoding="utf-8").splitlines()}
    speaker = min(known).split("-")[0]
    args.out.mkdir(parents=True, exist_ok=True)
    scp, spk, seconds = [], [], 0.0
    for path in sorted(args.sounds.rglob("*.g722")):
        key = path.relative_to(args.sounds).with_suffix("").as_posix()
        utt = f"{speaker}-{key.replace('/', '_')}"
        if utt in known or side_of(key) != "train" or key.startswith(NOT_SPEECH):
            continue
        try:
            samples = np.round(read_audio(path) * 32767).astype(np.int16)
        except DataError as error:
            print(f"left out: {error}")
            continue
        if len(samples) < 8000 or np.abs(samples).max() < 1000:
            continue
        wav = (args.out / f"{utt}.wav").resolve()
        soundfile.write(wav, samples, 16000, subtype="PCM_16")
        scp.append(f"{utt} {wav}\n")
        spk.append(f"{utt} {speaker}\n")
        seconds += len(samples) / 16000
    (args.out / "wav.scp").write_text("".join(scp), encoding="utf-8")
    (args.out / "utt2spk").write_text("".join(spk), encoding="utf-8")
    print(f"{args.out}: {len(scp)} recordings without a usable transcript, {seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
