"""Check of a submission: every line of every file, against the task's format and the list of its test set."""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from s3router.errors import DataError
from s3router.submission.check_activities import check_diarization
from s3router.submission.check_files import Checked, check_lines
from s3router.submission.check_terms import check_terms
from s3router.submission.expected import Expected
from s3router.submission.formats import ACTIVITIES, PARTS

TOP = "predict"
LARGEST = 8 << 30
"""Bytes of an unpacked file; the largest, QUESST's answer, has less than 1 GB."""


@dataclass
class Verdict:
    """The findings for a submission.

    Attributes:
        parts: findings by folder, in the order of `PARTS`.
        problems: problems of the archive as a whole.
        remarks: oddities of the archive that are allowed.
    """

    parts: dict[str, Checked]
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def all_problems(self) -> list[str]:
        """Problems of the archive and its parts, as far as they were kept."""
        return [*self.problems, *(problem for part in self.parts.values() for problem in part.problems)]

    @property
    def total(self) -> int:
        """Number of problems."""
        return len(self.problems) + sum(part.total for part in self.parts.values())


def check_submission(path: str | os.PathLike, lists: Mapping[str, Expected] | None = None) -> Verdict:
    """Check a zip.

    Args:
        path: ``predict.zip``.
        lists: lists of test sets by folder (``ks_public``). For a part without one, the number of entries is compared
            with the benchmark's, where it is known.

    Raises:
        DataError: no such file, or not a zip.
    """
    path = Path(path)
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; s3router superb-submit makes one") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: not a readable zip ({error})") from None
    with archive:
        return _check(archive, lists or {})


def _check(archive: zipfile.ZipFile, lists: Mapping[str, Expected]) -> Verdict:
    verdict = Verdict({})
    names = _usable(archive, verdict)
    folders: dict[str, list[str]] = {}
    for name in names:
        top, folder, *rest = [*name.split("/"), "", ""][:3]
        if top != TOP:
            verdict.problems.append(f"{name}: all files lie under {TOP}/")
        elif folder not in PARTS or not rest[0]:
            verdict.problems.append(f"{name}: no task has it; the folders under {TOP}/ are: {', '.join(PARTS)}")
        else:
            folders.setdefault(folder, []).append(name)
    for folder, part in PARTS.items():
        if folder in folders:
            verdict.parts[folder] = found = Checked(part)
            _check_part(archive, found, folders[folder], lists.get(folder))
    if not verdict.parts:
        verdict.problems.append(f"nothing to score: no {TOP}/<folder>/<file> of any task is in it")
    emotions = [name for name in PARTS if PARTS[name].name == "er"]
    missing = [name for name in emotions if name not in verdict.parts]
    if 0 < len(missing) < len(emotions):
        verdict.problems.append(f"{TOP}: er is scored with all five folds only; missing: {', '.join(missing)}")
    verdict.remarks += [
        f"the list of {name} was not used: the part is not there" for name in lists if name not in folders
    ]
    return verdict


def _usable(archive: zipfile.ZipFile, verdict: Verdict) -> list[str]:
    """Names of the files that are safe to read; problems of the others are noted."""
    names: list[str] = []
    for info in archive.infolist():
        name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir():
            continue
        if name in names:
            verdict.problems.append(f"{name}: is in the archive twice")
        elif name.startswith("/") or "\\" in name or {"..", "."} & set(name.split("/")):
            verdict.problems.append(f"{name!r}: not a plain path under {TOP}/")
        elif kind not in (0, stat.S_IFREG):
            verdict.problems.append(f"{name}: a link or device, not a file")
        elif info.flag_bits & 1:
            verdict.problems.append(f"{name}: encrypted; it could not be scored")
        elif info.file_size > LARGEST:
            verdict.problems.append(f"{name}: {info.file_size:,} bytes when unpacked, over {LARGEST:,}; not read")
        else:
            names.append(name)
    return names


def _check_part(archive: zipfile.ZipFile, found: Checked, names: list[str], expected: Expected | None) -> None:
    part = found.part
    folder = f"{TOP}/{part.folder}"
    main = f"{folder}/{part.file}"
    inside = f"{folder}/{ACTIVITIES}/" if part.name == "sd" else None
    for name in names:
        if name != main and not (inside and name.startswith(inside)):
            found.wrong(
                name, None, f"does not belong here; {folder} holds {part.file}{f' and {ACTIVITIES}/' if inside else ''}"
            )
    if main not in names:
        found.wrong(main, None, "is missing")
        if not inside:
            return

    def open_file(name: str) -> BinaryIO:
        return archive.open(name)

    try:
        if part.name == "sd":
            check_diarization(found, folder, names, open_file, expected)
        else:
            with open_file(main) as file:
                (check_terms if part.parse is None else check_lines)(found, main, file, expected)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError) as error:
        found.wrong(main, None, f"cannot be unpacked ({error}); the archive is damaged, make it again")
    if expected is not None and part.total is not None and found.entries != part.total:
        found.remarks[f"entries where the benchmark's test set has {part.total:,} {part.what}"] = found.entries
