"""What speaker verification does in its own way; `s3router.superb.classification` has the same functions.

Training classifies speakers: a directory with ``utt2label``. Validation and test compare: a directory with ``trials``,
``1 UTTERANCE UTTERANCE`` for the same speaker and ``0 …`` for two, a line each. The score of a trial is the cosine of
two embeddings, the figure the equal error rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s3router.data.kaldi import DataDir, summary
from s3router.data.utt2label import Label
from s3router.errors import DataError
from s3router.files import write_lines
from s3router.scoring.detection import equal_error_rate
from s3router.superb import classification, labels
from s3router.superb.batches import SAMPLE_RATE, Clips
from s3router.superb.labels import LabelledDir, too_short
from s3router.superb.tasks import Settings, TaskSpec
from s3router.upstreams.s3prl_engine import load

if TYPE_CHECKING:
    from s3router.superb.evaluate import Evaluation

LABELS, TRIALS = "utt2label", "trials"
GAIN_DB = -3.0  # of training in s3prl; its test takes waveforms as they are
HEAD_FRAMES, STRIDE = 15, 320  # the x-vector needs 15 frames; of 20 ms with all upstreams of the benchmark
LOUD, WINDOW, PAUSE, LEAST = 0.001, 320, 1600, 2.0  # silence: rms under 0.1 % of full scale, for 0.1 s; kept: 2 s
Trial = tuple[int, str, str]
"""1 for the same speaker, else 0; the utterances."""

encoder, _S3PRL = classification.encoder, load("s3prl.task.speaker_verification_task")


class VerificationTask(_S3PRL.SpeakerVerification):
    """s3prl's task; in validation it gives embeddings, as its test does, which is the same for both here."""

    def valid_step(self, x: torch.Tensor, x_len: torch.Tensor, unique_name: Sequence[str]) -> tuple[float, dict]:
        """No loss, and as predictions the embeddings: a list of numbers for each utterance."""
        _, found = self.test_step(x, x_len, unique_name, None)
        embeddings = [embedding.float().tolist() for embedding in found["spk_embedding"]]
        return 0.0, {"unique_name": found["unique_name"], "prediction": embeddings}


def build(problem: Any, model: torch.nn.Module, encoder: Any) -> VerificationTask:
    """The task with the benchmark's loss. Its weights, one vector a speaker, train and are saved with the head."""
    task = VerificationTask(model, encoder, None, **problem.default_config()["build_task"])
    model.objective = task.loss
    return task


def read(folder: str | os.PathLike, spec: TaskSpec) -> LabelledDir:
    """A directory with ``utt2label``, or with ``trials``: the label of an utterance is then its own name and the
    trials that it enrols (``"1 other"``).

    Raises:
        DataError: trials of unknown utterances, utterances without trials, trials of two kinds at
            once, all of one kind.
    """
    if not (Path(folder) / TRIALS).is_file():
        return LabelledDir.read(folder)
    data = DataDir.read(folder, need_text=False)
    known, problems = {u.utt for u in data.utts}, []
    found: dict[str, list[str]] = {u.utt: [u.utt] for u in data.utts}
    used, kinds = set(), set()
    seen: dict[tuple[str, str], int] = {}  # trials may come twice, as they do in VoxCeleb's list, but with one answer
    for number, (kind, one, other) in _lines(Path(folder) / TRIALS, problems):
        strange = [name for name in (one, other) if name not in known]
        problems += [f"line {number}: {name} is not in wav.scp" for name in strange]
        if seen.setdefault((one, other), kind) != kind:
            problems.append(f"line {number}: {one} and {other} were another kind of trial before")
        if not strange:
            found[one].append(f"{kind} {other}")
        used |= {one, other}
        kinds.add(kind)
    problems += [f"{utt} is in wav.scp, but in no trial; take it out" for utt in sorted(known - used)]
    if not problems and kinds != {0, 1}:
        problems.append(
            "all trials are of one kind; an equal error rate needs both, same (1) and different (0) speakers"
        )
    if problems:
        raise DataError(summary(Path(folder) / TRIALS, problems))
    return LabelledDir(data, {utt: tuple(label) for utt, label in found.items()})


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, Trial]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        if len(parts) == 3 and parts[0] in ("0", "1"):
            yield number, (int(parts[0]), parts[1], parts[2])
        else:
            problems.append(f"line {number} is not '<1|0> UTTERANCE UTTERANCE': {line!r}")


def has_trials(labelled: LabelledDir) -> bool:
    """Whether it is for comparing, not for training."""
    return any(len(label) > 1 for label in labelled.labels.values())


def inventory(given: Path | None, train: LabelledDir, spec: TaskSpec) -> list[list[str]]:
    """The speakers. Raises DataError for a training directory with trials."""
    if has_trials(train):
        raise DataError(f"{train.data.path}: training needs speakers (utt2label), found trials")
    return classification.inventory(given, train, spec)


