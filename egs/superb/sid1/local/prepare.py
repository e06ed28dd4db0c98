#!/usr/bin/env python3
"""VoxCeleb1 in its official layout -> Kaldi directories train, dev and test (called by local/data.sh).

``iden_split.txt`` decides: 1 training, 2 validation, 3 test. An utterance's id is ``speaker-video-number``, as in a
submission; its label is the speaker.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import write_labelled
from s3router.errors import DataError, run_script

SETS = {"1": "train", "2": "dev", "3": "test"}
_LINE = re.compile(r"([123]) (id1\d{4})/([^/\s]+)/(\d+)\.wav")


def read_split(path: Path) -> dict[str, list[tuple[str, str, str]]]:
    """train, dev, test -> (speaker, video, number). Raises DataError where the file is not the official one."""
    if not path.is_file():
        raise DataError(f"{path} is missing: the official split for identification, from the VoxCeleb site")
    found: dict[str, list[tuple[str, str, str]]] = {name: [] for name in SETS.values()}
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _LINE.fullmatch(line.strip())
        if match:
            found[SETS[match[1]]].append((match[2], match[3], match[4]))
        else:
            problems.append(f"line {number} is not '<1|2|3> id1XXXX/VIDEO/NUMBER.wav': {line!r}")
    problems += [f"no line for {name}" for name, lines in found.items() if not lines]
    if problems:
        raise DataError(summary(path, problems))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = args.corpus.resolve()
    split = read_split(corpus / "iden_split.txt")
    speakers = {path.name: path for path in sorted(corpus.glob("*/wav/id1*"))} | {
        path.name: path for path in sorted(corpus.glob("wav/id1*"))
    }
    problems = []
    sets: dict[str, list[Utterance]] = {}
    for name, lines in split.items():
        sets[name] = []
        for speaker, video, number in lines:
            wav = speakers.get(speaker, corpus / "dev/wav" / speaker) / video / f"{number}.wav"
            if not wav.is_file():
                problems.append(f"{wav} is missing")
            sets[name].append(Utterance(f"{speaker}-{video}-{number}", str(wav), "", speaker))
    if problems:
        raise DataError(summary(corpus, problems))
    for name in ("test", "dev", "train"):
        write_labelled(args.out / name, sets[name], {utt.utt: (utt.speaker,) for utt in sets[name]})
        print(f"{args.out / name}: {len(sets[name])} utterances of {len({u.speaker for u in sets[name]})} speakers")
    return 0


if __name__ == "__main__":
    run_script(main)
