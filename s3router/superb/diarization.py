"""What speaker diarisation does in its own way; `s3router.superb.classification` has the same functions.

A directory has ``wav.scp`` with whole recordings and ``rttm`` with who speaks when (``SPEAKER RECORDING 1 START
DURATION <NA> <NA> SPEAKER <NA> <NA>``), two speakers at most. Every frame of the upstream gets the probability that
each speaks.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir, summary
from s3router.data.utt2label import Label
from s3router.errors import DataError
from s3router.files import replacing
from s3router.scoring.diarization import DiarizationErrors, diarization_errors
from s3router.submission.formats import ACTIVITIES
from s3router.superb.batches import SAMPLE_RATE
from s3router.superb.labels import LabelledDir, too_short
from s3router.superb.tasks import Settings, TaskSpec
from s3router.upstreams.s3prl_engine import load

if TYPE_CHECKING:
    from s3router.superb.evaluate import Evaluation

LABELS = "rttm"
SPEAKERS = 2
THRESHOLDS, MEDIANS = (0.3, 0.4, 0.5, 0.6, 0.7), (1, 11)
"""The benchmark's settings of decoding; it reports the best on the test set, here the validation set chooses."""

_S3PRL = load("s3prl.task.diarization")


@dataclass
class Frames:
    """Two speakers, and the samples from one frame to the next (known when the model is built)."""

    stride: int = 320

    def __len__(self) -> int:
        return SPEAKERS


class DiarizationTask(_S3PRL.DiarizationPIT):
    """s3prl's task, loss and all; in validation it gives the probabilities, too."""

    def __init__(self, model: torch.nn.Module, encoder: Frames):
        super().__init__(model)
        self.encoder, self._logits = encoder, None

    def predict(self, x: torch.Tensor, x_len: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, T, speakers) and valid frames (B,); the logits are remembered."""
        self._logits, lengths = super().predict(x, x_len)
        return self._logits, lengths

    def forward(self, _mode: str, unique_name: Sequence[str], **batch: Any) -> tuple[torch.Tensor, dict]:
        """s3prl's; a prediction is (stride, float32 (frames, speakers))."""
        loss, found = super().forward(_mode, **batch)
        if _mode == "train":
            return loss, found
        logits, _ = self._match_length(self._logits, batch["label"])
        activity = torch.sigmoid(logits.float()).cpu().numpy()
        predictions = [(self.encoder.stride, a[: int(n)]) for a, n in zip(activity, batch["label_len"], strict=True)]
        return loss, {**found, "unique_name": list(unique_name), "prediction": predictions}


def build(problem: Any, model: torch.nn.Module, encoder: Frames) -> DiarizationTask:
    """The task; `Frames` learns the model's stride."""
    encoder.stride = int(model.featurizer.downsample_rate)
    return DiarizationTask(model, encoder)


def read(folder: str | os.PathLike, spec: TaskSpec) -> LabelledDir:
    """A directory with ``rttm``; the label of a recording is its turns, ``SPEAKER START END`` each.

    Raises:
        DataError: lines of another form, unknown recordings, recordings in which nobody or more than two speak.
    """
    path = Path(folder) / LABELS
    data = DataDir.read(folder, need_text=False)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected who speaks when (SPEAKER RECORDING 1 START DURATION …)")
    turns: dict[str, list[str]] = {u.utt: [] for u in data.utts}
    speakers: dict[str, set[str]] = {u.utt: set() for u in data.utts}
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        try:
            kind, recording, _, start, length, _, _, speaker = parts[:8]
            start, end = float(start), float(start) + float(length)
            if kind != "SPEAKER" or not 0 <= start < end:
                raise ValueError
        except ValueError:
            problems.append(f"line {number} is not 'SPEAKER RECORDING 1 START DURATION <NA> <NA> SPEAKER …': {line!r}")
            continue
        if recording not in turns:
            problems.append(f"line {number}: {recording} is not in wav.scp")
            continue
        turns[recording].append(f"{speaker} {start:.3f} {end:.3f}")
        speakers[recording].add(speaker)
    for recording, names in speakers.items():
        if not names and not problems:
            problems.append(f"{recording}: nobody speaks in it; take it out")
        if len(names) > SPEAKERS:
            problems.append(f"{recording}: {len(names)} speakers, the task has {SPEAKERS}")
    if problems:
        raise DataError(summary(path, problems))
    return LabelledDir(data, {recording: tuple(found) for recording, found in turns.items()})


def inventory(given: Path | None, train: LabelledDir, spec: TaskSpec) -> list[list[str]]:
    """Two speakers, whoever they are."""
    return [[f"speaker {number + 1}" for number in range(SPEAKERS)]]


def encoder(classes: list[list[str]], spec: TaskSpec | None = None) -> Frames:
    """`Frames`, without the model's stride."""
    return Frames()


def check(
    train: LabelledDir | None,
    others: Sequence[LabelledDir],
    classes: list[list[str]],
    receptive_field: int = 1,
    sample_rate: int = 16000,
) -> None:
    """Refuse recordings that are too short, and turns that begin after their end; all of a directory at once.

    Raises:
        DataError: see above.
    """
    for part in (*([train] if train else []), *others):
        problems = too_short(part.data.utts, receptive_field, sample_rate)
        for utt in part.data.utts:
            for turn in part.labels[utt.utt]:
                if utt.duration is not None and float(turn.split()[-2]) >= utt.duration:
                    problems.append(f"{utt.utt}: the turn '{turn}' lies behind its end ({utt.duration:.3f} s)")
        if problems:
            raise DataError(summary(part.data.path, problems))


