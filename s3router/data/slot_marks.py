"""Texts with marked slots, as in a SUPERB submission: ``PLAY B-artist BLUE NOTE E-artist NOW``.

s3prl keeps the same in two columns: the words, and one tag per word (``O`` outside of slots).
"""

from __future__ import annotations

import re

from s3router.errors import DataError

MARK = re.compile(r"([BE])-([a-z]\S*)")
"""Words of Audio SNIPS are in capitals, its slots in small letters."""


def unmarked(text: str) -> tuple[str, str]:
    """``"PLAY B-artist BLUE NOTE E-artist"`` -> ``("PLAY BLUE NOTE", "O artist artist")``.

    Raises:
        DataError: a slot that is not closed, is closed without being open, or holds no word.
    """
    words, tags, slot = [], [], None
    for word in text.split():
        mark = MARK.fullmatch(word)
        if mark is None:
            words.append(word)
            tags.append(slot or "O")
        elif mark[1] == "B" and slot is None:
            slot, begun = mark[2], len(words)
        elif mark[1] == "E" and slot == mark[2]:
            if begun == len(words):
                raise DataError(f"slot {slot} holds no word")
            slot = None
        else:
            raise DataError(f"{word} does not fit here: {'no slot' if slot is None else f'slot {slot}'} is open")
    if slot is not None:
        raise DataError(f"slot {slot} is not closed (E-{slot})")
    return " ".join(words), " ".join(tags)


def marked(words: str, tags: str) -> str:
    """The inverse of `unmarked`: neighbours with the same tag are one slot."""
    found, tagged = [], list(zip(words.split(), tags.split(), strict=True))
    for index, (word, tag) in enumerate(tagged):
        before = tagged[index - 1][1] if index else "O"
        after = tagged[index + 1][1] if index + 1 < len(tagged) else "O"
        found += [f"B-{tag}"] * (tag not in ("O", before)) + [word] + [f"E-{tag}"] * (tag not in ("O", after))
    return " ".join(found)
