"""HuggingFace datasets with a column of audio and one of texts; needs the extra [data].

Audio is never decoded by ``datasets`` (which would need torchcodec): its bytes are read and written as they are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s3router.data.audio import no_command, read_native, split_stretch, write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.waves import waveform
from s3router.errors import ConfigError, DataError
from s3router.files import replacing, replacing_folder

_IDS = ("id", "utt", "utterance_id", "segment_id")
MARKS = ("state.json", "dataset_dict.json")
"""One of these is in a folder that ``save_to_disk`` wrote."""


def read_dataset(
    source: Any, folder: str | os.PathLike, audio: str = "audio", text: str = "text", split: str | None = None
) -> list[Utterance]:
    """The utterances of a dataset, in its order.

    Args:
        source: a ``Dataset`` (or its streaming sister), a ``DatasetDict``, or a folder that ``save_to_disk`` wrote.
        folder: gets the audio that is in the dataset itself; files that it names stay where they are.
        audio, text: names of the columns.
        split: of a ``DatasetDict``; may be left out where there is only one.

    Raises:
        ConfigError: datasets is not installed; no such column or split.
        DataError: no such dataset, or audio that cannot be read.
    """
    datasets = _datasets()
    if isinstance(source, str | os.PathLike):
        source = load_dataset(source)
    if isinstance(source, Mapping):
        if split is None and len(source) > 1:
            raise ConfigError(f"split is missing; the dataset has: {', '.join(map(str, source))}")
        if split is not None and split not in source:
            raise ConfigError(f"no split {split!r}; the dataset has: {', '.join(map(str, source))}")
        source = source[split or next(iter(source))]
    columns = list(source.features or source.column_names or ())
    for name, option in ((audio, "audio"), (text, "text")):
        if name not in columns:
            raise ConfigError(f"no column {name!r}; the dataset has: {', '.join(columns)}; name the one of {option}")
    if isinstance(source.features[audio], datasets.Audio):
        source = source.cast_column(audio, datasets.Audio(decode=False))
    named = next((name for name in _IDS if name in columns), None)
    found, files, ids = [], {}, set()
    for index, row in enumerate(source):
        utt = f"utt{index:07d}" if named is None else str(row[named])
        if utt in ids:  # FLEURS numbers its sentences, which several speakers read
            utt = f"{utt}-{index:07d}"
        ids.add(utt)
        speaker = "_".join(_speaker(row).split())
        name = "_".join(utt.replace("/", "_").split())
        if files.setdefault(name, utt) != utt:  # a/1 and a_1
            name = f"{name}-{index:07d}"
        place = _place(row[audio], Path(folder), name)
        found.append(Utterance(utt, place, str(row[text] or ""), speaker))
    return found


def _speaker(row: Mapping[str, Any]) -> str:
    """The speaker; 0 is one, too."""
    named = (row.get(name) for name in ("speaker", "speaker_id"))
    return next((str(value) for value in named if value not in (None, "")), "")


def load_dataset(folder: str | os.PathLike) -> Any:
    """What ``save_to_disk`` wrote, a ``Dataset`` or a ``DatasetDict``. Raises as `read_dataset`."""
    try:
        return _datasets().load_from_disk(os.fspath(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"{os.fspath(folder)}: no dataset that save_to_disk wrote ({error})") from None


def write_dataset(data: DataDir, folder: str | os.PathLike) -> None:
    """Write what ``datasets.load_from_disk`` reads: ``id``, ``audio`` (the bytes of files), ``text``, ``speaker``.

    Stretches, pipes and archives become flac of 16 bits; whole files go in as they are.

    Raises:
        ConfigError: datasets is not installed.
        DataError: the folder is there already; audio that cannot be read.
    """
    datasets = _datasets()
    text, content = datasets.Value("string"), datasets.Value("binary")
    # what an audio column consists of, under its plain name: `Audio` itself wants torchcodec even for bytes
    features = datasets.Features({"id": text, "audio": {"bytes": content, "path": text}, "text": text, "speaker": text})

    def rows() -> Iterator[dict[str, Any]]:
        for utt in data.utts:
            yield {"id": utt.utt, "audio": _embedded(utt), "text": utt.text, "speaker": utt.speaker or utt.utt}

    with tempfile.TemporaryDirectory() as cache, replacing_folder(folder) as draft:
        try:
            made = datasets.Dataset.from_generator(rows, features=features, cache_dir=cache)
        except datasets.exceptions.DatasetGenerationError as error:
            raise error.__cause__ or error from None
        made.cast_column("audio", datasets.Audio()).save_to_disk(os.fspath(draft))


def _place(cell: Any, folder: Path, name: str) -> str:
    """Where the audio of a cell lies; what is only in memory is written there first."""
    if isinstance(cell, str):
        return no_command(os.path.abspath(cell), name)
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (None, None)
    if content:
        target = folder / f"{name}{Path(path or '').suffix or '.wav'}"
        with replacing(target, "wb") as file:
            file.write(content)
        return str(target.absolute())
    if path:
        return no_command(os.path.abspath(path), name)
    write_audio(folder / f"{name}.flac", waveform(cell, name), 16000)
    return str((folder / f"{name}.flac").absolute())


def _embedded(utt: Utterance) -> dict[str, Any]:
    source, start, _ = split_stretch(utt.source)
    if start is None and os.path.isfile(source):
        return {"bytes": Path(source).read_bytes(), "path": Path(source).name}
    samples, rate = read_native(utt.source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.flac")
        write_audio(path, samples, rate)
        return {"bytes": path.read_bytes(), "path": f"{utt.utt}.flac"}


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise ConfigError("datasets is missing: tools/setup.sh --with-data, or pip install 's3router[data]'") from None
    datasets.disable_progress_bars()
    return datasets
