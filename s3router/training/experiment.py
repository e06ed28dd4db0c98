"""Experiment folders: opened in one way by training, resuming, decoding, predicting, packing and selecting."""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from s3router.errors import CheckpointError, ConfigError
from s3router.training.checkpoints import CHECKPOINT, read_states
from s3router.training.resume import COMMON, differences

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainedParts:
    """What an experiment has learnt, taken apart for packing.

    Attributes:
        backbone: the plain model inside the upstream, with the weights that it had before training; masks may be
            attached to it.
        masks: weight's name in the backbone -> bool, the weight's shape, True = kept; empty without masks.
        delta: further tensors of the backbone that training changed, by plain name: biases and layer norms beside
            masks, all weights with the methods ``weight`` and ``scratch``.
        featurizer: the featurizer's state dict.
        head: ``weight`` (tokens or classes, features) and ``bias`` (tokens or classes,) of one linear layer.
        tokens: the CTC token list, or None.
        labels: the names of the classes, or None.
        preprocessing: ``sample_rate``, ``features``, ``normalize_features`` and what else a pack says of its input.
        mask: fields of `s3router.masks.MaskConfig`; empty without masks.
        training: the settings that a pack records: method, learning rates, seed …
        corpus: what it was trained on, as far as the folder tells.
        bpe_model: the sentencepiece model, for the token type ``bpe``.
        adapter: ``{target}.{part}`` -> tensor, as `s3router.packs.adapters` has them; empty without one.
        adapter_meta: its ``method`` and settings; empty without one.
    """

    backbone: nn.Module
    masks: dict[str, Tensor]
    delta: dict[str, Tensor]
    featurizer: dict[str, Tensor]
    head: dict[str, Tensor]
    tokens: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    preprocessing: dict[str, Any]
    mask: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    corpus: str = ""
    bpe_model: bytes | None = None
    adapter: dict[str, Tensor] = field(default_factory=dict)
    adapter_meta: dict[str, Any] = field(default_factory=dict)


