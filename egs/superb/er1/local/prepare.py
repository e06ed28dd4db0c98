#!/usr/bin/env python3
"""IEMOCAP in its official layout -> Kaldi directories of one fold (called by local/data.sh).

The test set is one session. Of the other four, a fifth is the validation set, drawn as SUPERB does (random_split after
seed 0) from the utterances in the order of their ids; SUPERB's own lists are in the order in which its makers met
the files, so its validation sets hold other utterances of the same sessions. Its lists can be given with --lists
(Session1/{train,test}_meta_data.json …). Emotions: neutral, happy (with excited), angry, sad; all others are left out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import torch
from torch.utils.data import random_split

from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import write_labelled
from s3router.errors import DataError, run_script

SESSIONS = range(1, 6)
EMOTIONS = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
VALID_SHARE = 0.2
_LINE = re.compile(r"^\[.+?\]\t(\S+)\t(\w+)\t", re.MULTILINE)


def find_corpus(folder: Path) -> Path:
    """The folder with Session1 … Session5, at ``folder`` or in it. Raises DataError with what is missing."""
    for candidate in (folder, folder / "IEMOCAP_full_release", folder / "IEMOCAP"):
        missing = [f"Session{n}" for n in SESSIONS if not (candidate / f"Session{n}").is_dir()]
        if not missing:
            return candidate
        if len(missing) < len(SESSIONS):
            raise DataError(f"{candidate}: {', '.join(missing)} is missing: five folds need all five sessions")
    raise DataError(f"{folder}: not IEMOCAP; expected Session1 … Session5 in it, or in IEMOCAP_full_release under it")


def read_session(corpus: Path, session: int) -> dict[str, tuple[Utterance, str]]:
    """id -> (utterance, emotion) of the four emotions.

    Raises:
        DataError: recordings or labels are missing.
    """
    folder = corpus / f"Session{session}"
    found, problems = {}, []
    for path in sorted((folder / "dialog/EmoEvaluation").glob("*.txt")):
        for utt, emotion in _LINE.findall(path.read_text(encoding="utf-8", errors="replace")):
            wav = folder / "sentences/wav" / path.stem / f"{utt}.wav"
            if emotion not in EMOTIONS:
                continue
            if not wav.is_file():
                problems.append(f"{wav} is missing")
            found[utt] = Utterance(utt, str(wav), "", utt[:6]), EMOTIONS[emotion]
    if not found:
        problems.append(f"{folder / 'dialog/EmoEvaluation'} holds no label of {', '.join(EMOTIONS)}")
    if problems:
        raise DataError(summary(folder, problems))
    return found


def read_list(path: Path) -> list[str]:
    """The ids in one of SUPERB's own lists. Raises DataError where it is missing or another file."""
    try:
        return [Path(item["path"]).stem for item in json.loads(path.read_text(encoding="utf-8"))["meta_data"]]
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing; --lists is the folder with Session1 … Session5 of SUPERB's lists"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not one of SUPERB's lists ({error!r})") from None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True, choices=SESSIONS)
    parser.add_argument("--lists", type=Path, help="SUPERB's own lists (default: made here)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = find_corpus(args.corpus.resolve())
    found = {utt: item for n in SESSIONS for utt, item in read_session(corpus, n).items()}
    if args.lists:
        rest, test = (
            read_list(args.lists / f"Session{args.fold}" / f"{part}_meta_data.json") for part in ("train", "test")
        )
    else:
        test = sorted(utt for utt in found if utt.startswith(f"Ses{args.fold:02d}"))
        rest = sorted(found.keys() - set(test))
    if lost := [utt for utt in (*rest, *test) if utt not in found]:
        raise DataError(f"{args.lists}: {len(lost)} utterances are not in {corpus}, first {lost[0]}")
    size = int((1 - VALID_SHARE) * len(rest))
    torch.manual_seed(0)
    train, dev = random_split(rest, [size, len(rest) - size])
    for name, ids in (("test", test), ("dev", list(dev)), ("train", list(train))):
        write_labelled(args.out / name, [found[utt][0] for utt in ids], {utt: (found[utt][1],) for utt in ids})
        counts = ", ".join(f"{label} {n}" for label, n in sorted(Counter(found[utt][1] for utt in ids).items()))
        print(f"{args.out / name}: {len(ids)} utterances ({counts})")
    return 0


if __name__ == "__main__":
    run_script(main)
