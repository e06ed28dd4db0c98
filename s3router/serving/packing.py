"""Packs from experiments of every method, of speech recognition and of classification."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack, PackMeta, read_pack, write_pack
from s3router.serving.route_heads import validation_metrics, with_confidence
from s3router.training.experiment import Experiment, TrainedParts

if TYPE_CHECKING:
    from torch import Tensor, nn

_LIBRARIES = ("s3router", "torch", "espnet", "espnet-s3prl", "transformers")
_AS_TRAINED = ("router", "frozen")  # what they have besides masks is small


def pack_experiment(
    exp: Experiment,
    route: str,
    checkpoint: str | os.PathLike | None = None,
    float32: bool = False,
    **details: object,
) -> MaskPack:
    """The pack of what an experiment has learnt.

    Args:
        exp: of any method but ``scratch``.
        route: the language's or task's name.
        checkpoint: a name in its folder or a path; by default the best on the validation set.
        float32: keep trained weights and adapters as they are; by default they are rounded (`in_half`), but not those
            that stand beside masks.
        details: ``corpus``, ``licence``, ``metrics``, as of `pack_of`.

    Raises:
        CheckpointError: a damaged checkpoint, or one that holds more than a pack can.
        ConfigError: the experiment began from scratch, or its head is not one linear layer.
        PackError: values that half precision cannot hold.
    """
    return _pack_and_backbone(exp, route, checkpoint, float32, **details)[0]


def _pack_and_backbone(
    exp: Experiment, route: str, checkpoint: str | os.PathLike | None, float32: bool, **details: object
) -> tuple[MaskPack, nn.Module]:
    if exp.method == "scratch":
        raise ConfigError(
            f"{exp.path}: method scratch begins at random, so there is no backbone that it shares with others; "
            f"s3router bake {exp.path} -o FOLDER writes it as a plain model"
        )
    parts = routable(exp.parts(checkpoint), exp.path)
    pack = pack_of(exp, parts, route, checkpoint, **details)
    return pack if float32 or exp.method in _AS_TRAINED else in_half(pack, exp.path), parts.backbone


def routable(parts: TrainedParts, where: Path) -> TrainedParts:
    """The parts without what routes share: the backbone's buffers, which must be as they were.

    Args:
        where: the experiment's folder, for the message.

    Raises:
        ConfigError: training has moved one, as it does the statistics of batch normalisation.
    """
    buffers = dict(parts.backbone.named_buffers())
    shared = [name for name in parts.delta if name in buffers]
    moved = [name for name in shared if not torch.equal(parts.delta[name], buffers[name].cpu())]
    if moved:
        raise ConfigError(
            f"{where}: training has moved {moved[0]}, statistics of batch normalisation, which all routes share; "
            f"s3router bake {where} -o FOLDER writes a plain model"
        )
    return replace(parts, delta={name: tensor for name, tensor in parts.delta.items() if name not in shared})


def in_half(pack: MaskPack, where: str | os.PathLike) -> MaskPack:
    """The pack with trained weights and adapter rounded to float16; masks, head and featurizer as they are.

    Args:
        where: what comes first in messages.

    Raises:
        PackError: a value above 65504, the largest of float16.
    """
    rounded: dict[str, dict[str, Tensor]] = {}
    for kind in ("delta", "adapter"):
        tensors = getattr(pack, kind)
        rounded[kind] = {name: _half(kind, name, tensor) for name, tensor in tensors.items()}
        for name, tensor in rounded[kind].items():
            if tensor.isinf().any() and tensors[name].isfinite().all():
                largest = f"values up to ±{float(tensors[name].abs().max()):g}"
                raise PackError(f"{where}: {name} holds {largest}, and float16 ends at 65504; pack it with --float32")
    return replace(pack, **rounded)


def _half(kind: str, name: str, tensor: Tensor) -> Tensor:
    wide = kind == "adapter" and name.endswith(".scale")  # of bitdelta: one number per matrix
    return tensor.half() if tensor.is_floating_point() and not wide else tensor


def pack_of(
    exp: Experiment,
    parts: TrainedParts,
    route: str,
    checkpoint: str | os.PathLike | None = None,
    corpus: str = "",
    licence: str = "",
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> MaskPack:
    """The pack of an experiment's `parts`, not rounded; weights that it trained are in its ``delta``.

    Args:
        checkpoint: the one that `parts` are of, for its metrics.
        corpus: what it was trained on; by default what the experiment says.
        licence: of the pack.
        metrics: set -> metric -> value, added to those that the folder holds.

    Raises:
        CheckpointError: a result in the folder is damaged.
    """
    from s3router.packs.fingerprint import weights_hash

    found = {name: dict(values) for name, values in exp.metrics(checkpoint).items()}
    for name, values in (metrics or {}).items():
        found[name] = {**found.get(name, {}), **values}
    source, valid = exp.upstream_ckpt, exp.options.get("valid_dir")
    meta = PackMeta(
        backbone=exp.upstream,
        fingerprint=exp.fingerprint or weights_hash(parts.backbone),
        # a repository's name as it is; of a path, which means nothing elsewhere, the last part
        checkpoint=None if source is None else Path(source).name if Path(source).exists() else source,
        mask=_without_folders(parts.mask),
        preprocessing=parts.preprocessing,
        labels=parts.labels,
        corpus=corpus or parts.corpus,
        metrics=found,
        training=parts.training | ({"valid_set": Path(valid).name} if valid else {}),
        versions=_versions(),
        licence=licence,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        adapter=parts.adapter_meta,
    )
    tensors = (parts.masks, parts.delta, parts.featurizer, parts.head)
    return MaskPack(route, *tensors, parts.tokens, meta, parts.bpe_model, parts.adapter)


def _without_folders(mask: Mapping[str, Any]) -> dict[str, Any]:
    """Where the packs that a mask began at lay means nothing elsewhere; what they were called may."""
    packs = {"start_packs": [Path(path).name for path in mask["start_packs"]]} if "start_packs" in mask else {}
    return {**mask, **packs}


@dataclass(frozen=True)
class Written:
    """What writing a pack found in the place of it.

    Attributes:
        kept: the usual confidence that ``s3router langid --store`` had written into a pack of this very model.
        lost: the same of another model of this route, which does not hold for the new one.
    """

    kept: float | None = None
    lost: float | None = None


def write_experiment(
    path: str | os.PathLike,
    exp: Experiment,
    route: str,
    codec: str = "bits",
    checkpoint: str | os.PathLike | None = None,
    float32: bool = False,
    **details: object,
) -> Written:
    """Write the pack of an experiment, and read it back.

    Args:
        path: the file; one that exists is replaced, and the calibration in it is kept where it is of the same model.
        codec: ``bits`` or ``coded`` (`s3router.packs.write_pack`).
        exp, route, checkpoint, float32, details: as of `pack_experiment`.

    Raises:
        PackError: what was read back is not what was written; and as `pack_experiment`.
    """
    pack, backbone = _pack_and_backbone(exp, route, checkpoint, float32, **details)
    pack, written = _calibrated(path, pack, backbone)
    write_pack(path, pack, codec, backbone)
    again = read_pack(path, backbone, fingerprint=pack.meta.fingerprint)
    if not _same_model(again, pack):
        raise PackError(f"{path}: what is read back is not what was written; check the disk, and pack again")
    return written


def _calibrated(path: str | os.PathLike, pack: MaskPack, backbone: nn.Module) -> tuple[MaskPack, Written]:
    """The pack with the usual confidence that a pack of the same model in its place has, if it has none itself."""
    if not os.path.exists(path) or "confidence" in validation_metrics(pack.meta):
        return pack, Written()
    try:
        old = read_pack(path, backbone, fingerprint=pack.meta.fingerprint)
    except PackError:
        return pack, Written()
    value = validation_metrics(old.meta).get("confidence")
    if value is None or old.route != pack.route:
        return pack, Written()
    if not _same_model(old, pack):
        return pack, Written(lost=value)
    return with_confidence(pack, value), Written(kept=value)


def _same_model(one: MaskPack, other: MaskPack) -> bool:
    """Whether two packs of one backbone give the same outputs."""
    for name in ("masks", "delta", "adapter", "featurizer", "head"):
        a, b = getattr(one, name), getattr(other, name)
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    return (one.tokens, one.meta.labels, one.meta.adapter) == (other.tokens, other.meta.labels, other.meta.adapter)


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
