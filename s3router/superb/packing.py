"""From a trained task to a mask pack: ``s3router superb-pack EXP -o ks.pack --route ks``.

The benchmark's head is two linear layers with a mean over time between them; a pack holds the one that they make
together (classes, features), which gives the same logits up to rounding.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.errors import ConfigError, S3RouterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s3router.packs import MaskPack

_TRAINING = ("task", "mode", "lr", "upstream_lr", "max_updates", "batch_size", "accum_grad", "seed")


def one_linear(head: nn.Module) -> dict[str, Tensor]:
    """``weight`` (classes, features) and ``bias`` of s3prl's MeanPoolingLinear; ConfigError for other heads."""
    layers = list(getattr(head, "hidden_layers", []))
    if type(head).__name__ != "MeanPoolingLinear" or len(layers) != 1:
        raise ConfigError(f"a head of kind {type(head).__name__} has no place in a pack; packs hold one linear layer")
    inner, outer = layers[0], head.final_proj
    weight = outer.weight.detach() @ inner.weight.detach()
    bias = outer.weight.detach() @ inner.bias.detach() + outer.bias.detach()
    return {"weight": weight.cpu(), "bias": bias.cpu()}


def pack_from_task(exp_dir: str | os.PathLike, route: str, corpus: str = "", licence: str = "") -> MaskPack:
    """The pack of what ``superb-train`` has learnt (its best checkpoint); ``meta.labels`` are the classes.

    Args:
        exp_dir: its output folder, of mode ``router`` or ``frozen`` (then without masks).
        route: the task's name.
        corpus, licence: for the pack's metadata.

    Raises:
        CheckpointError: no such experiment, or a damaged one.
        ConfigError: the experiment trained weights, or its task is no utterance classification.
    """
    from s3router.masks import MaskConfig, masks_of
    from s3router.packs import MaskPack, PackMeta
    from s3router.submission.tracks import track
    from s3router.superb import options
    from s3router.superb.model import build_task
    from s3router.superb.run import BEST, read_config
    from s3router.superb.tasks import Settings, task
    from s3router.training.checkpoints import read_states
    from s3router.training.parameters import load_trained

    exp_dir = Path(exp_dir)
    config = read_config(exp_dir)
    given = argparse.Namespace(**{"pool_ahead": "never", **config["options"], "feature_cache": None})
    if given.mode == "weight":
        raise ConfigError(f"{exp_dir}: mode weight trains the weights themselves; a pack holds masks on frozen weights")
    spec = task(given.task)
    if spec.kind != "classification":
        raise ConfigError(
            f"{exp_dir}: task {spec.name}: packs hold heads of utterance classification, one linear layer"
        )
    states = read_states(exp_dir / BEST)
    conf = options.extra_conf(given)
    built = build_task(spec, Settings(**config["settings"]), config["classes"], given.mode, conf, given.upstream_ckpt)
    load_trained(built.model, states["model"], str(exp_dir / BEST))
    names = [f"{slot} {name}" for slot, values in zip(spec.slots, config["classes"], strict=True) for name in values]
    source = given.upstream_ckpt
    meta = PackMeta(
        backbone=given.upstream,
        fingerprint=config["fingerprint"],
        checkpoint=None if source is None else Path(source).name if Path(source).exists() else source,
        mask=json.loads(json.dumps(MaskConfig.from_dict(conf["mask"]).to_dict())) if "mask" in conf else {},
        preprocessing={
            "sample_rate": 16000,
            "features": "weighted",
            "normalize_features": False,
            "gain_db": config["settings"]["gain_db"],
        },
        labels=tuple(config["classes"][0] if len(spec.slots) == 1 else names),
        corpus=corpus or "/".join(Path(given.train_dir).parts[-2:]),
        metrics={"dev": {key: states["best"][key] for key in ("accuracy", "balanced_accuracy")}},
        training={key: vars(given)[key] for key in _TRAINING if vars(given)[key] is not None}
        | {"track": track(given.mode, config["options"], config["settings"])},
        licence=licence,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    featurizer = {name: tensor.cpu() for name, tensor in built.model.featurizer.state_dict().items()}
    masks = masks_of(built.model.routed.backbone)
    return MaskPack(route, masks, {}, featurizer, one_linear(built.model.downstream), None, meta)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="s3router superb-pack", description=__doc__.split("\n")[0])
    parser.add_argument("exp_dir", type=Path, help="output folder of superb-train")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the pack, for example ks.pack")
    parser.add_argument("--route", required=True, help="the task's name")
    parser.add_argument("--corpus", default="", help="what it was trained on")
    parser.add_argument("--licence", default="", help="of the pack")
    args = parser.parse_args(argv)
    try:
        from s3router.packs import write_pack

        size = write_pack(args.output, pack_from_task(args.exp_dir, args.route, args.corpus, args.licence))
    except S3RouterError as error:
        print(f"superb-pack: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: route {args.route}, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
