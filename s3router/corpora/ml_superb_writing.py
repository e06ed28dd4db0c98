"""ML-SUPERB 2.0's two layouts, written: speech of one's own beside the benchmark's, or in its place."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3router.corpora.ml_superb_layouts import DEV, DIALECT, TEST, TRAIN
from s3router.corpora.sets import StrPath, progress
from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.ml_superb_text import tagged
from s3router.errors import ConfigError, DataError
from s3router.files import replacing, replacing_folder, write_lines

LAYOUTS = ("eighth_version", "huggingface")
TRANSCRIPTS = {TRAIN: "1h_train", DEV: "10min_dev", TEST: "10min_test"}
"""Part -> NAME of transcript_NAME.txt; the ten minutes of training are a part of the hour."""
FEW = "10min_train"
MINUTES = {FEW: 10.0, TRANSCRIPTS[TRAIN]: 60.0}
SHARDS = 2
_ROWS = 64  # of a table, held in memory at a time


@dataclass(frozen=True)
class Clip:
    """One utterance: in which source and part, and what is said.

    Attributes:
        part: of `ml_superb_layouts`.
        wav: content of a wav file at 16 kHz.
        few: whether it is in the ten minutes of training, too.
    """

    utt: str
    lang: str
    source: str
    part: str
    text: str
    wav: bytes
    few: bool = False


def write_layout(out: StrPath, languages: Mapping[str, StrPath], layout: str = LAYOUTS[0], source: str = "own") -> str:
    """Write the sets of some languages in one of the benchmark's layouts; returns a line about it.

    `ml_superb.prepare` reads what this writes. Of ``train``, at most an hour is taken, and ten minutes of that as the
    smaller subset, by `DataDir.subset`. A HuggingFace dataset has no set for choosing checkpoints beside its ``dev``,
    which is only for figures: ``train`` and ``dev`` together are its ``train``, and ``test`` is its ``dev``.

    Args:
        out: folder to write, whole or not at all; it must not be there.
        languages: ISO 639-3 code -> folder that holds the Kaldi directories ``train``, ``dev`` and ``test``.
        layout: one of `LAYOUTS`: OUT/eighth_version/SOURCE/LANG/{wav,transcript_*.txt}, or OUT/data/*.parquet.
        source: name of the corpus, in the paths of the first.

    Raises:
        ConfigError: ``out`` is there, a code that is none, or pyarrow is missing.
        DataError: sets are missing, a recording cannot be read, or an id is in two sets.
    """
    out = Path(out)
    if layout not in LAYOUTS:
        raise ConfigError(f"the layout is {' or '.join(LAYOUTS)}, not {layout!r}")
    if wrong := [lang for lang in languages if not (len(lang) == 3 and lang.isascii() and lang.islower())]:
        raise ConfigError(f"{', '.join(wrong)}: languages are named by their ISO 639-3 codes, as in deu")
    if not source or not source.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"--source {source!r}: the name of a folder is needed, of letters and digits")
    if out.exists():
        raise ConfigError(f"{out} is there already; name another folder, or remove it")
    sets = {lang: _sets_of(Path(folder)) for lang, folder in languages.items()}
    _check_ids(sets)
    clips = _clips(sets, source)
    with replacing_folder(out) as draft:
        if layout == LAYOUTS[0]:
            write_transcripts(draft / LAYOUTS[0], clips)
        else:
            write_tables(draft / "data", ((TEST if clip.part == TEST else TRAIN, clip) for clip in clips))
    counts = " + ".join(str(sum(len(parts[part]) for parts in sets.values())) for part in TRANSCRIPTS)
    return f"{out}: {len(sets)} languages, {counts} utterances for training, development and test"


def _sets_of(folder: Path) -> dict[str, list[Utterance]]:
    """Part -> its utterances."""
    parts = {part: DataDir.read(folder / part).with_durations() for part in TRANSCRIPTS}
    parts[TRAIN] = _at_most(parts[TRAIN], MINUTES[TRANSCRIPTS[TRAIN]])
    return {part: data.utts for part, data in parts.items()}


def _at_most(data: DataDir, minutes: float) -> DataDir:
    return data.subset(minutes) if data.seconds > 60 * minutes else data


def _check_ids(sets: Mapping[str, Mapping[str, list[Utterance]]]) -> None:
    """Raises DataError where an id is there twice."""
    owners: dict[str, str] = {}
    for lang, parts in sets.items():
        for part, utts in parts.items():
            for utt in utts:
                if (other := owners.setdefault(utt.utt, f"{lang}/{part}")) != f"{lang}/{part}":
                    raise DataError(f"{utt.utt} is in {other} and in {lang}/{part}; ids are of one utterance each")


def _clips(sets: Mapping[str, Mapping[str, list[Utterance]]], source: str) -> Iterator[Clip]:
    for lang, parts in progress(sets.items(), "languages", len(sets)):
        for part, utts in parts.items():
            few = set()
            if part == TRAIN:
                few = {utt.utt for utt in _at_most(DataDir(Path(lang), utts), MINUTES[FEW]).utts}
            for utt in utts:
                wav = content(read_audio(utt.source))
                yield Clip(utt.utt, lang, source, part, utt.text, wav, utt.utt in few)


def content(samples: np.ndarray) -> bytes:
    """float32 (samples,) at 16 kHz -> a wav file of 16 bits."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_transcripts(root: Path, clips: Iterable[Clip]) -> None:
    """``root``/SOURCE/LANG/{wav,transcript_*.txt}; the recordings first."""
    lines: dict[Path, list[tuple[str, str]]] = {}
    for clip in clips:
        folder = root / clip.source / clip.lang
        with replacing(folder / "wav" / f"{clip.utt}.wav", "wb") as file:
            file.write(clip.wav)
        line = f"{clip.utt} {clip.lang} {clip.text}"
        names = [TRANSCRIPTS[clip.part], *([FEW] if clip.few else [])]
        lines.setdefault(folder, []).extend((name, line) for name in names)
    for folder, some in lines.items():
        for name in (*TRANSCRIPTS.values(), FEW):
            write_lines(folder / f"transcript_{name}.txt", [line for of, line in some if of == name])


def write_tables(folder: Path, clips: Iterable[tuple[str, Clip]]) -> None:
    """``folder``/{train,dev,dev_dialect}-*.parquet of (part, clip), by part: `TRAIN` in shards, `TEST`, `DIALECT`.

    Raises:
        ConfigError: pyarrow is missing.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(f"--layout huggingface needs pyarrow ({error}): pip install pyarrow") from None
    audio = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    text = pyarrow.string()
    schema = pyarrow.schema([("id", text), ("language", text), ("audio", audio), ("text", text)])
    names = {
        TRAIN: [f"train-{n:05d}-of-{SHARDS:05d}" for n in range(SHARDS)],
        TEST: ["dev-00000-of-00001"],
        DIALECT: ["dev_dialect-00000-of-00001"],
    }
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict]] = {}
    counts = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        writers: dict[str, parquet.ParquetWriter] = {}

        def flush(name: str) -> None:
            if name not in writers:
                file = stack.enter_context(replacing(folder / f"{name}.parquet", "wb"))
                writers[name] = stack.enter_context(parquet.ParquetWriter(file, schema))
            writers[name].write_table(pyarrow.Table.from_pylist(rows.pop(name), schema))

        for part, clip in clips:
            name = names[part][counts[part] % len(names[part])]
            counts[part] += 1
            rows.setdefault(name, []).append(_row(clip))
            if len(rows[name]) == _ROWS:
                flush(name)
        for name in list(rows):
            flush(name)


def _row(clip: Clip) -> dict:
    audio = {"bytes": clip.wav, "path": f"{clip.utt}.wav"}
    return {"id": clip.utt, "language": clip.lang, "audio": audio, "text": tagged(clip.lang, clip.text)}
