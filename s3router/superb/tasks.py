"""The tasks: which s3prl problem gives the head, the loss and the settings, and what we add to it."""

from __future__ import annotations

import importlib
import types
from dataclasses import dataclass, field
from typing import Any

from s3router.errors import ConfigError
from s3router.upstreams.s3prl_engine import problem


@dataclass(frozen=True)
class TaskSpec:
    """A task.

    Args:
        name: as on the command line.
        problem: s3prl's class, whose `default_config` holds the benchmark's settings.
        kind: the module beside this one that reads, checks, encodes and scores what the task predicts.
        figure: what selects the best checkpoint; None: (mean recall or) accuracy.
        lower_is_better: of that figure.
        units: of sequence tasks, s3prl's vocabulary: ``phoneme``, ``character`` or ``character-slot``.
        sampler: s3prl's training sampler, where its problem names another than that of classification.
        slots: what an utterance's label consists of; one slot but for intents.
        balanced: training draws every class equally often, and the best checkpoint is the one with the best mean
            recall of the classes on the validation set. (s3prl draws the validation set in the same way, at random;
            mean recall is what its accuracy estimates.)
        changes: settings in place of s3prl's, in the form of `default_config`.
        folder, file: where the prediction goes in a submission; None: the task is not part of the benchmark.
        separator: between the columns of that file.
    """

    name: str
    problem: str
    kind: str = "classification"
    figure: str | None = None
    lower_is_better: bool = False
    units: str = ""
    sampler: str | None = None
    slots: tuple[str, ...] = ("label",)
    balanced: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None
    file: str = "predict.txt"
    separator: str = " "

    @property
    def metric(self) -> str:
        """What selects the best checkpoint on the validation set."""
        if self.figure is not None:
            return self.figure
        return "balanced_accuracy" if self.balanced else "accuracy"

    def quality(self, value: float) -> float:
        """A value of `metric` as a number of which more is better."""
        return -value if self.lower_is_better else value

    def of_kind(self) -> types.ModuleType:
        """The module that does what this kind of task does in its own way."""
        return importlib.import_module(f"s3router.superb.{self.kind}")

    def settings(self) -> Settings:
        """s3prl's settings of the benchmark, with our changes."""
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


@dataclass(frozen=True)
class Settings:
    """How a task is trained.

    Args:
        batch_size: utterances in a batch.
        accum_grad: batches in an update.
        max_updates: optimizer steps.
        valid_interval: optimizer steps between validations.
        grad_clip: upper norm of the gradient.
        head_lr: learning rate of head and featurizer.
        max_seconds: longer training utterances are cropped at random; None: never.
        gain_db: applied to every waveform (s3prl does it with sox).
        head: arguments of s3prl's head.
        halve_above: batches whose longest utterance has more samples than this are half as large (sequence tasks).
        optimizer: its class in torch.optim.
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


def _gain(effects: list[list[str]] | None) -> float:
    """Decibels of sox's ``gain``; 0 without. ``channels 1`` and ``rate 16000`` are what our data layer does anyway."""
    gains = [float(effect[1]) for effect in effects or [] if effect[0] == "gain"]
    other = [effect for effect in effects or [] if effect[0] not in ("gain", "channels", "rate")]
    if other:
        raise ConfigError(f"s3prl's settings ask for the sox effects {other}, which are not known here")
    return sum(gains)


FIGURES = {
    "per": "PER",
    "wer": "WER",
    "cer": "CER",
    "slot_type_f1": "slot-type F1",
    "slot_value_cer": "slot-value CER",
    "eer": "EER",
    "der": "DER",
}
"""Figures of tasks other than classification in `result.json`, which are fractions, and their names in a table."""

TASKS = {
    spec.name: spec
    for spec in (
        TaskSpec("ks", "SuperbKS", balanced=True, folder="ks_public"),
        TaskSpec(
            "ic",
            "SuperbIC",
            slots=("action", "object", "location"),
            folder="ic_public",
            file="predict.csv",
            separator=",",
        ),
        TaskSpec("sid", "SuperbSID", folder="sid_public"),
        TaskSpec("er", "SuperbER", folder="er_fold{fold}_public"),
        TaskSpec(
            "pr",
            "SuperbPR",
            kind="sequences",
            figure="per",
            lower_is_better=True,
            units="phoneme",
            sampler="SortedSliceSampler",
            slots=("text",),
            folder="pr_public",
            file="predict.ark",
        ),
        TaskSpec(
            "asr",
            "SuperbASR",
            kind="sequences",
            figure="wer",
            lower_is_better=True,
            units="character",
            sampler="SortedBucketingSampler",
            slots=("text",),
            folder="asr_public",
            file="predict.ark",
        ),
        TaskSpec(
            "sf",
            "SuperbSF",
            kind="sequences",
            figure="slot_type_f1",
            units="character-slot",
            sampler="SortedSliceSampler",
            slots=("text",),
            folder="sf_public",
            file="predict.ark",
        ),
        TaskSpec(
            "sv",
            "SuperbASV",
            kind="verification",
            figure="eer",
            lower_is_better=True,
            # s3prl does not validate; it saves at this interval, and takes the checkpoint that is best on the test set
            changes={"valid_interval": 10_000},
            folder="sv_public",
        ),
        TaskSpec(
            "sd",
            "SuperbSD",
            kind="diarization",
            figure="der",
            lower_is_better=True,
            changes={"max_seconds": 40.0},  # s3prl's 2,000 frames of 20 ms
            folder="sd_public",
            file="frame_shift",
        ),
        TaskSpec(
            "cls",  # any corpus: egs/TEMPLATE/cls1
            "SuperbSID",
            changes={
                "batch_size": 16,
                "accum_grad": 1,
                "max_updates": 2000,
                "valid_interval": 100,
                "head_lr": 1e-3,
                "max_seconds": None,
            },
        ),
    )
}


def task(name: str) -> TaskSpec:
    """The task of that name. Raises ConfigError with the known ones."""
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]
