"""Trials of speaker verification: pairs of utterances, of one speaker or of two."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3router.corpora.sets import Prepared
from s3router.data.kaldi import Utterance
from s3router.data.utt2label import write_beside
from s3router.errors import DataError

Trial = tuple[int, str, str]
"""1 for the same speaker or 0, and the two utterances."""

PARTNERS = 4  # of each utterance, of the same speaker


def draw_trials(by_speaker: Mapping[str, Sequence[str]]) -> list[Trial]:
    """For each utterance some of the same speaker, and as many of others; the same in every call.

    Raises:
        DataError: no speaker has two utterances.
    """
    speaker_of = {utt: speaker for speaker, utts in by_speaker.items() for utt in utts}
    found = []
    for utt, speaker in sorted(speaker_of.items()):
        by_chance = sorted((other for other in speaker_of if other != utt), key=lambda other, u=utt: digest(u + other))
        same = [other for other in by_chance if speaker_of[other] == speaker][:PARTNERS]
        rest = [other for other in by_chance if speaker_of[other] != speaker][: max(len(same), 1)]
        found += [(1, utt, other) for other in same] + [(0, utt, other) for other in rest]
    if not any(kind for kind, *_ in found):
        raise DataError("no speaker of the trials has two utterances, so none can be drawn")
    return found


def write_trials(done: Prepared, folder: Path, utts: Sequence[Utterance], trials: Sequence[Trial]) -> None:
    """Write a set with ``trials`` (lines of ``<0|1> UTT UTT``), and note it in ``done``."""
    write_beside(folder, utts, "trials", (f"{kind} {one} {other}" for kind, one, other in trials))
    speakers = len({u.speaker for u in utts})
    done.add(folder, f"{len(trials)} trials, {len(utts)} utterances of {speakers} speakers")


def digest(name: str) -> bytes:
    """Orders names as if at random, and always in the same way."""
    return hashlib.sha256(name.encode()).digest()
