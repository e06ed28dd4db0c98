"""Speaker diarisation: who of two speakers speaks in each frame.

A directory has ``wav.scp`` with whole recordings and ``rttm`` with who speaks when (``SPEAKER RECORDING 1 START
DURATION <NA> <NA> SPEAKER <NA> <NA>``), two speakers at most. Every frame of the upstream gets the probability that
each of them speaks.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from s3router.data.audio import SAMPLE_RATE
from s3router.data.kaldi import DataDir, summary
from s3router.errors import DataError
from s3router.files import read_utf8, replacing, write_lines
from s3router.scoring.diarization import DiarizationErrors, diarization_errors
from s3router.submission.formats import ACTIVITIES
from s3router.superb.kind import Kind, Settings
from s3router.superb.labels import LabelledDir

SPEAKERS = 2
THRESHOLDS, MEDIANS = (0.3, 0.4, 0.5, 0.6, 0.7), (1, 11)
"""The benchmark's settings of decoding. It reports the best on the test set; here the validation set decides."""


class Turn(NamedTuple):
    """A stretch in which somebody speaks, in seconds."""

    speaker: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.speaker} {self.start:.3f} {self.end:.3f}"


Turns = tuple[Turn, ...]


@dataclass
class Frames:
    """The encoder of this kind: two speakers, and what the model sets.

    Attributes:
        stride: samples from one frame to the next.
        least: samples of the shortest recording that gives a frame.
    """

    stride: int = 320
    least: int = 1

    def __len__(self) -> int:
        return SPEAKERS


@dataclass(frozen=True)
class Activities:
    """Speaker activity in a directory's recordings, in its order.

    Attributes:
        stride: samples from one frame to the next.
        predicted: recording -> float32 (frames, speakers), probabilities.
        true: recording -> its turns.
    """

    stride: int
    predicted: dict[str, np.ndarray]
    true: dict[str, Turns]


@dataclass(frozen=True)
class Diarization(Kind[Turns, Activities]):
    """A task of speaker diarisation."""

    labels: ClassVar[str] = "rttm"

    metric: str = "der"
    lower_is_better: bool = True
    file: str = "frame_shift"

    def read(self, folder: str | os.PathLike) -> LabelledDir[Turns]:
        """A directory with ``rttm``.

        Raises:
            DataError: lines of another form, unknown recordings, recordings in which nobody or more than two speak.
        """
        path = Path(folder) / self.labels
        data = DataDir.read(folder, need_text=False)
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected who speaks when (SPEAKER RECORDING 1 START DURATION …)")
        turns: dict[str, list[Turn]] = {utt.utt: [] for utt in data.utts}
        problems = []
        for number, line in enumerate(read_utf8(path).splitlines(), 1):
            if not line.strip() or line.startswith((";;", "SPKR-INFO")):  # comments, and speakers without turns
                continue
            try:
                recording, turn = _turn(line)
            except ValueError as error:
                problems.append(f"line {number} {error}: {line!r}")
                continue
            if recording in turns:
                turns[recording].append(turn)
            else:
                problems.append(f"line {number}: {recording} is not in wav.scp")
        for recording, found in turns.items():
            names = {turn.speaker for turn in found}
            if not names and not problems:
                problems.append(f"{recording}: nobody speaks in it; take it out")
            if len(names) > SPEAKERS:
                problems.append(f"{recording}: {len(names)} speakers, the task has {SPEAKERS}")
        if problems:
            raise DataError(summary(path, problems))
        return LabelledDir(data.with_durations(), {recording: tuple(found) for recording, found in turns.items()})

    def inventory(self, train: LabelledDir[Turns], given: Path | None = None) -> list[list[str]]:
        """Two speakers, whoever they are."""
        return [[f"speaker {number + 1}" for number in range(SPEAKERS)]]

    def label_problems(self, part: LabelledDir[Turns], classes: list[list[str]], training: bool) -> list[str]:
        """Turns that begin after the recording's end."""
        return [
            f"{utt.utt}: the turn '{turn}' begins after the recording's end ({utt.duration:.3f} s)"
            for utt in part.data.utts
            for turn in part.labels[utt.utt]
            if utt.duration is not None and turn.start >= utt.duration
        ]

    def encoder(self, classes: list[list[str]]) -> Frames:
        return Frames()

    def build(self, model: Any, encoder: Frames) -> Any:
        """s3prl's Task; ``encoder`` learns the model's stride and receptive field."""
        from s3router.superb.s3prl_tasks import DiarizationTask

        encoder.stride = int(model.featurizer.downsample_rate)
        encoder.least = self.minimal_samples(model.receptive_field)
        return DiarizationTask(model)

    def clips(
        self,
        labelled: LabelledDir[Turns],
        encoder: Frames,
        settings: Settings,
        max_seconds: float | None = None,
        seed: int = 0,
    ) -> Any:
        """The recordings, cut into stretches of ``max_seconds``."""
        from s3router.superb.batches import Stretches

        def target(utt: str, first: int, last: int) -> np.ndarray:
            return activity(labelled.labels[utt], first, last, encoder.stride)

        return Stretches(labelled, target, encoder.stride, max_seconds, settings.gain_db, encoder.least)

    def predictions(self, outputs: Mapping[str, Any], labelled: LabelledDir[Turns]) -> Activities:
        """From (stride, probabilities) of each recording."""
        (stride,) = {stride for stride, _ in outputs.values()}
        return Activities(stride, {utt: outputs[utt][1] for utt in labelled.labels}, labelled.labels)

    def metrics(self, predictions: Activities) -> dict[str, Any]:
        """``der`` with the best threshold and median for this very set, and those (so meant for the validation set)."""
        tried = {(t, m): error_rate(predictions, t, m) for m in MEDIANS for t in THRESHOLDS}
        threshold, median = min(tried, key=lambda setting: (tried[setting], abs(setting[0] - 0.5), setting[1]))
        return {"der": tried[threshold, median], "threshold": threshold, "median": float(median)}

    def tuned(self, predictions: Activities, best: Mapping[str, Any]) -> dict[str, Any]:
        """``der`` with the threshold and median that were best on the validation set."""
        threshold, median = best["threshold"], int(best["median"])
        return {
            "der": error_rate(predictions, threshold, median),
            "threshold": threshold,
            "median": median,
            "der_best_setting_for_this_set": self.metrics(predictions)["der"],
        }

    def write(self, predictions: Activities, folder: Path, fold: int | None = None) -> None:
        """The submission's files: ``RECORDING.h5`` with ``T_hat`` (frames, speakers), and ``frame_shift``.

        They lie where the benchmark's scorer (s3prl's ``diarization/score.sh``) looks for them.
        """
        import h5py

        top = folder / (self.folder or "")
        activities = top / ACTIVITIES
        activities.mkdir(parents=True, exist_ok=True)
        (top / self.file).unlink(missing_ok=True)
        for stale in activities.glob("*.h5"):
            stale.unlink()
        for recording, found in predictions.predicted.items():
            content = io.BytesIO()
            with h5py.File(content, "w") as file:
                file.create_dataset("T_hat", data=found.astype(np.float32))
            with replacing(activities / f"{recording}.h5", "wb") as file:
                file.write(content.getvalue())
        write_lines(top / self.file, [str(predictions.stride)])  # last: where it is, all is there


