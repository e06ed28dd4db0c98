"""Our options of the training command, their defaults, and what they mean in ESPnet's own options."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from s3router.asr.policy import METHODS
from s3router.errors import ConfigError

FEATURES = ("weighted", "last")

ESPNET_DEFAULTS = {
    "frontend": "s3prl",
    "model": "routed",
    "normalize": None,
    "encoder": None,
    "decoder": None,
    "token_type": "char",
    "optim": "adam",
    "scheduler": "tristagelr",
    "batch_type": "numel",
    "num_workers": 0,
    "accum_grad": 1,
    "grad_clip": 5.0,
    "keep_nbest_models": [1],
    "best_model_criterion": [["valid", "cer_ctc", "min"]],
    "early_stopping_criterion": ["valid", "cer_ctc", "min"],
    "resume": True,
    "use_matplotlib": False,
    "num_att_plot": 0,
    "multiprocessing_distributed": True,
    "unused_parameters": True,
}
"""Where our defaults differ from ESPnet's."""

ADAM = {"betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.0, "fused": True}
TRISTAGE = {"warmup_ratio": 0.1, "hold_ratio": 0.4, "decay_ratio": 0.5, "init_lr_scale": 0.01, "final_lr_scale": 0.05}


def add_arguments(parser: argparse.ArgumentParser, nested_dict: type[argparse.Action]) -> None:
    """Add our options; ``nested_dict`` is ESPnet's action for ``--x_conf key=value``."""
    group = parser.add_argument_group("S3-Router")
    group.add_argument("--method", choices=list(METHODS), default="router", help="what trains")
    group.add_argument("--upstream", default="tiny", help="an s3prl upstream's name, or tiny")
    group.add_argument("--upstream_ckpt", default=None, help="checkpoint of the upstream: path or URL")
    group.add_argument("--sparsity", type=float, default=None, help="share of weights removed (method router)")
    group.add_argument("--mask_conf", action=nested_dict, default={}, help="other fields of MaskConfig, key=value")
    group.add_argument("--feature_masking", action=nested_dict, default={}, help="time and channel masking, key=value")
    group.add_argument("--feature_cache", default=None, help="folder that keeps the feature extractor's output")
    group.add_argument("--features", choices=FEATURES, default="weighted", help="sum over layers, or the last alone")
    group.add_argument("--normalize_features", type=_bool, default=False, help="layer norm on every layer's output")
    group.add_argument("--train_dir", default=None, help="Kaldi data directory")
    group.add_argument("--valid_dir", default=None, help="Kaldi data directory; selects the best model")
    group.add_argument("--batch_seconds", type=float, default=32.0, help="audio in a batch, padding included")
    group.add_argument("--max_updates", type=int, default=1500, help="optimizer steps")
    group.add_argument("--valid_interval", type=int, default=100, help="optimizer steps between validations")
    group.add_argument("--progress_interval", type=int, default=25, help="optimizer steps between progress lines")
    group.add_argument("--score_lr", type=float, default=5e-3, help="peak learning rate of mask scores")
    group.add_argument("--weight_lr", type=float, default=5e-4, help="peak learning rate of upstream weights")
    group.add_argument("--head_lr", type=float, default=2e-3, help="peak learning rate of the head")
    group.add_argument("--head_dropout", type=float, default=0.1, help="dropout before the output layer")
    group.add_argument("--amp_dtype", choices=["bfloat16", "float32"], default="bfloat16", help="arithmetic")


def _bool(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")


def mask_conf(args: argparse.Namespace) -> dict | None:
    """The mask's configuration as a plain dict; None where the method has no masks."""
    if args.method != "router":
        return None
    return {"seed": args.seed, **args.mask_conf, **({} if args.sparsity is None else {"sparsity": args.sparsity})}


def extra_conf(args: argparse.Namespace) -> dict:
    """What the s3prl upstream ``s3router`` is told (see `s3router.upstreams.hub`)."""
    wanted = {
        "upstream": args.upstream,
        "mask": mask_conf(args),
        "specaug": args.feature_masking or None,
        "feature_cache": args.feature_cache,
        "random_init": args.method == "scratch" or None,
        "seed": args.seed,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work, before any file is written.

    Raises:
        ConfigError: all problems at once.
    """
    problems = []
    if args.method not in METHODS:
        problems.append(f"--method: unknown method {args.method!r}; known: {', '.join(METHODS)}")
    for name in ("output_dir", "token_list", "train_dir", "valid_dir"):
        if getattr(args, name) is None:
            problems.append(f"--{name} is missing")
    if args.method != "router" and (args.sparsity is not None or args.mask_conf):
        problems.append(f"--sparsity and --mask_conf need --method router, not {args.method}")
    if args.method == "router":
        from s3router.masks import MaskConfig

        try:
            MaskConfig.from_dict(mask_conf(args))
        except ConfigError as error:
            problems.append(str(error))
    for name in ("max_updates", "valid_interval", "progress_interval", "batch_seconds", "accum_grad"):
        if getattr(args, name) <= 0:
            problems.append(f"--{name} must be above 0, found {getattr(args, name)}")
    for name in ("score_lr", "weight_lr", "head_lr"):
        if not 0 <= getattr(args, name) < math.inf:
            problems.append(f"--{name} must be 0 or more, found {getattr(args, name)}")
    if not 0 <= args.head_dropout < 1:
        problems.append(f"--head_dropout must be in [0, 1), found {args.head_dropout}")
    if args.use_amp:
        problems.append("--use_amp is float16 with loss scaling; use --amp_dtype bfloat16")
    if problems:
        raise ConfigError("; ".join(problems))


def translate(args: argparse.Namespace) -> None:
    """Fill ESPnet's own options from ours, in place. Call it after `check`."""
    args.valid_interval = min(args.valid_interval, args.max_updates)
    args.num_iters_per_epoch = args.valid_interval * args.accum_grad
    args.max_epoch = -(-args.max_updates // args.valid_interval)
    args.batch_bins = round(args.batch_seconds * 16000)
    args.frontend_conf = {
        "frontend_conf": {
            "upstream": "s3router",
            "path_or_url": args.upstream_ckpt,
            "normalize": args.normalize_features,
            "extra_conf": extra_conf(args),
        },
        "multilayer_feature": args.features == "weighted",
    }
    args.model_conf = {
        **args.model_conf,
        "amp_dtype": args.amp_dtype,
        "head_dropout": args.head_dropout,
        "token_type": args.token_type,
        "bpemodel": args.bpemodel,
    }
    if args.optim == "adam":
        args.optim_conf = {**ADAM, **args.optim_conf}
    if args.scheduler == "tristagelr":
        args.scheduler_conf = {**TRISTAGE, **args.scheduler_conf, "max_steps": args.max_updates}
    if args.log_interval is None:
        args.log_interval = args.num_iters_per_epoch
    args.output_dir = str(Path(args.output_dir))
