"""Lhotse's cuts (``cuts.jsonl.gz``); needs the extra [data]."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from s3router.data.audio import join_stretch, no_command, split_stretch
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError, DataError
from s3router.files import replacing

_SAME = 0.001  # s: a cut that lacks no more than this of its recording is all of it


def read_cuts(cuts: str | os.PathLike | Iterable[Any]) -> list[Utterance]:
    """The utterances of a file of cuts, or of a ``CutSet``: a cut each, or each supervision of a cut with several.

    Raises:
        ConfigError: lhotse is not installed.
        DataError: a cut whose audio is no file, of several channels, mixed, or without a supervision.
    """
    if isinstance(cuts, str | os.PathLike):
        try:
            cuts = list(_lhotse().CutSet.from_file(cuts))  # which reads a line when it is asked for
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AssertionError) as error:
            raise DataError(f"{os.fspath(cuts)}: no cuts of lhotse ({error}); name a cuts.jsonl.gz") from None
    return [utt for cut in cuts for utt in _utterances(cut)]


def write_cuts(data: DataDir, path: str | os.PathLike) -> None:
    """Write ``.jsonl`` or ``.jsonl.gz``, whole or not at all; utterances have durations, and sources that are files.

    Raises:
        ConfigError: lhotse is not installed.
        DataError: a recording has several channels.
    """
    lhotse, lines = _lhotse(), []
    for utt in data.utts:
        source, start, _ = split_stretch(utt.source)
        recording = lhotse.Recording.from_file(Path(source).resolve(), recording_id=utt.utt)
        if recording.num_channels != 1:
            raise DataError(f"{utt.utt}: {source} has {recording.num_channels} channels; s3router format-wav makes one")
        seconds = min(utt.duration, recording.duration - (start or 0.0)) if start is not None else recording.duration
        speaker = utt.speaker or None
        told = lhotse.SupervisionSegment(utt.utt, recording.id, 0.0, seconds, text=utt.text, speaker=speaker)
        cut = lhotse.MonoCut(utt.utt, start or 0.0, seconds, 0, supervisions=[told], recording=recording)
        lines.append(json.dumps(cut.to_dict(), ensure_ascii=False) + "\n")
    content = "".join(lines).encode()
    with replacing(path, "wb") as file:
        file.write(gzip.compress(content) if os.fspath(path).endswith(".gz") else content)


def _utterances(cut: Any) -> list[Utterance]:
    recording = getattr(cut, "recording", None)
    if recording is None or recording.num_channels != 1 or len(recording.sources) != 1:
        raise DataError(f"cut {cut.id}: mixed, padded, or of several channels; save it as a recording of one channel")
    if recording.transforms:
        raise DataError(
            f"cut {cut.id}: its recording is changed as it is read (speed, volume …); save it so (CutSet.save_audios)"
        )
    source, kind = str(recording.sources[0].source), recording.sources[0].type
    if kind not in ("file", "command"):
        raise DataError(f"cut {cut.id}: its audio is of type {kind}; save it as a file (CutSet.save_audios)")
    source = f"{source} |" if kind == "command" else no_command(os.path.abspath(source), f"cut {cut.id}")
    if not cut.supervisions:
        raise DataError(f"cut {cut.id}: no supervision, so no text; leave it out (CutSet.filter)")
    found = []
    for told in cut.supervisions:
        single = len(cut.supervisions) == 1
        start = cut.start if single else cut.start + told.start
        seconds = cut.duration if single else told.duration
        whole = start < _SAME and abs(seconds - recording.duration) < _SAME
        place = source if whole else join_stretch(source, start, start + seconds)
        speaker = "_".join((told.speaker or "").split())
        found.append(Utterance(cut.id if single else told.id, place, told.text or "", speaker, seconds))
    return found


def _lhotse() -> Any:
    try:
        import lhotse
    except ImportError:
        raise ConfigError("lhotse is missing: tools/setup.sh --with-data, or pip install 's3router[data]'") from None
    return lhotse
