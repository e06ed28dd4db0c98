"""Kinds of tasks: the interface through which training, prediction, selection and submission use any task."""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s3router.data.kaldi import summary, too_short
from s3router.errors import ConfigError, DataError
from s3router.superb.labels import LabelledDir
from s3router.upstreams.s3prl_engine import load, problem

if TYPE_CHECKING:
    from argparse import Namespace

    from torch import nn
    from torch.utils.data import Dataset


@dataclass(frozen=True)
class Settings:
    """How a task is trained.

    Attributes:
        batch_size: utterances per batch.
        accum_grad: batches per update.
        max_updates: optimizer steps.
        valid_interval: optimizer steps between validations.
        grad_clip: largest norm of the gradient.
        head_lr: learning rate of head and featurizer.
        max_seconds: longer training utterances are cropped at random; None: never.
        gain_db: gain applied to every waveform (s3prl does it with sox).
        head: arguments of s3prl's head.
        halve_above: batches whose longest utterance has more samples than this are half as large (sequence tasks).
        optimizer: class in torch.optim.
    """

    batch_size: int
    accum_grad: int
    max_updates: int
    valid_interval: int
    grad_clip: float
    head_lr: float
    max_seconds: float | None
    gain_db: float
    head: dict[str, Any]
    halve_above: int | None = None
    optimizer: str = "Adam"


@dataclass(frozen=True)
class Kind[Label, Predictions](abc.ABC):
    """A task. Its subclass is the kind: how its directories are read, and its predictions made, scored and written.

    Attributes:
        name: the task on the command line.
        problem: s3prl's class, whose `default_config` holds the benchmark's settings.
        metric: the metric that selects the best checkpoint on the validation set.
        lower_is_better: whether that metric is an error rate.
        changes: settings that replace s3prl's, as in `Settings`.
        folder, file: where the predictions go in a submission; None: the task is not part of the benchmark.

    Class attributes:
        labels: the file of labels in a training directory.
        ctc: whether the head gives CTC logits (B, T, units) instead of one output per utterance.
        linear_over_time: whether the head is linear up to its mean over time (see `s3router.superb.pooled`).
    """

    labels: ClassVar[str]
    ctc: ClassVar[bool] = False
    linear_over_time: ClassVar[bool] = False

    name: str
    problem: str
    metric: str = ""
    lower_is_better: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    file: str = "predict.txt"

    def settings(self) -> Settings:
        """The benchmark's settings from s3prl, with `changes`."""
        conf = problem(self.problem).default_config()
        train, sampler, dataset = conf["train"], conf["build_batch_sampler"], conf.get("build_dataset", {})
        own = dataset.get("train", {})
        found = {
            "batch_size": sampler["train"]["batch_size"],
            "accum_grad": train["gradient_accumulate"],
            "max_updates": train["total_steps"],
            "valid_interval": train["eval_step"],
            "grad_clip": train["gradient_clipping"],
            "head_lr": conf["build_optimizer"]["conf"]["lr"],
            "max_seconds": own.get("max_secs"),
            "gain_db": _gain(own.get("sox_effects")),
            "head": conf.get("build_downstream", {}),
            "optimizer": conf["build_optimizer"]["name"],
            "halve_above": sampler["train"].get("max_length"),
        }
        return Settings(**{**found, **self.changes})

    def quality(self, metrics: Mapping[str, Any]) -> float:
        """The selecting metric as a number of which more is better."""
        return -metrics[self.metric] if self.lower_is_better else metrics[self.metric]

    def option_problems(self, options: Namespace) -> list[str]:
        """Options of training that do not fit this kind."""
        return []

    # Data

    @abc.abstractmethod
    def read(self, folder: str | os.PathLike) -> LabelledDir[Label]:
        """A Kaldi directory with labels and durations.

        Raises:
            DataError: files that are missing or disagree, labels of another form; all problems at once.
        """

    @abc.abstractmethod
    def inventory(self, train: LabelledDir[Label], given: Path | None = None) -> list[list[str]]:
        """The classes of each slot, or the units, that the task predicts.

        Args:
            train: the training set, from which they are taken by default.
            given: a file of classes.
        """

    @abc.abstractmethod
    def label_problems(self, part: LabelledDir[Label], classes: list[list[str]], training: bool) -> list[str]:
        """Labels of a directory that cannot be learned (``training``) or scored."""

    def minimal_samples(self, receptive_field: int) -> int:
        """Samples of the shortest utterance that gives a prediction.

        Args:
            receptive_field: samples that the upstream needs for one frame.
        """
        return receptive_field

    def check(
        self,
        train: LabelledDir[Label] | None,
        others: Sequence[LabelledDir[Label]],
        classes: list[list[str]],
        receptive_field: int = 1,
    ) -> None:
        """Refuse what cannot be trained or scored.

        Raises:
            DataError: all problems of a directory at once.
        """
        least = self.minimal_samples(receptive_field)
        for part in (*([train] if train else []), *others):
            problems = self.label_problems(part, classes, part is train) + too_short(part.data.utts, least)
            if problems:
                raise DataError(summary(part.data.path, problems))

    # Training

    @abc.abstractmethod
    def encoder(self, classes: list[list[str]]) -> Any:
        """s3prl's encoder of labels."""

    def build(self, model: nn.Module, encoder: Any) -> nn.Module:
        """s3prl's Task around a model: loss and predictions."""
        return problem(self.problem).build_task({}, model, encoder)

    @abc.abstractmethod
    def clips(
        self,
        labelled: LabelledDir[Label],
        encoder: Any,
        settings: Settings,
        max_seconds: float | None = None,
        seed: int = 0,
    ) -> Dataset:
        """The utterances as s3prl's Task takes them, cropped to ``max_seconds`` in training."""

    def sampler(self, clips: Dataset, batch_size: int, settings: Settings, seed: int) -> Any:
        """s3prl's batch sampler of the training set: by default every utterance once per epoch, shuffled."""
        made = load("s3prl.dataio.sampler").FixedBatchSizeBatchSampler
        return made(clips, batch_size, shuffle=True, seed=1_000_003 * seed)

    # Predictions

    def on_raw_waveforms(self) -> Kind:
        """The task with test waveforms as they are, where the benchmark's differ.

        Raises:
            ConfigError: they do not.
        """
        raise ConfigError(f"--raw is for sv; the waveforms of {self.name} are the same anyway: leave it out")

    @abc.abstractmethod
    def predictions(self, outputs: Mapping[str, Any], labelled: LabelledDir[Label]) -> Predictions:
        """The predictions for a directory, from what s3prl's Task gives for each utterance."""

    @abc.abstractmethod
    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """The metrics, as fractions; what is tuned is tuned on this very set."""

    def tuned(self, predictions: Predictions, best: Mapping[str, Any]) -> dict[str, Any]:
        """The metrics that change under the settings which the validation set has decided (``best``)."""
        return {}

    @abc.abstractmethod
    def write(self, predictions: Predictions, folder: Path, fold: int | None = None) -> None:
        """Write the predictions, and the submission's files as `folder` names them."""


def _gain(effects: list[list[str]] | None) -> float:
    """Decibels of sox's ``gain``; 0 without. ``channels 1`` and ``rate 16000`` are what our data layer does anyway."""
    gains = [float(effect[1]) for effect in effects or [] if effect[0] == "gain"]
    other = [effect for effect in effects or [] if effect[0] not in ("gain", "channels", "rate")]
    if other:
        raise ConfigError(f"s3prl's settings ask for the sox effects {other}, which are not known here")
    return sum(gains)
