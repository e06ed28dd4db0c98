"""What is said of a submission, and which track of the benchmark it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3router.errors import DataError
from s3router.superb.submission_check import Verdict

RECORD = "report.json"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def track_of(archive: Path) -> dict[str, Any] | None:
    """What ``superb-submit`` has recorded beside an archive; None: nothing. Raises DataError if it is not of it."""
    path = archive.parent / RECORD
    if not path.is_file() or not archive.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["sha256"] == digest(archive)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}); delete it, or make the submission again") from None
    if not same:
        raise DataError(f"{archive} was changed since {path} was written; delete that, or make the submission again")
    return record


def lines(verdict: Verdict, archive: Path, record: Mapping[str, Any] | None, most: int = 20) -> list[str]:
    """The report. ``most``: problems printed of each part; 0: all."""
    tasks = {} if record is None else record["parts"]
    out = [f"{archive}:"]
    for folder, found in verdict.parts.items():
        of = tasks.get(folder)
        against = "against its list" if found.listed else "format only: no list of the test set"
        told = f"  {of['mode']}, {of['track']}" if of else ""
        state = f"{len(found.problems):,} problems" if found.problems else "well"
        out.append(f"  {folder:16s} {found.entries:6,} {found.part.what}  {state}  ({against}){told}")
        out += [f"    remark: {count:,} {kind}" for kind, count in sorted(found.remarks.items())]
    out += [f"  remark: {remark}" for remark in verdict.remarks]
    for problems in (verdict.problems, *(part.problems for part in verdict.parts.values())):
        shown = problems[: most or None]
        out += shown
        if len(shown) < len(problems):
            out.append(f"… and {len(problems) - len(shown):,} more (--max-problems 0 prints all)")
    out.append(f"track: {record['track'] if record else f'not known: there is no {RECORD} of superb-submit beside it'}")
    total = len(verdict.all_problems)
    out.append("nothing is wrong" if not total else f"{total:,} problems: the benchmark cannot score it as it is")
    return out
