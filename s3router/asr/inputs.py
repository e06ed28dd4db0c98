"""ESPnet's input files, made from a Kaldi data directory without ESPnet's statistics stage.

ESPnet learns the length of every utterance by a pass over the audio (``--collect_stats``); the data directory knows
it already. Audio comes through `s3router.data.audio`, so that every source of a ``wav.scp`` works at any rate.
"""

from __future__ import annotations

import collections.abc
import os
from pathlib import Path

import numpy as np

from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.data.kaldi import DataDir, summary
from s3router.data.tokens import TokenIds
from s3router.errors import DataError
from s3router.files import replacing

AUDIO = "s3router_audio"
"""Our name among ESPnet's data types, for ``--train_data_path_and_name_and_type wav.scp,speech,s3router_audio``."""


class AudioReader(collections.abc.Mapping):
    """utterance id -> float32 (samples,) at 16 kHz, read when asked for."""

    def __init__(self, path: str | os.PathLike):
        with open(path, encoding="utf-8") as file:
            self.sources = dict(line.rstrip("\n").split(maxsplit=1) for line in file)

    def __getitem__(self, utt: str) -> np.ndarray:
        return read_audio(self.sources[utt], SAMPLE_RATE)

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self):
        return iter(self.sources)


def register() -> None:
    """Tell ESPnet about our data type."""
    from espnet2.train.dataset import DATA_TYPES

    DATA_TYPES[AUDIO] = {
        "func": AudioReader,
        "kwargs": [],
        "help": "Any audio source of a wav.scp, resampled to 16 kHz (see s3router.data.audio).",
    }


def check_tokens(data: DataDir, tokens: TokenIds) -> None:
    """Refuse transcripts that the token list cannot write; ESPnet would train on ``<unk>`` in silence.

    Raises:
        DataError: every such utterance with its characters.
    """
    problems = [
        f"{u.utt}: not in the token list: {' '.join(missing)}; normalise the text, or build the list from it"
        for u in data.utts
        if (missing := tokens.unknown(u.text))
    ]
    if problems:
        raise DataError(summary(data.path, problems))


def write_inputs(data: DataDir, folder: Path) -> None:
    """Write ``wav.scp`` (segments as stretches), ``text`` and ``speech_shape`` (samples at 16 kHz).

    Each file is written whole or not at all. ESPnet makes a token of every blank, and ``<unk>`` of blanks of other
    kinds: words are parted by a single one. Every process of a distributed run writes the same. All durations must be
    known (`DataDir.with_durations`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _files(data).items():
        with replacing(folder / name) as file:
            file.write(content)


def check_same_data(data: DataDir, folder: Path) -> None:
    """Refuse utterances, transcripts or lengths other than those that an interrupted run has in ``folder``.

    Where the recordings lie may change, and what is not there is not compared.

    Raises:
        DataError: they differ.
    """
    content = _files(data)
    for name, what in (("text", "utterances or transcripts"), ("speech_shape", "lengths of recordings")):
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") != content[name]:
            raise DataError(
                f"{data.path}: its {what} are not those of the run that is to go on ({path}); bring the old data back, "
                f"or take another --output_dir"
            )


def _files(data: DataDir) -> dict[str, str]:
    """Name -> content of the files that ESPnet reads."""
    utts = data.utts
    lines = {
        "wav.scp": [f"{u.utt} {u.source}" for u in utts],
        "text": [f"{u.utt} {' '.join(u.text.split())}" for u in utts],
        "speech_shape": [f"{u.utt} {round(u.duration * SAMPLE_RATE)}" for u in utts],
    }
    return {name: "".join(f"{line}\n" for line in content) for name, content in lines.items()}


def espnet_options(folder: Path, split: str) -> dict[str, list]:
    """ESPnet's options that name what `write_inputs` wrote; ``split`` is ``train`` or ``valid``."""
    return {
        f"{split}_data_path_and_name_and_type": [
            [str(folder / "wav.scp"), "speech", AUDIO],
            [str(folder / "text"), "text", "text"],
        ],
        f"{split}_shape_file": [str(folder / "speech_shape")],
    }
