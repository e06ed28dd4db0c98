"""Labels in a Kaldi directory: ``utt2label``, one utterance per line, and the writing of such directories.

A label is one word. A label of several slots (an intent's action, object and location) has them separated by
`` ; ``, and they may hold blanks: ``utt7 change language ; none ; none``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from s3router.data.kaldi import DataDir, Utterance
from s3router.files import write_lines

BETWEEN = " ; "
Label = tuple[str, ...]
"""One string for each slot."""


def write_labelled(path: str | os.PathLike, utts: Sequence[Utterance], labels: Mapping[str, Label]) -> None:
    """Write a directory with ``utt2label``."""
    lines = (f"{u.utt} {BETWEEN.join(labels[u.utt])}" for u in sorted(utts, key=lambda u: u.utt))
    write_beside(path, utts, "utt2label", lines)


def write_beside(path: str | os.PathLike, utts: Sequence[Utterance], name: str, lines: Iterable[str]) -> None:
    """Write a directory with a further file ``name``. ``wav.scp`` comes last: a directory that has it is complete."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "wav.scp").unlink(missing_ok=True)
    write_lines(path / name, lines)
    DataDir(path, list(utts)).write(path)
