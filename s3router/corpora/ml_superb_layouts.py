"""The two forms in which ML-SUPERB 2.0 is given out, read as one stream of utterances."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.corpora.sets import StrPath, folder_of, read_text
from s3router.data.kaldi import summary
from s3router.data.ml_superb_text import language_code, split_tag
from s3router.errors import ConfigError, DataError

CORPUS = "ML-SUPERB 2.0"
TRAIN, DEV, TEST, DIALECT = "train", "dev", "test", "dialect"
COLUMNS = ("id", "language", "audio", "text")
SPLITS = {"train": TRAIN, "dev": TEST, "dev_dialect": DIALECT}
"""Splits of the HuggingFace dataset -> ours; it has no test set besides its dev."""
SUBSETS = ("10min", "1h")
"""Of training, for each language of each source."""

_ROWS = 64  # of a table, held in memory at a time
_SHARD = re.compile(r"(.+?)-\d+-of-\d+(?:-[0-9a-f]+)?")


@dataclass(frozen=True)
class Item:
    """One utterance as it is given out.

    Attributes:
        utt: id.
        lang: code that the challenge expects.
        part: `TRAIN`, `DEV`, `TEST` or `DIALECT`.
        text: transcript without its language.
        audio: the recording: its file, or the content of one.
        name: the file's name, where `audio` is content; its suffix tells the format.
    """

    utt: str
    lang: str
    part: str
    text: str
    audio: Path | bytes
    name: str = ""


def read_corpus(source: StrPath, subset: str, dialects: StrPath | None) -> tuple[Iterator[Item], bool]:
    """All utterances of a folder in either layout, and whether it has a development set of its own.

    Args:
        source: the HuggingFace dataset (parquet files, or a folder that ``save_to_disk`` wrote), or ``eighth_version``.
        subset: of training, one of `SUBSETS`.
        dialects: the varieties, in the layout of ``eighth_version``, where ``source`` is so, too.

    Raises:
        ConfigError: the HuggingFace dataset has no such subset, or holds the varieties itself.
        DataError: neither layout.
    """
    folder = folder_of(source, CORPUS)
    tables = find_tables(folder)
    if tables:
        if subset != SUBSETS[-1]:
            raise ConfigError(
                f"--subset {subset}: {folder} has {SUBSETS[-1]} alone; s3router subset takes a part of a set"
            )
        if dialects is not None:
            raise ConfigError(f"--dialects {dialects}: {folder} has the varieties itself; leave it out")
        return read_tables(tables), False
    root = find_root(folder)
    if root is None:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise DataError(
            f"{folder}: not {CORPUS} (there: {there}); expected parquet files, a folder that save_to_disk wrote, or "
            "eighth_version/SOURCE/LANG/{wav,transcript_*.txt}"
        )
    return _both(root, subset, None if dialects is None else folder_of(dialects, "the language varieties")), True


def _both(root: Path, subset: str, dialects: Path | None) -> Iterator[Item]:
    yield from read_transcripts(root, {f"{subset}_train": TRAIN, "10min_dev": DEV, "10min_test": TEST})
    if dialects is not None:
        dialects = find_root(dialects) or dialects
        yield from read_transcripts(dialects, dict.fromkeys(("10min_dev", "10min_test"), DIALECT), every=False)


def find_root(folder: Path) -> Path | None:
    """The folder that holds SOURCE/LANG/transcript_*.txt: this one, or one below it."""
    for root in (folder, folder / "eighth_version", *sorted(path for path in folder.iterdir() if path.is_dir())):
        if next(root.glob("*/*/transcript_*.txt"), None) is not None:
            return root
    return None


def read_transcripts(root: Path, wanted: dict[str, str], every: bool = True) -> Iterator[Item]:
    """The utterances of SOURCE/LANG/transcript_NAME.txt.

    Args:
        wanted: NAME -> part.
        every: each language has all of these files.

    Raises:
        DataError: files or columns are missing, with all problems of a language.
    """
    for folder in sorted({path.parent for path in root.glob("*/*/transcript_*.txt")}):
        problems: list[str] = []
        for name, part in wanted.items():
            transcript = folder / f"transcript_{name}.txt"
            if not transcript.is_file():
                problems += [f"{transcript.name} is missing; unpack the archive again"] if every else []
                continue
            for number, line in enumerate(read_text(transcript).splitlines(), 1):
                cells = line.strip().split(maxsplit=2)
                if len(cells) < 2:
                    problems.append(f"{transcript.name}: line {number} is not 'UTTERANCE COLUMN TEXT': {line!r}")
                    continue
                wav = folder / "wav" / f"{cells[0]}.wav"
                if not wav.is_file():
                    problems.append(f"{transcript.name}: line {number}: wav/{wav.name} is missing")
                    continue
                text = cells[2] if len(cells) == 3 else ""
                yield Item(cells[0], language_code(folder.name, cells[0]), part, text, wav.resolve())
        if problems:
            raise DataError(summary(folder, problems))


def find_tables(folder: Path) -> dict[str, list[Path]]:
    """Split -> its parquet files, or the arrow files of ``save_to_disk``; empty where there are none."""
    found: dict[str, list[Path]] = {}
    for path in sorted((*folder.glob("*.parquet"), *folder.glob("data/*.parquet"))):
        shard = _SHARD.fullmatch(path.stem)
        found.setdefault(shard[1] if shard else path.stem, []).append(path)
    for path in sorted(folder.glob("*/data-*.arrow")):
        found.setdefault(path.parent.name, []).append(path)
    return {split: found[split] for split in SPLITS if split in found}


def read_tables(tables: dict[str, list[Path]]) -> Iterator[Item]:
    """The utterances of the HuggingFace dataset.

    Raises:
        DataError: a table that cannot be read, without the columns, or a text without its language.
    """
    for split, paths in tables.items():
        for path in paths:
            for row in _rows(path):
                utt, audio = str(row["id"]).strip(), row["audio"]
                try:
                    _, text = split_tag(row["text"] or "")
                except DataError as error:
                    raise DataError(f"{path}: {utt}: {error}") from None
                if not isinstance(audio, dict) or not audio.get("bytes"):
                    raise DataError(f"{path}: {utt}: no audio in its row; fetch the dataset with its audio")
                lang = language_code(row["language"], utt)
                yield Item(utt, lang, SPLITS[split], text, audio["bytes"], str(audio.get("path") or ""))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise ConfigError(f"{path}: reading it needs pyarrow ({error}): pip install pyarrow") from None
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                _check_columns(path, file.schema_arrow.names)
                for batch in file.iter_batches(_ROWS, columns=list(COLUMNS)):
                    yield from batch.to_pylist()
            return
        with pyarrow.memory_map(str(path)) as content, ipc.open_stream(content) as stream:
            _check_columns(path, stream.schema.names)
            for batch in stream:
                for start in range(0, len(batch), _ROWS):
                    yield from batch.select(list(COLUMNS)).slice(start, _ROWS).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); fetch it again") from None


def _check_columns(path: Path, names: list[str]) -> None:
    if lacking := [name for name in COLUMNS if name not in names]:
        found = ", ".join(names)
        raise DataError(f"{path}: no column {', '.join(lacking)} (found: {found}); is it espnet/ml_superb_hf?")
