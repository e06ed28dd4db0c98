#!/usr/bin/env python3
"""LibriSpeech in its official layout -> Kaldi directories train, dev and test of phonemes (called by local/data.sh).

Words become phonemes by s3prl's own function, with the first pronunciation that the lexicon has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import librispeech

from s3router.data.kaldi import Utterance, summary
from s3router.errors import DataError, run_script


def phonemes(sets: dict[str, list[Utterance]], lexicons: list[Path]) -> dict[str, str]:
    """Utterance -> its phonemes, separated by blanks.

    Raises:
        DataError: a lexicon is missing or has a line without a phoneme; words that no lexicon has.
    """
    from s3router.upstreams.s3prl_engine import load

    for path in lexicons:
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected a lexicon ('WORD P1 P2 ...' a line)")
        bad = [n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if len(line.split()) < 2]
        if bad:
            raise DataError(f"{path}: line {bad[0]} is not 'WORD P1 P2 ...'")
    g2p = load("s3prl.dataio.encoder.g2p").G2P([str(path) for path in lexicons])
    utts = [u for part in sets.values() for u in part]
    lacking = sorted({word for u in utts for word in u.text.upper().split()} - g2p.word2phone.keys())
    if lacking:
        names = " and ".join(str(path) for path in lexicons)
        raise DataError(summary(names, [f"{word} is not in the lexicon" for word in lacking]))
    return {u.utt: g2p.encode(" ".join(u.text.split())) for u in utts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--lexicon", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sets = librispeech.read(args.corpus.resolve())
    librispeech.write(args.out, sets, phonemes(sets, args.lexicon))
    return 0


if __name__ == "__main__":
    run_script(main)
