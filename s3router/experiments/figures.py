"""The figures that runs are selected by and that tables show: their names, which way is better, where counts stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A fraction in a result file.

    Attributes:
        name: its key there.
        heading: what tables call it.
        lower: whether less is better.
        counts: where (total, errors) stand in the counts of an utterance; None: there are none for this figure.
    """

    name: str
    heading: str
    lower: bool = True
    counts: tuple[int, int] | None = None

    def rank(self, result: Mapping[str, Any]) -> tuple[float, float]:
        """The smaller the better: by this figure on dev, among equals by the loss there; NaN is the worst."""
        value, loss = result["dev"][self.name], result["dev"].get("loss", 0.0)
        value = value if self.lower else -value
        return (math.inf if math.isnan(value) else value), (math.inf if math.isnan(loss) else loss)


FAMILIES: tuple[tuple[Figure, ...], ...] = (
    (Figure("wer", "WER", counts=(0, 1)), Figure("cer", "CER", counts=(2, 3))),
    (Figure("per", "PER", counts=(0, 1)),),
    (Figure("accuracy", "accuracy", lower=False, counts=(0, 1)), Figure("balanced_accuracy", "recall", lower=False)),
    (Figure("slot_type_f1", "slot-type F1", lower=False), Figure("slot_value_cer", "slot-value CER")),
    (Figure("eer", "EER"),),
    (Figure("der", "DER"),),
)
KNOWN = tuple(figure.name for family in FAMILIES for figure in family)


def figures_of(select: str) -> tuple[Figure, ...]:
    """The figures that a table shows whose runs are selected by this one."""
    return next(family for family in FAMILIES if select in [figure.name for figure in family])
