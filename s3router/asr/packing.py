"""From an experiment folder to a mask pack."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from s3router.packs import MaskPack

_LIBRARIES = ("s3router", "torch", "espnet", "espnet-s3prl", "transformers")


def pack_from_experiment(
    exp_dir: str | os.PathLike, checkpoint: str | os.PathLike | None = None, route: str = "", **details: Any
) -> MaskPack:
    """The pack of what an ASR experiment has learnt.

    Args:
        exp_dir: its folder, of method ``router`` or ``frozen`` (then without masks).
        checkpoint: a name in it or a path; by default the best on the validation set.
        route: the language's or task's name.
        details: ``corpus``, ``licence``, ``metrics`` ({set: {metric: value}}, added to those of the folder's
            ``decode_*/result.json``).

    Raises:
        CheckpointError: no such experiment, a damaged checkpoint, or one that holds more than a pack can.
        ConfigError: the experiment trained weights.
    """
    return backbone_and_pack(exp_dir, checkpoint, route, **details)[1]


def backbone_and_pack(
    exp_dir: str | os.PathLike,
    checkpoint: str | os.PathLike | None,
    route: str,
    corpus: str = "",
    licence: str = "",
    metrics: dict[str, dict[str, float]] | None = None,
) -> tuple[nn.Module, MaskPack]:
    """As `pack_from_experiment`; the backbone with the weights that it had before training comes first."""
    from s3router.asr.experiment import ASRExperiment
    from s3router.packs import MaskPack, PackMeta

    exp = ASRExperiment(exp_dir)
    if exp.method not in ("router", "frozen"):
        raise ConfigError(
            f"{exp_dir}: method {exp.method} trains the weights themselves; a pack holds masks on frozen "
            "weights (--method router)"
        )
    found = exp.metrics(checkpoint)
    for name, values in (metrics or {}).items():
        found[name] = {**found.get(name, {}), **values}
    parts, source = exp.parts(checkpoint), exp.upstream_ckpt
    meta = PackMeta(
        backbone=exp.upstream,
        fingerprint=exp.fingerprint,
        # a repository's name as it is; of a path, which means nothing elsewhere, the last part
        checkpoint=None if source is None else Path(source).name if Path(source).exists() else source,
        mask=parts.mask,
        preprocessing=parts.preprocessing,
        corpus=corpus or parts.corpus,
        metrics=found,
        training=parts.training,
        versions=_versions(),
        licence=licence,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    tensors = (parts.masks, parts.delta, parts.featurizer, parts.head)
    return parts.backbone, MaskPack(route, *tensors, parts.tokens, meta, parts.bpe_model)


def _versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "s3router":  # run from its source
                from s3router import __version__

                found[name] = __version__
    return found
