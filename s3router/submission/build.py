"""Building a submission from trained tasks: find their predictions, check them, zip them, name the track."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError, DataError
from s3router.files import read_json, replacing, unfinished, write_json
from s3router.submission.check import TOP, Verdict, check_submission
from s3router.submission.expected import Expected, read_list, write_list
from s3router.submission.formats import ACTIVITIES, FRAME_SHIFT, PARTS, TASK_NAMES, Part
from s3router.submission.report import RECORD, digest
from s3router.submission.tracks import TRACKS, loosest, method_of

ARCHIVE, LISTS, RESULT = "predict.zip", "lists", "result.json"
_AGAIN = "predict the test set again (stage 5)"


@dataclass(frozen=True)
class Source:
    """The files of a part in an experiment.

    Attributes:
        part: the part of the submission.
        exp_dir: the experiment.
        predicted: its folder ``predict_SET``.
        files: path in the part's folder -> file.
    """

    part: Part
    exp_dir: Path
    predicted: Path
    files: dict[str, Path]


def find_source(exp_dir: str | os.PathLike, part: Part) -> Source | None:
    """The files of a part in an experiment (or in one of its folders ``predict_SET``); None if it has none.

    Raises:
        DataError: no such folder, or several predicted sets of which none is named.
    """
    exp_dir = Path(exp_dir)
    if not exp_dir.is_dir():
        raise DataError(f"--{part.name} {exp_dir}: no such folder; expected an experiment, exp/NAME")
    own = (exp_dir / part.folder).is_dir()
    found = [exp_dir] if own else [p.parent for p in sorted(exp_dir.glob(f"predict_*/{part.folder}")) if p.is_dir()]
    if len(found) > 1:
        names = " ".join(str(folder) for folder in found)
        raise DataError(f"--{part.name} {exp_dir}: several sets were predicted; name one of: {names}")
    if not found:
        return None
    folder = found[0] / part.folder
    wanted = [part.file]
    if part.name == "sd":
        wanted = [FRAME_SHIFT, *(f"{ACTIVITIES}/{p.name}" for p in sorted((folder / ACTIVITIES).glob("*.h5")))]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise DataError(f"--{part.name}: {folder / missing[0]} is missing; predict the test set again (stage 5)")
    return Source(part, exp_dir if not own else exp_dir.parent, found[0], {name: folder / name for name in wanted})


def find_sources(given: Mapping[str, Sequence[Path]]) -> list[Source]:
    """The parts of a submission, in the order of `PARTS`.

    Args:
        given: task -> experiments: one of each, but five for er, one per fold.

    Raises:
        ConfigError: unknown task, none at all, several experiments of a task that has no folds.
        DataError: an experiment without predictions; a fold that is missing or given twice.
    """
    if not any(given.values()):
        raise ConfigError(f"name an experiment of at least one task: {', '.join('--' + name for name in TASK_NAMES)}")
    sources: dict[str, Source] = {}
    for name, folders in given.items():
        parts = [part for part in PARTS.values() if part.name == name]
        if not parts:
            raise ConfigError(f"unknown task {name!r}; known: {', '.join(TASK_NAMES)}")
        if name != "er" and len(folders) > 1:
            raise ConfigError(f"--{name} takes one experiment, found {len(folders)}")
        for folder in folders:
            found = [source for part in parts if (source := find_source(folder, part))]
            if not found:
                where = " or ".join(f"predict_*/{part.folder}" for part in parts[:1])
                raise DataError(f"--{name} {folder}: there is no {where} in it; predict the test set first (stage 5)")
            for source in found:
                if source.part.folder in sources:
                    other = sources[source.part.folder].exp_dir
                    raise DataError(f"{source.part.folder} is in {other} and in {source.exp_dir}; name one of them")
                sources[source.part.folder] = source
        missing = [part.folder for part in parts if folders and part.folder not in sources]
        if missing:
            raise DataError(f"--er: all five folds are scored together; missing: {', '.join(missing)}")
    return [sources[folder] for folder in PARTS if folder in sources]


def record_of(source: Source) -> dict[str, Any]:
    """How a part was trained: method, upstream, track. Raises DataError if its ``result.json`` does not say."""
    result = _result(source)
    result["method"] = method_of(result)
    missing = [name for name in ("method", "track", "upstream") if result.get(name) is None]
    if missing or result["track"] not in TRACKS:
        raise DataError(f"{source.predicted / RESULT} has no {', '.join(missing) or 'known track'}; {_AGAIN}")
    kept = ("method", "track", "upstream", "sparsity", "seed", "lr", "upstream_lr", "layer")
    found = {key: result[key] for key in kept if result.get(key) is not None}
    return {"experiment": str(source.exp_dir), **found}


def _result(source: Source) -> dict[str, Any]:
    return read_json(source.predicted / RESULT, _AGAIN)


def list_of(source: Source) -> Expected | None:
    """The entries of the test set, if it is still where ``result.json`` says; else None."""
    result = _result(source)
    wanted = ("data_dir", "documents_dir") if source.part.name == "qbe" else ("data_dir",)
    # Paths are relative to the folder where the command ran, the recipe's: exp/NAME/predict_SET lies in it.
    above = [*source.predicted.absolute().parents, *source.predicted.resolve().parents]
    places = [[place / result[name] for place in above] for name in wanted if name in result]
    folders = [place for options in places for place in [p for p in options if p.is_dir()][:1]]
    if len(folders) < len(wanted):
        return None
    if source.part.name == "qbe":
        queries, documents = (read_list(folder / "wav.scp", PARTS["sd_public"]) for folder in folders)
        return Expected(queries.ids, documents.ids)
    return read_list(folders[0], source.part)


def build(
    sources: Sequence[Source], output: str | os.PathLike, lists: Mapping[str, Expected]
) -> tuple[Path, Verdict, dict[str, Any]]:
    """Write ``predict.zip``, ``lists/`` and ``report.json``. A zip with problems is not kept.

    Args:
        sources: from `find_sources`.
        output: the folder.
        lists: lists by part's folder; they take precedence over those that `list_of` finds.

    Returns:
        (the zip, the findings of its check, the content of ``report.json``); with problems, nothing was written.
    """
    output = Path(output)
    records = {source.part.folder: record_of(source) for source in sources}
    known = {source.part.folder: found for source in sources if (found := list_of(source)) is not None} | dict(lists)
    output.mkdir(parents=True, exist_ok=True)
    path = output / ARCHIVE
    made = unfinished(path)
    try:
        _zip(sources, made)
        verdict = check_submission(made, known)
        record = {"track": loosest(of["track"] for of in records.values()), "parts": records}
        if not verdict.total:
            for name in (RECORD, ARCHIVE):  # in this order: a record never stands beside an older archive
                (output / name).unlink(missing_ok=True)
            (output / LISTS).mkdir(exist_ok=True)
            for old in (output / LISTS).glob("*.txt"):
                old.unlink()
            for folder, expected in known.items():
                write_list(output / LISTS / f"{folder}.txt", expected)
            made.replace(path)
            record["sha256"] = digest(path)
            write_json(output / RECORD, record)
    finally:
        made.unlink(missing_ok=True)
    return path, verdict, record


def _zip(sources: Sequence[Source], path: Path) -> None:
    """The same files always give the same bytes."""
    with replacing(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sources:
            for name, content in source.files.items():
                info = zipfile.ZipInfo(f"{TOP}/{source.part.folder}/{name}")
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with content.open("rb") as original, archive.open(info, "w", force_zip64=True) as target:
                    while block := original.read(1 << 20):
                        target.write(block)
