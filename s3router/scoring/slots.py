"""Slot filling: type F1 and value CER of transcripts with ``B-slot words E-slot`` around the words of a slot.

What counts as a slot in a damaged transcript is as in s3prl's metrics, which the leaderboard takes, oddities included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from s3router.errors import DataError

_SLOT = re.compile(r"B-(\S+) (.+?) E-\1")  # "E-artists" closes the slot "artist", too
_OPENING, _CLOSING = re.compile(r"B-\S+ "), re.compile(r" E-\S+")
_HOPELESS = 100  # errors per character of a value, from which on a hypothesis counts as an empty one


@dataclass(frozen=True)
class SlotScore:
    """SUPERB's two figures of slot filling.

    Attributes:
        type_f1: mean over utterances of the F1 of the sets of slot types (1 where both are empty).
        value_cer: character errors of all reference values, each against the closest hypothesis of its type in the
            utterance (all of it is an error where there is none), over their characters. Marks inside of a value are
            left out of hypotheses, not of references.
    """

    type_f1: float
    value_cer: float


def slots_of(text: str) -> dict[str, list[str]]:
    """``"wake B-hour six E-hour"`` -> ``{"hour": ["six"]}``; a value may hold marks of other slots."""
    found: dict[str, list[str]] = {}
    for name, value in _SLOT.findall(re.sub(" +", " ", text)):
        found.setdefault(name, []).append(value)
    return found


def _without_marks(value: str) -> str:
    """Opening marks go first: what then looks like a closing one goes, too."""
    return _CLOSING.sub("", _OPENING.sub("", value))


def score_slots(hypotheses: Sequence[str], references: Sequence[str]) -> SlotScore:
    """Compare transcripts with marks, position by position.

    Raises:
        DataError: nothing to score, or no slot in the references.
    """
    from rapidfuzz.distance import Levenshtein

    if not references or len(hypotheses) != len(references):
        raise DataError(f"{len(hypotheses)} hypotheses for {len(references)} references: need one for each")
    scores, errors, characters = [], 0, 0
    for hypothesis, reference in zip(map(slots_of, hypotheses), map(slots_of, references), strict=True):
        scores.append(_f1(hypothesis.keys(), reference.keys()))
        for name, values in reference.items():
            others = [_without_marks(other) for other in hypothesis.get(name, [])]
            for value in values:
                characters += len(value)
                distances = [Levenshtein.distance(value, other) for other in others]
                errors += min((d for d in distances if d < _HOPELESS * len(value)), default=len(value))
    if not characters:
        raise DataError("no reference holds a slot (B-name words E-name): are these slot filling transcripts?")
    return SlotScore(sum(scores) / len(scores), errors / characters)


def _f1(found, wanted) -> float:
    if not found and not wanted:
        return 1.0
    return 2 * len(found & wanted) / (len(found) + len(wanted))