class Experiment(abc.ABC):
    """A folder that training has written.

    Opening one reads its configuration and nothing else; no engine is imported.

    Attributes:
        path: the folder.
        config: what training recorded in ``CONFIG``.

    Class attributes, set by each kind:
        CONFIG: name of the configuration file, YAML or JSON by its ending.
        REQUIRED: keys that tell such a configuration from others.
        WRITER: the command that writes it, for messages.
        BEST: name of the best checkpoint on the validation set.
        RESULTS: how the folders of scored sets begin: ``decode_``, ``predict_``.
        FIGURES: keys of their ``result.json`` that `metrics` gives.
        DECISIVE: settings that must not change when a run is resumed.
        SEPARATOR: what parts the words of an option's name on the command line.

    Raises:
        CheckpointError: no such experiment, or a damaged configuration.
    """

    CONFIG: ClassVar[str]
    REQUIRED: ClassVar[frozenset[str]]
    WRITER: ClassVar[str]
    BEST: ClassVar[str]
    RESULTS: ClassVar[str]
    FIGURES: ClassVar[tuple[str, ...]]
    DECISIVE: ClassVar[tuple[str, ...]] = COMMON
    SEPARATOR: ClassVar[str] = "_"

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.config: dict[str, Any] = self._read_config()

    @classmethod
    def is_in(cls, path: str | os.PathLike) -> bool:
        """Whether the folder holds an experiment of this kind, judged by its files' names."""
        return (Path(path) / cls.CONFIG).is_file()

    @classmethod
    def interrupted(cls, path: str | os.PathLike) -> Self | None:
        """The experiment that training would go on with, finished or not; None where it would begin anew.

        A configuration without a checkpoint is of a run that got no further.
        """
        return cls(path) if cls.is_in(path) and (Path(path) / CHECKPOINT).is_file() else None

    @classmethod
    def option(cls, name: str) -> str:
        """A setting's name as the command line has it: ``--max_updates``."""
        return "--" + name.replace("_", cls.SEPARATOR)

    @property
    @abc.abstractmethod
    def options(self) -> Mapping[str, Any]:
        """The training options as recorded."""

    @property
    @abc.abstractmethod
    def task(self) -> str:
        """``asr``, or the name of a SUPERB task."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str | None:
        """Of the backbone before training (`s3router.packs.fingerprint`); None where it began at random."""

    @property
    def method(self) -> str:
        """One of `s3router.tuners.METHODS`."""
        return self.options["method"]

    @property
    def upstream(self) -> str:
        """The upstream's name."""
        return self.options["upstream"]

    @property
    def upstream_ckpt(self) -> str | None:
        """The upstream's checkpoint as it was given: a path, a URL or the name of a repository."""
        return self.options.get("upstream_ckpt")

    @property
    def seed(self) -> int:
        """Of initialisation, batches and dropout."""
        return self.options["seed"]

    @property
    def amp_dtype(self) -> str | None:
        """The arithmetic that it trains in, ``bfloat16`` or ``float32``; a resumed run keeps it."""
        return self.options.get("amp_dtype")

    def best(self) -> Path:
        """The best checkpoint on the validation set."""
        return self.path / self.BEST

    def checkpoint(self, name: str | os.PathLike | None = None) -> Path:
        """A checkpoint by its name in the folder or by its path; by default the best one. It need not exist."""
        if name is None:
            return self.best()
        inside = self.path / name
        return inside if inside.exists() else Path(name)

    def state(self, checkpoint: str | os.PathLike | None = None) -> dict[str, Tensor]:
        """The tensors that training changed, read without running any code that the file may hold.

        Raises:
            CheckpointError: no such checkpoint, damaged, or unsafe.
        """
        states = read_states(self.checkpoint(checkpoint))
        inner = states.get("model")
        return inner if isinstance(inner, dict) else states

    def metrics(self, checkpoint: str | os.PathLike | None = None) -> dict[str, dict[str, Any]]:
        """Set -> `FIGURES` of every set that this checkpoint was scored on, from the folders `RESULTS` + set.

        Raises:
            CheckpointError: a damaged result.
        """
        wanted = "" if checkpoint is None else Path(checkpoint).name  # results of the best one name none
        found = {}
        for name, result in read_results(self.path, self.RESULTS).items():
            if not isinstance(result.get("checkpoint"), str):
                place = self.path / f"{self.RESULTS}{name}" / "result.json"
                raise CheckpointError(f"{place}: damaged (it names no checkpoint); score the set again, or remove it")
            if Path(result["checkpoint"]).name == wanted:
                found[name] = {figure: result[figure] for figure in self.FIGURES if figure in result}
        return found

    def check_same_run(self, now: Mapping[str, Any]) -> None:
        """Refuse to resume under other settings.

        Args:
            now: name -> value of the options given, after defaults have been filled in.

        Raises:
            ConfigError: names every setting that differs.
        """
        differ = [
            f"{self.option(name)} was {before}, is {value}"
            for name, before, value in differences(self.options, now, self.DECISIVE)
        ]
        if differ:
            raise ConfigError(
                f"{self.path} holds a run with other options ({'; '.join(differ)}); "
                f"take another {self.option('output_dir')}, or delete it"
            )

    def check_upstream(self, fingerprint: str) -> None:
        """Refuse another backbone than the experiment's. Raises CheckpointError."""
        check_fingerprint(fingerprint, self.fingerprint, self.upstream_ckpt or self.upstream, self.path)

    @abc.abstractmethod
    def model(
        self, checkpoint: str | os.PathLike | None = None, device: str = "cpu", amp_dtype: str = "float32"
    ) -> nn.Module:
        """The trained model in evaluation mode, on ``device``.

        Args:
            checkpoint: as for `checkpoint`.
            amp_dtype: ``bfloat16`` to run the upstream under autocast.

        Raises:
            CheckpointError: a checkpoint that is missing, damaged, unsafe, or of another model; another backbone.
        """

    @abc.abstractmethod
    def parts(self, checkpoint: str | os.PathLike | None = None) -> TrainedParts:
        """What was learnt, for packing.

        Raises:
            CheckpointError: as `model`; or something trained for which `TrainedParts` has no place.
            ConfigError: the head is not one linear layer.
        """

    def _read_config(self) -> dict[str, Any]:
        path = self.path / self.CONFIG
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(f"{path}: no such file; {self.path} is not an experiment of {self.WRITER}") from None
        except UnicodeDecodeError as error:
            raise self._damaged(error) from None
        if path.suffix == ".json":
            try:
                values = json.loads(text)
            except ValueError as error:
                raise self._damaged(error) from None
        else:
            import yaml

            try:
                values = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise self._damaged(error) from None
        if not isinstance(values, dict) or not values.keys() >= self.REQUIRED:
            raise CheckpointError(
                f"{path}: not a configuration of {self.WRITER}; run the training command again, or correct the path"
            )
        return values

    def _damaged(self, error: Exception) -> CheckpointError:
        why = " ".join(str(error).split())
        return CheckpointError(f"{self.path / self.CONFIG}: damaged ({why}); run the training command again")


def check_fingerprint(found: str, known: str | None, upstream: str, experiment: str | os.PathLike) -> None:
    """Refuse a backbone other than the one that an experiment was trained on (``known``; None: any will do).

    Raises:
        CheckpointError: the two differ.
    """
    if known is not None and found != known:
        raise CheckpointError(
            f"upstream {upstream}: its weights are not those that {experiment} was trained on (fingerprint {found}, "
            f"then {known}); bring the old upstream back, or train anew"
        )


def read_results(folder: Path, prefix: str) -> dict[str, dict[str, Any]]:
    """Set -> content of ``result.json`` in its folder, ``prefix`` + set. Raises CheckpointError for a damaged one."""
    found = {}
    for path in sorted(folder.glob(f"{prefix}*/result.json")):
        try:
            found[path.parent.name.removeprefix(prefix)] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged ({error}); score the set again, or remove it") from None
    return found


def as_json(value: Any) -> Any:
    """The value as JSON holds it: keys are text, tuples are lists."""
    return json.loads(json.dumps(value))