def _turn(line: str) -> tuple[str, Turn]:
    """(recording, turn) of a line of ``rttm``. Raises ValueError that says what is wrong."""
    try:
        kind, recording, _, start, length, _, _, speaker = line.split()[:8]
        begin, seconds = float(start), float(length)
    except ValueError:
        kind = ""
    if kind != "SPEAKER":
        raise ValueError("is not 'SPEAKER RECORDING 1 START DURATION <NA> <NA> SPEAKER …'")
    if not (0 <= begin < math.inf and 0 < seconds < math.inf):
        raise ValueError("has a turn that begins before 0 or has no length; correct it, or take it out")
    return recording, Turn(speaker, round(begin, 3), round(begin + seconds, 3))


def activity(turns: Sequence[Turn], first: int, last: int, stride: int) -> np.ndarray:
    """Who speaks in the frames ``first`` to ``last`` (not included): float32 (frames, speakers), speakers by name."""
    names = sorted({turn.speaker for turn in turns})
    found = np.zeros((last - first, SPEAKERS), dtype=np.float32)
    for name, start, end in turns:
        begun, ended = (round(time * SAMPLE_RATE / stride) for time in (start, end))
        found[max(begun - first, 0) : max(ended - first, 0), names.index(name)] = 1
    return found


def decode(activity: np.ndarray, threshold: float, median: int) -> np.ndarray:
    """bool (frames, speakers) from probabilities: a threshold, then a median over ``median`` frames, as in s3prl."""
    from scipy.signal import medfilt

    found = (activity > threshold).astype(np.float32)
    return (medfilt(found, (median, 1)) if median > 1 else found) > 0.5


def error_rate(predictions: Activities, threshold: float, median: int) -> float:
    """Diarisation error rate, by frames, without a collar, overlaps included."""
    total = DiarizationErrors(0, 0, 0, 0)
    for recording, found in predictions.predicted.items():
        reference = activity(predictions.true[recording], 0, len(found), predictions.stride)
        total += diarization_errors(decode(found, threshold, median), reference > 0)
    return total.der