def check(
    train: LabelledDir | None,
    others: Sequence[LabelledDir],
    classes: list[list[str]],
    receptive_field: int = 1,
    sample_rate: int = 16000,
) -> None:
    """Refuse what cannot be trained or scored; the speakers of trials are others than those of training.

    Args:
        receptive_field: samples that the upstream needs for one frame; the head needs several.

    Raises:
        DataError: all problems of a directory at once.
    """
    needed = receptive_field if receptive_field == 1 else receptive_field + (HEAD_FRAMES - 1) * STRIDE
    if train is not None:
        labels.check(train, [], classes)
        if problems := too_short(train.data.utts, needed, sample_rate):
            raise DataError(summary(train.data.path, problems))
    for part in others:
        problems = too_short(part.data.utts, needed, sample_rate)
        if not has_trials(part):
            problems.append(f"no {TRIALS} here ('<1|0> UTTERANCE UTTERANCE' a line): nothing to compare")
        if problems:
            raise DataError(summary(part.data.path, problems))


class SpeakerClips(Clips):
    """`Clips` of training: silence is cut out, as s3prl does with sox; ``class_id`` is the speaker."""

    def read(self, index: int) -> np.ndarray:
        """float32 (samples,) of utterance number ``index``."""
        return without_silence(super().read(index))

    def item(self, index: int, x: torch.Tensor, x_len: int) -> dict:
        """What s3prl's task takes in training."""
        utt = self.utts[index].utt
        (speaker,) = self.labels[utt]
        return {"x": x, "x_len": x_len, "unique_name": utt, "class_id": self.encoder.encode(speaker)}


class TrialClips(Clips):
    """`Clips` to be compared: waveforms alone."""

    def item(self, index: int, x: torch.Tensor, x_len: int) -> dict:
        """What `VerificationTask.valid_step` takes."""
        return {"x": x, "x_len": x_len, "unique_name": self.utts[index].utt}


def clips(labelled: LabelledDir, encoder: Any, settings: Settings, max_seconds: float | None, seed: int) -> Clips:
    """The utterances as the task takes them."""
    if has_trials(labelled):
        return TrialClips(labelled, encoder)
    return SpeakerClips(labelled, encoder, GAIN_DB, max_seconds, seed)


def without_silence(wav: np.ndarray) -> np.ndarray:
    """(samples,) without its stretches of silence of 0.1 s and more; the whole where less than 2 s would be left.

    After the idea of sox's ``silence 1 0.1 0.1% -1 0.1 0.1%``, by windows of 20 ms; it is not sox's algorithm.
    """
    count = len(wav) // WINDOW
    if not count:
        return wav
    windows = wav[: count * WINDOW].reshape(count, WINDOW)
    loud = np.sqrt(np.square(windows, dtype=np.float64).mean(1)) >= LOUD
    kept = np.append(np.repeat(loud, WINDOW), np.ones(len(wav) - count * WINDOW, dtype=bool))
    edges = np.flatnonzero(np.diff(np.concatenate([[True], kept, [True]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):  # stretches of silence
        if end - start < PAUSE:
            kept[start:end] = True
    return wav[kept] if kept.sum() > LEAST * SAMPLE_RATE else wav


def score(predictions: Sequence[Sequence[float]], references: Sequence[Label]) -> list[tuple[Trial, float]]:
    """The cosine of every trial's embeddings.

    Args:
        predictions: embedding of each utterance.
        references: its name and the trials that it enrols.
    """
    embeddings = np.array(predictions, dtype=np.float64)
    embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-8)
    vectors = {name: embedding for (name, *_), embedding in zip(references, embeddings, strict=True)}
    found = []
    for name, *trials in references:
        for kind, other in (trial.split(" ", 1) for trial in trials):
            found.append(((int(kind), name, other), float(vectors[name] @ vectors[other])))
    return found


def figures(predictions: Sequence[Label], references: Sequence[Label], spec: TaskSpec) -> dict[str, Any]:
    """``eer``, as a fraction, and the number of trials."""
    scored = score(predictions, references)
    found = equal_error_rate([kind for (kind, *_), _ in scored], [value for _, value in scored])
    return {"eer": found.eer, "threshold": found.threshold, "n_trials": len(scored)}


def write(folder: Path, spec: TaskSpec, outcome: Evaluation) -> None:
    """The submission's file, ``NAME1_NAME2 score`` a line."""
    scored = score(list(outcome.predictions.values()), list(outcome.references.values()))
    lines = (f"{one}_{other} {value:.6f}" for (_, one, other), value in scored)
    write_lines(folder / (spec.folder or "") / spec.file, lines)
