"""From an experiment folder to a mask pack."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s3router.asr.model import RoutedCTCModel
    from s3router.packs import MaskPack

_HEAD = {"ctc.ctc_lo.weight": "weight", "ctc.ctc_lo.bias": "bias"}
_FEATURIZER = "frontend.featurizer."
_LIBRARIES = ("s3router", "torch", "espnet", "espnet-s3prl", "transformers")
_TRAINING = ("method", "score_lr", "head_lr", "max_updates", "head_first", "batch_seconds", "accum_grad", "seed")


def pack_from_experiment(
    exp_dir: str | os.PathLike, checkpoint: str | os.PathLike | None = None, route: str = "", **details: Any
) -> MaskPack:
    """The pack of what an experiment of `s3router.asr.train` has learnt.

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
    return _load(Path(exp_dir), checkpoint, route, details)[1]


def backbone_and_pack(
    exp_dir: str | os.PathLike, checkpoint: str | os.PathLike | None, route: str, **details: Any
) -> tuple[nn.Module, MaskPack]:
    """As `pack_from_experiment`; the backbone with the weights that it had before training comes first."""
    backbone, pack = _load(Path(exp_dir), checkpoint, route, details)
    if pack.delta:  # the experiment's has other weights now
        from s3router.upstreams.hub import build

        config = _config(Path(exp_dir))
        backbone = build(ckpt=config["upstream_ckpt"], upstream=config["upstream"]).backbone
    return backbone, pack


def _load(
    exp_dir: Path, checkpoint: str | os.PathLike | None, route: str, details: dict[str, Any]
) -> tuple[nn.Module, MaskPack]:
    """The trained backbone and the pack."""
    from s3router.asr.load import load_asr_model
    from s3router.masks import masks_of
    from s3router.packs import MaskPack
    from s3router.upstreams.digest import bare_backbone

    config = _config(exp_dir)
    if config.get("method") not in ("router", "frozen"):
        raise ConfigError(
            f"{exp_dir}: method {config.get('method')} trains the weights themselves; a pack holds masks on frozen "
            "weights (--method router)"
        )
    model, tokens = load_asr_model(exp_dir, checkpoint)
    backbone = bare_backbone(model)
    delta, featurizer, head = _trained(model, backbone, exp_dir)
    pack = MaskPack(
        route=route,
        masks=masks_of(backbone),
        delta=delta,
        featurizer=featurizer,
        head=head,
        tokens=tuple(tokens),
        meta=_meta(exp_dir, config, checkpoint, **details),
        bpe_model=Path(config["bpemodel"]).read_bytes() if config.get("bpemodel") else None,
    )
    return backbone, pack


def metrics_of(exp_dir: Path, checkpoint: str | os.PathLike | None = None) -> dict[str, dict[str, float]]:
    """Set -> {"wer", "cer", "n_utts" ...} of all that this checkpoint was decoded on (``decode_SET/result.json``)."""
    wanted = "" if checkpoint is None else Path(checkpoint).name
    metrics = {}
    for path in sorted(exp_dir.glob("decode_*/result.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            if Path(result["checkpoint"]).name == wanted:
                name = path.parent.name.removeprefix("decode_")
                metrics[name] = {key: result[key] for key in ("wer", "cer", "per", "n_utts") if key in result}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged ({error}); decode again, or remove it") from None
    return metrics


def _config(exp_dir: Path) -> dict[str, Any]:
    import yaml

    path = exp_dir / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(f"{path}: no such file; {exp_dir} is not an experiment that training wrote") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); run the training command again") from None
    if not isinstance(values, dict) or "upstream_fingerprint" not in values:
        raise CheckpointError(f"{path}: not a configuration of s3router.asr.train; run the training command again")
    return values


def _trained(
    model: RoutedCTCModel, backbone: nn.Module, exp_dir: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """What trained, besides masks: (further parameters of the backbone, featurizer, head), as new tensors."""
    from s3router.packs.fingerprint import plain_name

    prefix = next(f"{name}." for name, module in model.named_modules() if module is backbone)
    delta, featurizer, head, other = {}, {}, {}, []
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().clone()
        if name.startswith(prefix):
            if (plain := plain_name(name.removeprefix(prefix))) is not None:
                delta[plain] = tensor
        elif name.startswith(_FEATURIZER):
            featurizer[name.removeprefix(_FEATURIZER)] = tensor
        elif name in _HEAD:
            head[_HEAD[name]] = tensor
        else:
            other.append(name)
    if other:
        raise CheckpointError(
            f"{exp_dir}: it trained {', '.join(other[:5])}, for which a pack has no place; packs hold masks, further "
            "weights of the upstream, the featurizer and the CTC output layer"
        )
    return delta, featurizer, head


def _meta(
    exp_dir: Path,
    config: dict[str, Any],
    checkpoint: str | os.PathLike | None,
    corpus: str = "",
    licence: str = "",
    metrics: dict[str, dict[str, float]] | None = None,
) -> Any:
    from s3router.masks import MaskConfig
    from s3router.packs import PackMeta

    mask = config["frontend_conf"]["frontend_conf"].get("extra_conf", {}).get("mask")
    found = metrics_of(exp_dir, checkpoint)
    for name, values in (metrics or {}).items():
        found[name] = {**found.get(name, {}), **values}
    source = config.get("upstream_ckpt")
    return PackMeta(
        backbone=config["upstream"],
        fingerprint=config["upstream_fingerprint"],
        # a repository's name as it is; of a path, which means nothing elsewhere, the last part
        checkpoint=None if source is None else Path(source).name if Path(source).exists() else source,
        mask={} if mask is None else _plain(MaskConfig.from_dict(mask).to_dict()),
        preprocessing={
            "sample_rate": 16000,
            "features": config["features"],
            "normalize_features": bool(config["normalize_features"]),
            "token_type": config["token_type"],
        },
        corpus=corpus or "/".join(Path(config["train_dir"]).parts[-2:]),
        metrics=found,
        training={key: _plain(config[key]) for key in _TRAINING if config.get(key) is not None},
        versions=_versions(),
        licence=licence,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


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


def _plain(value: Any) -> Any:
    """As JSON has it: keys are text."""
    return json.loads(json.dumps(value))
