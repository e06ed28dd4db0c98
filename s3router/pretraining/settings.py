"""The configuration of a pretraining: the model, the training and the rounds."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any

from s3router.errors import ConfigError
from s3router.files import read_yaml

FEATURES = ("mfcc", "layer")


@dataclass(frozen=True)
class Training:
    """What all rounds share.

    Attributes:
        batch_seconds: speech of one update.
        max_seconds: longer recordings are cropped, at another place each time.
        speeds: one is drawn in each epoch for each recording.
        matrix_lr: peak learning rate of Muon, for the matrices of the transformer layers.
        lr: peak learning rate of AdamW, for everything else.
        betas: of AdamW.
        weight_decay: of both.
        warmup: updates until the peak.
        final_lr: share of the peak at the end of the cosine.
        clip: norm of the gradients.
        mask_start: share of frames at which a masked span starts (wav2vec 2.0, section 4.1).
        mask_length: frames of a span.
        unmasked_weight: of the loss on frames that are not masked.
        synthetic_share: of the recordings of an epoch, in rounds with phones.
        seed: of initialisation, batches and k-means.
    """

    batch_seconds: float
    max_seconds: float
    speeds: list[float]
    matrix_lr: float
    lr: float
    betas: list[float]
    weight_decay: float
    warmup: int
    final_lr: float
    clip: float
    mask_start: float
    mask_length: int
    unmasked_weight: float
    synthetic_share: float = 0.4
    seed: int = 0


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        features: what is clustered: "mfcc", or "layer", a hidden state of the model so far.
        clusters: sizes of the k-means, one output head each.
        steps: updates.
        layer: the hidden state, for "layer".
        phones: phones of synthetic speech are targets, too.
    """

    features: str
    clusters: list[int]
    steps: int
    layer: int | None = None
    phones: bool = False


@dataclass(frozen=True)
class Settings:
    """A configuration file."""

    model: dict[str, Any]
    training: Training
    rounds: list[Round]

    @classmethod
    def read(cls, path: str | os.PathLike) -> Settings:
        """Read a YAML file with ``model`` (of a HubertConfig), ``training`` and ``rounds``.

        Raises:
            ConfigError: not YAML, or keys that are unknown or missing; all problems at once.
            OSError: no such file, or one that cannot be read.
        """
        found = read_yaml(path)
        problems: list[str] = []
        if found.keys() != {"model", "training", "rounds"}:
            raise ConfigError(f"{path}: expected model, training and rounds")
        training = _build(Training, found["training"], "training", problems)
        listed = found["rounds"] if isinstance(found["rounds"], list) else []
        rounds = [_build(Round, spec, f"round {number}", problems) for number, spec in enumerate(listed, 1)]
        if not listed:
            problems.append("rounds: expected a list of one or more")
        if not isinstance(found["model"], dict):
            problems.append("model: expected options of a HubertConfig")
        if training is not None and training.warmup < 1:
            problems.append("training: warmup is 1 update or more")
        if training is not None and not 0 <= training.synthetic_share < 1:
            problems.append("training: synthetic_share is from 0 up to 1")
        for number, spec in enumerate(rounds, 1):
            if spec is None:
                continue
            if spec.features not in FEATURES:
                problems.append(f"round {number}: features is {' or '.join(FEATURES)}, not {spec.features!r}")
            if spec.features == "layer" and spec.layer is None:
                problems.append(f"round {number}: features: layer needs the number of a layer")
        if rounds and rounds[0] is not None and rounds[0].features == "layer":
            problems.append("round 1: there is no model yet whose layer could be clustered; take features: mfcc")
        if problems:
            raise ConfigError(f"{path}: {'; '.join(problems)}")
        return cls(found["model"], training, rounds)


def _build(kind: type, given: Any, where: str, problems: list[str]) -> Any:
    """An instance, or None and what is wrong."""
    if not isinstance(given, dict):
        problems.append(f"{where}: expected keys and values")
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [key for key in given if key not in fields]
    lacking = [n for n, field in fields.items() if n not in given and field.default is dataclasses.MISSING]
    problems += [f"{where}: unknown key {key}" for key in unknown] + [f"{where}: {key} is missing" for key in lacking]
    if unknown or lacking:
        return None
    values = {name: _number(value, fields[name].type) for name, value in given.items()}
    wrong = [name for name, value in values.items() if value is _WRONG]
    problems += [f"{where}: {name} is {_NUMBERS[fields[name].type]}, not {given[name]!r}" for name in wrong]
    return None if wrong else kind(**values)


_NUMBERS = {
    "float": "a number",
    "int": "a whole number",
    "list[float]": "a list of numbers",
    "list[int]": "a list of whole numbers",
}
_WRONG = object()


def _number(value: Any, kind: str) -> Any:
    """A value as its field has it, or _WRONG. 1e-3, of which YAML makes a text, is a number."""
    if kind not in _NUMBERS:
        return value
    if kind.startswith("list"):
        each = [_number(one, kind[5:-1]) for one in value] if isinstance(value, list) and value else [_WRONG]
        return _WRONG if _WRONG in each else each
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        return _WRONG
    if not math.isfinite(number) or (kind == "int" and number != int(number)):
        return _WRONG
    return int(number) if kind == "int" else number
