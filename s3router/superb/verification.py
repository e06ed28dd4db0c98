"""Speaker verification: embeddings that are compared in trials.

Training classifies speakers: a directory with ``utt2label``. Validation and test compare utterances: a directory with
``trials``, one ``1 UTTERANCE UTTERANCE`` (same speaker) or ``0 UTTERANCE UTTERANCE`` per line. The score of a trial is
the cosine of the two embeddings, the metric the equal error rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.kaldi import DataDir, summary
from s3router.data.silence import without_silence
from s3router.data.utt2label import Label
from s3router.errors import DataError
from s3router.files import read_utf8, write_lines
from s3router.scoring.detection import equal_error_rate
from s3router.superb.classification import class_problems
from s3router.superb.kind import Kind, Settings
from s3router.superb.labels import LabelledDir, classes_of, read_classes, read_labels
from s3router.upstreams.s3prl_engine import load

TRIALS = "trials"
GAIN_DB = -3.0  # of all waveforms in the leaderboard's code; s3prl's problem takes those of trials as they are
HEAD_FRAMES, STRIDE = 15, 320  # the x-vector needs 15 frames; of 20 ms with all upstreams of the benchmark
LEAST_TRAINED, LEAST_COMPARED = 2.0, 0.5  # seconds: where less than that would be left, silence is not cut out


class Trial(NamedTuple):
    """A comparison of two utterances."""

    same: bool
    enrolled: str
    tested: str


@dataclass(frozen=True)
class TrialDir(LabelledDir[tuple]):
    """Utterances to compare; their labels are empty.

    Attributes:
        trials: in the order of the file.
    """

    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class TrialScores:
    """The trials of a directory and the score of each, the cosine of its embeddings."""

    trials: tuple[Trial, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Verification(Kind[Label, TrialScores]):
    """A task of speaker verification.

    Attributes:
        raw: whether waveforms of trials are taken as they are, as by s3prl's problem, instead of levelled and without
            silence, as by the code that the leaderboard's figures are from.
    """

    labels: ClassVar[str] = "utt2label"

    metric: str = "eer"
    lower_is_better: bool = True
    raw: bool = False

    def on_raw_waveforms(self) -> Verification:
        return replace(self, raw=True)

    def read(self, folder: str | os.PathLike) -> LabelledDir[Label] | TrialDir:
        """A directory with ``utt2label`` or, where it has that file, with ``trials``.

        Raises:
            DataError: trials of unknown utterances, utterances without trials, one pair as both kinds of trial, trials
                that are all of one kind.
        """
        path = Path(folder) / TRIALS
        if not path.is_file():
            return read_labels(folder)
        data, problems = DataDir.read(folder, need_text=False), []
        known = {utt.utt for utt in data.utts}
        trials: list[Trial] = []
        answers: dict[tuple[str, str], bool] = {}  # a trial may come twice, as in VoxCeleb's list, with one answer
        for number, trial in _lines(path, problems):
            strange = [name for name in trial[1:] if name not in known]
            problems += [f"line {number}: {name} is not in wav.scp" for name in strange]
            if answers.setdefault(trial[1:], trial.same) != trial.same:
                problems.append(f"line {number}: {' and '.join(trial[1:])} were another kind of trial before")
            trials.append(trial)
        used = {name for pair in answers for name in pair}
        problems += [f"{utt} is in wav.scp, but in no trial; take it out" for utt in sorted(known - used)]
        if not problems and len({trial.same for trial in trials}) < 2:
            problems.append(
                "all trials are of one kind; an equal error rate needs both, same (1) and different (0) speakers"
            )
        if problems:
            raise DataError(summary(path, problems))
        return TrialDir(data.with_durations(), {utt.utt: () for utt in data.utts}, tuple(trials))

    def inventory(self, train: LabelledDir[Label], given: Path | None = None) -> list[list[str]]:
        """The speakers. Raises DataError for a training directory with trials."""
        if isinstance(train, TrialDir):
            raise DataError(f"{train.data.path}: training needs speakers (utt2label), found trials")
        return classes_of(train.labels.values()) if given is None else read_classes(given)

    def label_problems(self, part: LabelledDir, classes: list[list[str]], training: bool) -> list[str]:
        """Of training, those of classification; the speakers of trials are others than those of training."""
        if training:
            return class_problems(part, classes, training)
        if not isinstance(part, TrialDir):
            return [f"no {TRIALS} here (one '<1|0> UTTERANCE UTTERANCE' per line): nothing to compare"]
        return []

    def minimal_samples(self, receptive_field: int) -> int:
        """The head, an x-vector, needs several frames."""
        return receptive_field if receptive_field == 1 else receptive_field + (HEAD_FRAMES - 1) * STRIDE

    def encoder(self, classes: list[list[str]]) -> Any:
        """s3prl's CategoryEncoder of the speakers."""
        return load("s3prl.dataio.encoder.category").CategoryEncoder(classes[0])

    def build(self, model: Any, encoder: Any) -> Any:
        from s3router.superb.s3prl_tasks import verification_task

        return verification_task(self.problem, model, encoder)

    def clips(
        self,
        labelled: LabelledDir[Label],
        encoder: Any,
        settings: Settings,
        max_seconds: float | None = None,
        seed: int = 0,
    ) -> Any:
        """Silence is cut out, as s3prl does with sox, after a gain; with `raw` not of the waveforms of trials."""
        from s3router.superb.batches import Clips

        if isinstance(labelled, TrialDir):
            changes = {} if self.raw else {"gain_db": GAIN_DB, "trim": partial(trimmed, least=LEAST_COMPARED)}
            return Clips(labelled, lambda utt: {}, **changes)
        return Clips(
            *(labelled, lambda utt: {"class_id": encoder.encode(labelled.labels[utt][0])}),
            *(GAIN_DB, max_seconds, seed, partial(trimmed, least=LEAST_TRAINED)),
        )

    def predictions(self, outputs: Mapping[str, Any], labelled: TrialDir) -> TrialScores:
        """From the embeddings: a list of numbers for each utterance."""
        embeddings = np.array([outputs[utt] for utt in labelled.labels], dtype=np.float64)
        embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-8)
        vectors = dict(zip(labelled.labels, embeddings, strict=True))
        scores = tuple(float(vectors[trial.enrolled] @ vectors[trial.tested]) for trial in labelled.trials)
        return TrialScores(labelled.trials, scores)

    def metrics(self, predictions: TrialScores) -> dict[str, Any]:
        """``eer``, as a fraction, its threshold, and the number of trials."""
        found = equal_error_rate([int(trial.same) for trial in predictions.trials], list(predictions.scores))
        return {"eer": found.eer, "threshold": found.threshold, "n_trials": len(predictions.trials)}

    def write(self, predictions: TrialScores, folder: Path, fold: int | None = None) -> None:
        """The submission's file, one ``NAME1_NAME2 score`` per line, grouped by the first utterance."""
        scored = sorted(zip(predictions.trials, predictions.scores, strict=True), key=lambda pair: pair[0].enrolled)
        lines = (f"{trial.enrolled}_{trial.tested} {score:.6f}" for trial, score in scored)
        write_lines(folder / (self.folder or "") / self.file, lines)


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, Trial]]:
    """(line number, trial) of the lines that are well formed; the others become problems."""
    for number, line in enumerate(read_utf8(path).splitlines(), 1):
        parts = line.split()
        if len(parts) == 3 and parts[0] in ("0", "1"):
            yield number, Trial(parts[0] == "1", parts[1], parts[2])
        else:
            problems.append(f"line {number} is not '<1|0> UTTERANCE UTTERANCE': {line!r}")


def trimmed(wav: np.ndarray, least: Seconds) -> np.ndarray:
    """Without silence (`without_silence`); the whole where ``least`` or less would be left."""
    kept = without_silence(wav)
    return kept if len(kept) > least * SAMPLE_RATE else wav
