"""The report of a submission, and the track of the benchmark that it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3router.submission.check import Verdict
from s3router.submission.check_files import MOST_PROBLEMS
from s3router.submission.tracks import TRACKS, method_of

RECORD = "report.json"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def track_of(archive: Path) -> tuple[dict[str, Any] | None, str]:
    """(the record that ``superb-submit`` left beside an archive, or None; why there is none)."""
    path = archive.parent / RECORD
    if not path.is_file() or not archive.is_file():
        return None, f"superb-submit left no {RECORD} beside it"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["sha256"] == digest(archive)
        known = record["track"] in TRACKS and all(of["track"] and method_of(of) for of in record["parts"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        same = known = False
    if not known:
        return None, f"{path} is damaged"
    return (record, "") if same else (None, f"{path} is of another archive, or this one was changed since")


def lines(
    verdict: Verdict, archive: Path, record: Mapping[str, Any] | None, most: int = 20, reason: str = "not recorded"
) -> list[str]:
    """The report.

    Args:
        verdict: the findings.
        archive: name of the archive.
        record: how the parts were trained; None if that is not known, for this ``reason``.
        most: problems printed for each part; 0 prints all that were kept.
    """
    tasks = {} if record is None else record["parts"]
    out = [f"{archive}:"]
    for folder, found in verdict.parts.items():
        of = tasks.get(folder)
        against = "against its list" if found.listed else "format only: no list of the test set"
        told = f"  {method_of(of)}, {of['track']}" if of else ""
        state = f"problems: {found.total:,}" if found.total else "ok"
        out.append(f"  {folder:16s} {found.entries:6,} {found.part.what}  {state}  ({against}){told}")
        out += [f"    remark: {count:,} {kind}" for kind, count in sorted(found.remarks.items()) if count]
    out += [f"  remark: {remark}" for remark in verdict.remarks]
    groups = [(verdict.problems, len(verdict.problems)), *((p.problems, p.total) for p in verdict.parts.values())]
    for problems, total in groups:
        shown = problems[: most or None]
        out += shown
        if len(shown) < total:
            out.append(
                f"… and {total - len(shown):,} more (--max-problems 0 prints all, up to {MOST_PROBLEMS:,} per part)"
            )
    out.append(f"track: {record['track'] if record else f'not known ({reason})'}")
    out.append(f"problems: {verdict.total:,}; it cannot be scored as it is" if verdict.total else "nothing is wrong")
    return out