def activity(turns: Label, first: int, last: int, stride: int) -> np.ndarray:
    """Who speaks in the frames ``first`` to ``last`` (not included): float32 (frames, speakers), speakers by name."""
    parts = [turn.rsplit(" ", 2) for turn in turns]
    names = sorted({name for name, *_ in parts})
    found = np.zeros((last - first, SPEAKERS), dtype=np.float32)
    for name, start, end in parts:
        begun, ended = (round(float(time) * SAMPLE_RATE / stride) for time in (start, end))
        found[max(begun - first, 0) : max(ended - first, 0), names.index(name)] = 1
    return found


class Stretches(Dataset):
    """(epoch, index) -> the item of s3prl's dataset of a stretch of a recording; whole frames only.

    Args:
        labelled: the recordings.
        stride: samples a frame.
        max_seconds: longer recordings are several stretches; None: each is one.
        gain_db: applied to the waveform.
    """

    def __init__(self, labelled: LabelledDir, stride: int, max_seconds: float | None, gain_db: float = 0.0):
        self.stride, self.labels, self.gain = stride, labelled.labels, np.float32(10 ** (gain_db / 20))
        self.spans, self.utts = [], []
        for utt in labelled.data.utts:
            total = max(int(utt.duration * SAMPLE_RATE) // stride, 1)
            step = total if max_seconds is None else max(int(max_seconds * SAMPLE_RATE) // stride, 1)
            for number, first in enumerate(range(0, total, step)):
                last = min(first + step, total)
                self.spans.append((number, first, last))
                self.utts.append(replace(utt, duration=(last - first) * stride / SAMPLE_RATE))

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        utt, (number, first, last) = self.utts[key[1]], self.spans[key[1]]
        wav = read_audio(utt.source, SAMPLE_RATE)[first * self.stride : last * self.stride] * self.gain
        label = torch.from_numpy(activity(self.labels[utt.utt], first, last, self.stride))
        item = {"x": torch.from_numpy(wav), "x_len": len(wav), "label": label, "label_len": last - first}
        return {**item, "record_id": utt.utt, "chunk_id": number, "unique_name": utt.utt}


def clips(
    labelled: LabelledDir, encoder: Frames, settings: Settings, max_seconds: float | None, seed: int
) -> Stretches:
    """The recordings as s3prl's task takes them, cut into stretches of ``max_seconds``."""
    return Stretches(labelled, encoder.stride, max_seconds, settings.gain_db)


def decode(activity: np.ndarray, threshold: float, median: int) -> np.ndarray:
    """bool (frames, speakers) of probabilities: a threshold, then a median over ``median`` frames, as s3prl has it."""
    from scipy.signal import medfilt

    found = (activity > threshold).astype(np.float32)
    return (medfilt(found, (median, 1)) if median > 1 else found) > 0.5


def errors(predictions: Sequence[Label], references: Sequence[Label], threshold: float, median: int) -> float:
    """Diarisation error rate of a set, by frames, without a collar, overlaps included.

    Args:
        predictions: (stride, float (frames, speakers)) each.
        references: turns.
    """
    total = DiarizationErrors(0, 0, 0, 0)
    for (stride, found), turns in zip(predictions, references, strict=True):
        reference = activity(turns, 0, len(found), stride)
        total += diarization_errors(decode(found, threshold, median), reference > 0)
    return total.der


def figures(predictions: Sequence[Label], references: Sequence[Label], spec: TaskSpec) -> dict[str, Any]:
    """``der`` with the best threshold and median for this very set, and those (so meant for the validation set)."""
    tried = {(t, m): errors(predictions, references, t, m) for m in MEDIANS for t in THRESHOLDS}
    threshold, median = min(tried, key=lambda setting: (tried[setting], abs(setting[0] - 0.5), setting[1]))
    return {"der": tried[threshold, median], "threshold": threshold, "median": float(median)}


def tuned(predictions: Sequence[Label], references: Sequence[Label], best: dict[str, Any]) -> dict[str, Any]:
    """The figures of another set: ``der`` with the settings that were best on the validation set.

    Args:
        best: of the selected checkpoint.
    """
    setting = best["threshold"], int(best["median"])
    found = figures(predictions, references, None)
    return {
        "der": errors(predictions, references, *setting),
        "threshold": setting[0],
        "median": setting[1],
        "der_best_setting_for_this_set": found["der"],
    }


def write(folder: Path, spec: TaskSpec, outcome: Evaluation) -> None:
    """The submission's files: ``RECORDING.h5`` with ``T_hat`` (frames, speakers), and ``frame_shift``.

    They lie where the benchmark's scorer (s3prl's ``diarization/score.sh``) looks for them.
    """
    import h5py

    top = folder / (spec.folder or "")
    activities = top / ACTIVITIES
    activities.mkdir(parents=True, exist_ok=True)
    (top / spec.file).unlink(missing_ok=True)
    for stale in activities.glob("*.h5"):
        stale.unlink()
    for recording, (_, found) in outcome.predictions.items():
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file.create_dataset("T_hat", data=found.astype(np.float32))
        with replacing(activities / f"{recording}.h5", "wb") as file:
            file.write(content.getvalue())
    (stride,) = {stride for stride, _ in outcome.predictions.values()}
    with replacing(top / spec.file) as file:  # last: where it is, all is there
        print(stride, file=file)
