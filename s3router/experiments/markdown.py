"""Markdown for pages of results: tables that line up in the source, too, and running text of one width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from s3router.scoring.stats import Difference

NONE = "–"
"""Stands where nothing has been measured."""


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    rows = [list(header), *map(list, body)]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(header))]
    for number, row in enumerate(rows):
        aligned = [
            text.ljust(w) if not c else text.rjust(w) for c, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"| {' | '.join(aligned)} |"
        if number == 0:
            yield "|" + "|".join("-" * (w + 2) if not c else "-" * (w + 1) + ":" for c, w in enumerate(widths)) + "|"


def paragraph(*texts: str) -> list[str]:
    """Running text in lines of 118 characters."""
    return textwrap.wrap(" ".join(texts), 118, break_long_words=False, break_on_hyphens=False)


def interval(found: Difference | None) -> str:
    """A difference in points with its interval."""
    if found is None:
        return NONE
    points = [round(100 * value, 1) + 0.0 for value in (found.difference, found.low, found.high)]  # -0.0 + 0.0 is 0.0
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*points)
