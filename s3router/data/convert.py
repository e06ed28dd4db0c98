"""One set of recordings and texts in the forms that people keep it in.

``kaldi``: a data directory. ``nemo``: a JSONL manifest. ``lhotse``: cuts. ``hf``: a dataset of HuggingFace's, as
``save_to_disk`` writes it.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3router.data.audio import file_of, is_in_archive, is_pipe, join_stretch, split_stretch
from s3router.data.hf_dataset import MARKS, load_dataset, read_dataset, write_dataset
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.lhotse_cuts import read_cuts, write_cuts
from s3router.data.nemo_manifest import read_manifest, write_manifest
from s3router.errors import ConfigError, DataError

FORMATS = ("kaldi", "nemo", "lhotse", "hf")
_FOLDERS = ("kaldi", "hf")


def convert(
    source: Any,
    target: str | os.PathLike,
    to: str | None = None,
    *,
    audio: str = "audio",
    text: str = "text",
    split: str | None = None,
) -> DataDir:
    """Write a set in another form; returns its utterances as they were read, sorted by id.

    Recordings stay where they are; those that are inside of a HuggingFace dataset go to a folder beside the target, or,
    of a Kaldi directory, in it. Stretches of recordings (``segments``, ``offset``, cuts) stay stretches, and become
    recordings of their own only in ``hf``.

    Args:
        source: a path in one of `FORMATS`, which its content tells; or a ``Dataset`` or ``CutSet`` in memory.
        target: a folder (kaldi, hf), ``*.json`` or ``*.jsonl`` (nemo), ``*.jsonl.gz`` (lhotse).
        to: one of `FORMATS`; may be left out where the target's name tells.
        audio, text, split: of a HuggingFace dataset (`s3router.data.hf_dataset.read_dataset`).

    Raises:
        ConfigError: an unknown format; lhotse or datasets are not installed.
        DataError: the source is in none of the forms, or damaged; what the target's form cannot hold.
    """
    target, to = Path(target), _target_format(os.fspath(target), to)
    folder = target / "wav" if to == "kaldi" else target.with_name(f"{target.name.split('.')[0]}_wav")
    data = DataDir(target, _named(read(source, folder, audio, text, split), os.fspath(target)))
    if to == "kaldi":
        return data.write(target)
    if to != "hf":
        _need_files(data, to)
        data = data.with_durations()
    {"nemo": write_manifest, "lhotse": write_cuts, "hf": write_dataset}[to](data, target)
    return data


def opened(source: Any) -> Any:
    """A dataset of HuggingFace's that is on disk as it is in memory, so that its splits show; all else as it is."""
    on_disk = isinstance(source, str | os.PathLike) and any((Path(source) / mark).is_file() for mark in MARKS)
    return load_dataset(source) if on_disk else source


def read(
    source: Any, folder: str | os.PathLike, audio: str = "audio", text: str = "text", split: str | None = None
) -> list[Utterance]:
    """The utterances of a set in any of `FORMATS`, or of a ``Dataset`` or ``CutSet`` in memory.

    Args:
        folder: for audio that is in no file; made only if there is any.
        audio, text, split: as of `convert`.

    Raises: as `convert`.
    """
    form = _format_in_memory(source) or format_of(source)
    if form == "kaldi":
        return [replace(utt, source=_absolute(utt.source)) for utt in DataDir.read(source).utts]
    if form == "hf":
        return read_dataset(source, folder, audio, text, split)
    return read_manifest(source) if form == "nemo" else read_cuts(source)


def format_of(path: str | os.PathLike) -> str:
    """Which of `FORMATS` a folder or file is in. Raises DataError where it is in none."""
    path = Path(path)
    if path.is_dir():
        if (path / "wav.scp").is_file():
            return "kaldi"
        if any((path / mark).is_file() for mark in MARKS):
            return "hf"
        raise DataError(f"{path}: neither a Kaldi directory (wav.scp) nor a dataset that save_to_disk wrote")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            first = json.loads(next((line for line in file if line.strip()), ""))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder; correct the path") from None
    except (OSError, EOFError, zlib.error, ValueError):
        first = None
    if isinstance(first, dict) and "audio_filepath" in first:
        return "nemo"
    if isinstance(first, dict) and "type" in first and "supervisions" in first:
        return "lhotse"
    raise DataError(f"{path}: neither a manifest of NeMo's nor cuts of lhotse's, by its first line; name one of them")


def _format_in_memory(source: Any) -> str | None:
    if isinstance(source, str | os.PathLike):
        return None
    home = type(source).__module__.split(".")[0]
    if home not in ("datasets", "lhotse"):
        raise ConfigError(f"{type(source).__name__}: expected a path, a Dataset of datasets, or a CutSet of lhotse")
    return "hf" if home == "datasets" else "lhotse"


def _target_format(target: str, to: str | None) -> str:
    by_name = next((form for end, form in ENDINGS if target.endswith(end)), None)
    if to is not None and to not in FORMATS:
        raise ConfigError(f"format {to!r} is not known; known: {', '.join(FORMATS)}")
    if to is None and by_name is None:
        raise ConfigError(f"{target}: a folder may be {' or '.join(_FOLDERS)}; say which (--to)")
    if by_name is not None and to in _FOLDERS:
        raise ConfigError(f"{target}: {to} is a folder; name one without an ending")
    return to or str(by_name)


ENDINGS = ((".jsonl.gz", "lhotse"), (".jsonl", "nemo"), (".json", "nemo"))


def _named(utts: Sequence[Utterance], where: str) -> list[Utterance]:
    """Ids without blanks, each once, texts of one line; sorted by id."""
    if not utts:
        raise DataError(f"{where}: no utterances to write; is the source empty?")
    tidy = [replace(u, utt="_".join(u.utt.split()), text=" ".join(u.text.split())) for u in utts]
    known: dict[str, str] = {}
    problems = []
    for utt in tidy:
        if not utt.utt or utt.utt in known:
            problems.append(
                f"{utt.source}: its id {utt.utt!r} is empty, or that of {known.get(utt.utt)}; give it an id"
            )
        known[utt.utt] = utt.source
    if problems:
        raise DataError(summary(where, problems))
    return sorted(tidy, key=lambda u: u.utt)


def _need_files(data: DataDir, to: str) -> None:
    problems = [f"{u.utt}: {u.source}" for u in data.utts if is_pipe(u.source) or is_in_archive(u.source)]
    if problems:
        raise DataError(
            summary(f"{data.path}: {to} names files; s3router format-wav makes some of pipes and archives", problems)
        )


def _absolute(source: str) -> str:
    """A source that means the same in any folder; pipes stay as they are."""
    whole, start, end = split_stretch(source)
    file = file_of(whole)
    if file is None or is_in_archive(whole):
        return source
    whole = os.path.abspath(file)
    return whole if start is None or end is None else join_stretch(whole, start, end)
