"""The files that scoring reads and writes: Kaldi `text`, sclite `.trn`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3router.errors import DataError
from s3router.files import write_lines


def read_text(path: str | Path, keep_blanks: bool = False) -> dict[str, str]:
    """Read a Kaldi `text` file: one utterance per line: its id, then its words. An id alone is an empty transcript.

    Args:
        keep_blanks: leave blanks between words as they are.

    Returns:
        id -> words separated by single spaces, in file order.

    Raises:
        DataError: the file is missing, empty or not UTF-8, a line has no id, or an id appears twice. All bad lines
            are listed at once.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a Kaldi text file ('<utterance id> <words>')") from None
    except (UnicodeDecodeError, IsADirectoryError) as err:
        raise DataError(f"{path}: not a UTF-8 text file ({err}); convert it with iconv or name another file") from None
    texts: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line:
            break  # what follows the last newline
        utt, *words = line.split() or [""]
        if not utt:
            problems.append(f"line {number} is empty")
        elif utt in texts:
            problems.append(f"line {number}: id {utt} appears twice")
        else:
            texts[utt] = line.split(maxsplit=1)[1].rstrip() if keep_blanks and words else " ".join(words)
    if not texts and not problems:
        problems.append("the file is empty")
    if problems:
        raise DataError(f"{path}: {shorten(problems)}; every line must be '<utterance id> <words>' with its own id")
    return texts


def write_text(path: str | Path, texts: Mapping[str, str]) -> None:
    """Write `texts` (id -> words) as a Kaldi `text` file, in the order given."""
    write_lines(path, (f"{utt} {words}".rstrip() for utt, words in texts.items()))


def write_trn(path: str | Path, texts: Mapping[str, str], speakers: Mapping[str, str] | None = None) -> None:
    """Write `texts` (id -> words) in sclite's transcript format: ``words (speaker-utterance)``.

    Args:
        speakers: id -> speaker; an utterance without one is its own speaker. Score with ``sclite -i spu_id``.

    Raises:
        DataError: an id or speaker holds parentheses, which the format cannot carry.
    """
    names = trn_names(path, texts, speakers or {})
    write_lines(path, (f"{words} ({names[utt]})".lstrip() for utt, words in texts.items()))


def trn_names(where: str | Path, utts: Iterable[str], speakers: Mapping[str, str]) -> dict[str, str]:
    """Id -> what `write_trn` calls it. Raises DataError, with `where`, as it does."""
    names = {utt: f"{speakers.get(utt, utt)}-{utt}" for utt in utts}
    bad = [name for name in names.values() if re.search(r"[()\s]", name)]
    if bad:
        raise DataError(f"{where}: ids with parentheses or blanks do not fit into .trn: {shorten(bad)}; rename them")
    return names


def shorten(items: list[str], limit: int = 5) -> str:
    """The first `limit` of `items` for a message, and how many more there are."""
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")
