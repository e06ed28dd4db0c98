"""Checks of a part's files of lines; the findings of all checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import BinaryIO

from s3router.submission.expected import Expected
from s3router.submission.formats import Part, WrongLine

LONGEST_LINE = 1 << 20
MOST_PROBLEMS = 10_000
AGAIN = "trials that come again with the same score"


@dataclass
class Checked:
    """The findings for one part.

    Attributes:
        part: the part.
        entries: number of predictions.
        problems: ``path:line: what is wrong``.
        remarks: kinds of oddities that are allowed, with their counts.
        uncounted: number of problems beyond the first `MOST_PROBLEMS`, which are not kept.
        listed: whether the predictions were compared with a list of the test set.
    """

    part: Part
    entries: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    listed: bool = False
    uncounted: int = 0

    @property
    def total(self) -> int:
        """Number of problems, including those that were not kept."""
        return len(self.problems) + self.uncounted

    def wrong(self, path: str, line: int | None, text: str) -> None:
        """Note a problem."""
        if len(self.problems) == MOST_PROBLEMS:
            self.uncounted += 1
            return
        self.problems.append(f"{path}: {text}" if line is None else f"{path}:{line}: {text}")


def check_lines(found: Checked, path: str, file: BinaryIO, expected: Expected | None) -> None:
    """Check a file of lines (`Part.parse`): UTF-8, each id once, all ids of the list and no others."""
    known = None if expected is None else set(expected.ids)
    seen: dict[str, tuple[int, str]] = {}
    for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        if not raw.endswith(b"\n") and len(raw) == LONGEST_LINE:
            found.wrong(path, number, f"longer than {LONGEST_LINE:,} bytes; the rest of the file was not read")
            break
        try:
            line = _text(raw, number)
            parsed = found.part.parse(line)
        except WrongLine as error:
            found.wrong(path, number, str(error))
            continue
        utt = parsed.utt
        if parsed.problem:
            found.wrong(path, number, parsed.problem)
        if parsed.remark:
            found.remarks[parsed.remark] += 1
        if utt in seen:
            first, before = seen[utt]
            if found.part.name == "sv" and before == line:
                found.remarks[AGAIN] += 1
            else:
                found.wrong(path, number, f"{utt} appears twice (first in line {first})")
            continue
        seen[utt] = number, line
        if known is not None and utt not in known:
            found.wrong(path, number, f"{utt} is not in the list of the test set")
    found.entries = len(seen) + found.remarks[AGAIN]
    compare_totals(found, path, seen.keys(), expected)
    if found.part.whole and not found.total and (problem := found.part.whole([line for _, line in seen.values()])):
        found.wrong(path, None, problem)


def _text(raw: bytes, number: int) -> str:
    """A line without its line end. Raises WrongLine."""
    try:
        line = raw.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise WrongLine(f"not UTF-8 (byte {error.start + 1} of the line is {raw[error.start]:#04x})") from None
    if number == 1 and line.startswith("\ufeff"):
        raise WrongLine("begins with a byte order mark; write plain UTF-8")
    if line.endswith("\r"):
        raise WrongLine("ends with a carriage return; lines end with a newline alone")
    if not line.strip():
        raise WrongLine("empty")
    if "\t" in line:
        raise WrongLine("holds a tab; columns are separated by one space (in .csv: by commas)")
    control = next((c for c in line if not c.isprintable()), None)
    if control is not None:
        raise WrongLine(f"holds the control character {control!r}")
    return line


def compare_totals(found: Checked, path: str, seen: Collection[str], expected: Expected | None) -> None:
    """Note ids of the list that are missing from ``seen`` or, without a list, a total other than the benchmark's."""
    part = found.part
    if expected is None:
        if part.total is not None and found.entries != part.total:
            found.wrong(
                path,
                None,
                f"{found.entries:,} {part.what}; the benchmark's test set has {part.total:,} (no list given)",
            )
        return
    found.listed = True
    missing = [utt for utt in expected.ids if utt not in seen]
    if missing:
        some = ", ".join(missing[:5]) + (f" and {len(missing) - 5:,} more" if len(missing) > 5 else "")
        found.wrong(path, None, f"{len(missing):,} {part.what} of the test set are not predicted: {some}")
