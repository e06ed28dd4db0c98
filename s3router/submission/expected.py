"""Lists of the entries of test sets, with which a submission is compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3router.errors import DataError
from s3router.files import write_lines
from s3router.submission.formats import PARTS, Part

QUERY, DOCUMENT = "query", "document"
RATE = 16_000


@dataclass(frozen=True)
class Expected:
    """The entries that must be predicted.

    Attributes:
        ids: utterances, pairs (``name1_name2``), recordings or queries, each once.
        documents: the documents that each query is searched in; only for qbe.
        samples: recording -> its samples at 16 kHz, as far as they are known; only for sd.
    """

    ids: tuple[str, ...]
    documents: tuple[str, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)


def read_list(path: str | os.PathLike, part: Part) -> Expected:
    """Read a list.

    Args:
        path: a file with one id per line (the rest of the line is ignored), such as ``wav.scp``, or a Kaldi directory.
            For sv also the corpus's list of trials (``label path1 path2``), or a directory that holds it as ``trials``;
            for qbe, lines ``query NAME`` and ``document NAME``; for sd, a Kaldi directory whose recordings are there,
            or lines ``RECORDING SAMPLES``, with which lengths are compared.
        part: the part of the submission.

    Raises:
        DataError: a list that is missing or empty, or that has an id twice.
    """
    path = Path(path)
    samples = _lengths(path) if part.name == "sd" and path.is_dir() else {}
    if path.is_dir():
        names = {"sv": ("trials",), "qbe": ("terms",)}.get(part.name, ("wav.scp",))
        path = next((path / name for name in names if (path / name).is_file()), path / names[0])
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as the list of {part.what} of {part.folder} ({error})") from None
    if part.name == "qbe":
        return _terms(path, rows)
    if part.name == "sv" and rows and all(len(row) == 3 and row[0] in ("0", "1") for row in rows):
        ids = [f"{pair_name(first)}_{pair_name(second)}" for _, first, second in rows]
    else:
        ids = [row[0] for row in rows]
    if part.name == "sd" and not samples:
        samples = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
    return Expected(_once(path, list(dict.fromkeys(ids)) if part.name == "sv" else ids), samples=samples)


def _lengths(folder: Path) -> dict[str, int]:
    """Samples at 16 kHz of a directory's recordings; nothing where these are gone: ids are compared all the same."""
    from s3router.data.kaldi import DataDir

    try:
        utts = DataDir.read(folder, need_text=False).with_durations().utts
    except DataError:
        return {}
    return {utt.utt: round(utt.duration * RATE) for utt in utts if utt.duration is not None}


def pair_name(path: str) -> str:
    """``id10270/video/00001.wav`` -> ``id10270-video-00001``, as the benchmark names the utterances of a pair."""
    return "-".join(path.split("/")[-3:]).split(".")[0]


def write_list(path: str | os.PathLike, expected: Expected) -> None:
    """Write a list that `read_list` reads."""
    if expected.documents:
        lines = [*(f"{QUERY} {q}" for q in expected.ids), *(f"{DOCUMENT} {d}" for d in expected.documents)]
    else:
        lines = [f"{name} {expected.samples[name]}" if name in expected.samples else name for name in expected.ids]
    write_lines(path, lines)


def read_lists(folder: str | os.PathLike) -> dict[str, Expected]:
    """All lists of a folder, ``<part's folder>.txt`` each (``ks_public.txt``). Raises DataError for another name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected lists such as ks_public.txt in it")
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    strange = [path.name for path in files if path.suffix != ".txt" or path.stem not in PARTS]
    if strange:
        known = ", ".join(f"{name}.txt" for name in PARTS)
        raise DataError(f"{folder}: {strange[0]} is not the list of any part; known names: {known}")
    return {path.stem: read_list(path, PARTS[path.stem]) for path in files}


def _terms(path: Path, rows: list[list[str]]) -> Expected:
    wrong = [row for row in rows if len(row) != 2 or row[0] not in (QUERY, DOCUMENT)]
    if wrong:
        raise DataError(f"{path}: {' '.join(wrong[0])!r} is neither 'query NAME' nor 'document NAME'")
    queries, documents = ([name for kind, name in rows if kind == wanted] for wanted in (QUERY, DOCUMENT))
    return Expected(_once(path, queries), _once(path, documents))


def _once(path: Path, ids: list[str]) -> tuple[str, ...]:
    if not ids:
        raise DataError(f"{path}: the list is empty; name the list of a test set")
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{path}: {name} appears twice")
        seen.add(name)
    return tuple(ids)
