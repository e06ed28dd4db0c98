"""The experiment folder of a SUPERB task."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import CheckpointError, ConfigError
from s3router.submission.tracks import track
from s3router.superb.kind import Kind, Settings
from s3router.superb.options import extra_conf, read_recorded
from s3router.superb.tasks import FIGURES, task
from s3router.training.checkpoints import CHECKPOINT
from s3router.training.experiment import Experiment, TrainedParts, as_json, read_results
from s3router.training.resume import COMMON, plain
from s3router.tuners.methods import without_start

if TYPE_CHECKING:
    from torch import Tensor, nn

SELECTED = "selected"
"""The link to the run, of several with different learning rates, that is best on the validation set."""
_RECORDED = ("task", "method", "method_conf", "lr", "upstream_lr", "max_updates", "batch_size", "accum_grad", "seed")


class TaskExperiment(Experiment):
    """What ``s3router superb-train`` leaves: ``config.json``, ``best.pth`` and its metrics in ``best.json``.

    A folder with a link ``selected`` opens the run that the link names.

    Attributes:
        top: the folder with the sets' predictions: that of the link, if there is one.
    """

    CONFIG = "config.json"
    REQUIRED = frozenset({"options", "settings", "classes", "fingerprint"})
    WRITER = "s3router superb-train"
    BEST = "best.pth"
    RESULT = "best.json"
    RESULTS = "predict_"
    FIGURES = ("accuracy", "balanced_accuracy", *FIGURES, "n_utts")
    DECISIVE = (
        *COMMON,
        *("task", "classes", "method_conf", "lr", "upstream_lr", "batch_size", "max_seconds", "head_conf"),
    )
    SEPARATOR = "-"

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        above = path.parent / SELECTED
        self.top = path.parent if above.is_symlink() and above.resolve() == path.resolve() else path
        super().__init__(path if (path / self.CONFIG).exists() or not (path / SELECTED).is_dir() else path / SELECTED)

    @classmethod
    def is_in(cls, path: str | os.PathLike) -> bool:
        return super().is_in(path) or super().is_in(Path(path) / SELECTED)

    @cached_property
    def options(self) -> Mapping[str, Any]:
        return read_recorded(self.config["options"])

    @property
    def task(self) -> str:
        return self.options["task"]

    @property
    def kind(self) -> Kind:
        """The task."""
        return task(self.task)

    @property
    def settings(self) -> Settings:
        """The benchmark's settings, with the head's arguments that were given."""
        return Settings(**self.config["settings"])

    @property
    def classes(self) -> list[list[str]]:
        """The classes of each slot, or the units."""
        return self.config["classes"]

    @property
    def track(self) -> dict[str, str]:
        """The benchmark's track, as an entry of results; empty for a task that is not part of the benchmark."""
        if self.kind.folder is None:
            return {}
        trained = {**self.options, "max_updates": self.options["max_updates"] if self.ended else self.updates}
        return {"track": track(self.method, trained, self.config["settings"])}

    @cached_property
    def updates(self) -> int | None:
        """Updates that training has done; None where its last checkpoint was taken away.

        Raises:
            CheckpointError: the checkpoint is damaged.
        """
        from s3router.training.checkpoints import read_states

        path = self.path / CHECKPOINT
        return read_states(path, mapped=True)["update"] if path.exists() else None

    @property
    def ended(self) -> bool:
        """Whether training has come to its end; where nothing tells, it is taken for granted."""
        return self.updates is None or self.updates >= self.options["max_updates"]

    @property
    def setting(self) -> str:
        """Digest of everything that decides a result but the seed: runs that share it are seeds of one setting."""
        names = [name for name in self.DECISIVE if name in self.options and name not in ("seed", "amp_dtype")]
        values = json.dumps({name: plain(self.options[name]) for name in names}, sort_keys=True, default=str)
        return hashlib.blake2b(values.encode(), digest_size=6).hexdigest()

    @property
    def fingerprint(self) -> str | None:
        return self.config["fingerprint"]

    @cached_property
    def validated(self) -> dict[str, Any]:
        """The best checkpoint's metrics on the validation set, its loss there and its update.

        Raises:
            CheckpointError: training has not got that far, or the file is damaged.
        """
        path = self.path / self.RESULT
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); train this run to its end first") from None

    def metrics(self, checkpoint: str | os.PathLike | None = None) -> dict[str, dict[str, Any]]:
        """As `Experiment.metrics`, the validation set included."""
        if self.checkpoint(checkpoint).name != self.BEST:
            return {}
        results = {Path(self.options["valid_dir"]).name: self.validated} | read_results(self.top, self.RESULTS)
        return {
            name: {figure: result[figure] for figure in self.FIGURES if figure in result}
            for name, result in results.items()
        }

    def check_same_sets(self, classes: list[list[str]], labels: str, audio: str) -> None:
        """Refuse to resume with other classes, labels or recordings.

        Args:
            labels, audio: `s3router.superb.run.Sets.digest` and `audio`; older versions did not record them.

        Raises:
            ConfigError: they differ.
        """
        for what, same in (
            ("classes", classes == self.classes),
            ("labels", labels == self.config.get("labels", labels)),
            ("recordings", audio == self.config.get("audio", audio)),
        ):
            if not same:
                raise ConfigError(f"{self.path} holds a run with other {what}; take another --output-dir, or delete it")

    def model(
        self, checkpoint: str | os.PathLike | None = None, device: str = "cpu", amp_dtype: str = "float32"
    ) -> nn.Module:
        """s3prl's Task (`s3router.superb.model.build_task`), trained and in evaluation mode; as `Experiment.model`."""
        from s3router.superb.model import build_task
        from s3router.training.parameters import load_trained

        state = self.state(checkpoint)
        masks = without_start(self.options.get("mask_conf"))
        extra = extra_conf(argparse.Namespace(**{**self.options, "feature_cache": None, "mask_conf": masks}))
        built = build_task(
            *(self.kind, self.settings, self.classes, self.method, extra, self.upstream_ckpt),
            autocast=amp_dtype == "bfloat16",
        )
        self.check_upstream(built.model.routed.backbone_fingerprint)
        load_trained(built.model, state, self.checkpoint(checkpoint))
        return built.to(device).eval()

    def parts(self, checkpoint: str | os.PathLike | None = None) -> TrainedParts:
        """As `Experiment.parts`.

        The benchmark's head of utterance classification is two linear layers with a mean over time between them; a
        pack holds the one that they make together, which gives the same logits up to rounding. With several slots,
        labels are ``slot class``.
        """
        from s3router.tuners.learnt import learnt

        kind, options = self.kind, self.options
        if not kind.linear_over_time:
            raise ConfigError(f"{self.path}: task {kind.name}: packs hold heads of utterance classification")
        model = self.model(checkpoint).model
        backbone = model.routed.backbone
        _refuse_outside(model)
        found = learnt(backbone)
        if (found.delta or found.adapter) and self.method != "scratch":  # the trained one is not the plain one now
            from s3router.upstreams.hub import build

            backbone = build(ckpt=self.upstream_ckpt, upstream=self.upstream).backbone
        one_slot = len(self.classes) == 1
        slotted = [f"{slot} {name}" for slot, names in zip(kind.slots, self.classes, strict=True) for name in names]
        training = {name: options[name] for name in _RECORDED if options[name] not in (None, {})}
        return TrainedParts(
            backbone=backbone,
            masks=found.masks,
            delta=found.delta,
            adapter=found.adapter,
            adapter_meta=found.meta,
            featurizer={name: tensor.detach().cpu() for name, tensor in model.featurizer.state_dict().items()},
            head=one_linear(model.downstream),
            tokens=None,
            labels=tuple(self.classes[0] if one_slot else slotted),
            preprocessing={
                "sample_rate": SAMPLE_RATE,
                "features": "weighted",
                "normalize_features": False,
                "gain_db": self.settings.gain_db,
                "minimal_samples": kind.minimal_samples(model.receptive_field),
            },
            mask=as_json(extra_conf(argparse.Namespace(**options)).get("mask", {})),
            training=training | self.track,
            corpus="/".join(Path(options["train_dir"]).parts[-2:]),
        )


def one_linear(head: nn.Module) -> dict[str, Tensor]:
    """``weight`` (classes, features) and ``bias`` of s3prl's MeanPoolingLinear; ConfigError for other heads."""
    layers = list(getattr(head, "hidden_layers", []))
    if type(head).__name__ != "MeanPoolingLinear" or len(layers) != 1:
        raise ConfigError(f"a head of kind {type(head).__name__} has no place in a pack; packs hold one linear layer")
    inner, outer = layers[0], head.final_proj
    weight = outer.weight.detach() @ inner.weight.detach()
    bias = outer.weight.detach() @ inner.bias.detach() + outer.bias.detach()
    return {"weight": weight.cpu(), "bias": bias.cpu()}


def _refuse_outside(model: nn.Module) -> None:
    """Raise CheckpointError where something trained in the upstream that is outside of the backbone."""
    from s3router.training.parameters import trained_names

    prefix = next(f"{name}." for name, module in model.named_modules() if module is model.routed.backbone)
    for name in trained_names(model):
        if name.startswith(f"{model.UPSTREAM}.") and not name.startswith(prefix):
            raise CheckpointError(f"{name} was trained, for which a pack has no place: it lies outside of the backbone")
