"""Options of the training command, and what they say about the upstream."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.superb.tasks import TASKS, Settings, TaskSpec
from s3router.training.arithmetic import ARITHMETIC

MODE_NAMES = ("frozen", "weight", "router")
DEFAULT_LRS = {"scores": 1e-3, "weights": 1e-5}
"""Learning rates of the upstream by what trains in it; the benchmark itself, whose upstream is frozen, has none."""
DECISIVE = (
    *("task", "mode", "upstream", "upstream_ckpt", "sparsity", "mask_conf", "feature_masking", "upstream_dropout"),
    *("train_dir", "valid_dir", "classes", "seed", "lr", "upstream_lr", "batch_size", "accum_grad", "max_updates"),
    *("valid_interval", "max_seconds", "grad_clip", "head_conf"),
)
"""Options that make a run what it is: they must not change when it goes on."""


def parser() -> argparse.ArgumentParser:
    """The command's options. Those without a default follow the task's settings (`s3router.superb.tasks`)."""
    made = argparse.ArgumentParser(prog="s3router superb-train", description="Train one task; resumes by itself.")
    add = made.add_argument
    add("--task", required=True, choices=sorted(TASKS), help="of SUPERB, or cls: any utterance classification")
    add("--train-dir", type=Path, required=True, help="Kaldi directory with utt2label (pr, asr, sf: text; sd: rttm)")
    add("--valid-dir", type=Path, required=True, help="the same (sv: with trials); selects the best checkpoint")
    add("--output-dir", type=Path, required=True, help="checkpoints, log and settings")
    add("--classes", type=Path, help="list of classes (default: those of the training labels)")
    add("--mode", choices=MODE_NAMES, default="frozen", help="what trains besides the head")
    add("--upstream", default="tiny", help="tiny, a name of s3router upstream list, or one of s3prl")
    add("--upstream-ckpt", help="its checkpoint: path or URL")
    add("--upstream-dropout", type=float, help="of the transformer (as its checkpoint says)")
    add("--sparsity", type=float, help="share of weights removed (mode router; default: 0.1)")
    add("--mask-conf", type=json.loads, default={}, metavar="JSON", help="other fields of MaskConfig")
    add("--feature-masking", type=json.loads, metavar="JSON", help="fields of SpecAugConfig (default: no masking)")
    add("--feature-cache", help="folder that keeps the frozen feature extractor's output")
    add("--pool-ahead", choices=("auto", "never"), default="auto", help="frozen upstream: compute means over time once")
    add("--lr", type=float, help="learning rate of head and featurizer")
    add("--upstream-lr", type=float, help="of scores (default 1e-3) or weights (default 1e-5)")
    add("--batch-size", type=int, help="utterances (default, as of all below without one: the benchmark's)")
    add("--accum-grad", type=int, help="batches in an update")
    add("--max-updates", type=int, help="optimizer steps")
    add("--valid-interval", type=int, help="updates between validations")
    add("--save-interval", type=int, default=500, help="updates between checkpoints, besides those at validations")
    add("--progress-interval", type=int, default=25, help="updates between progress lines")
    add("--max-seconds", type=float, help="crop longer training utterances; 0: never")
    add("--grad-clip", type=float, help="largest norm of the gradients")
    add("--head-conf", type=json.loads, metavar="JSON", help="in place of the benchmark's arguments of the head")
    add("--amp-dtype", choices=ARITHMETIC, default="auto", help="auto: bfloat16 where hardware has it")
    add("--num-workers", type=int, default=0, help="processes that read audio")
    add("--device", default="cpu", help="cpu or cuda; torchrun starts several processes")
    add("--seed", type=int, default=0, help="of initialisation, batches and dropout")
    return made


def complete(args: argparse.Namespace, spec: TaskSpec) -> Settings:
    """Fill what was not given from the task's settings, in place, and check it all.

    Raises:
        ConfigError: all problems at once.
    """
    settings = spec.settings()
    for name in ("batch_size", "accum_grad", "max_updates", "valid_interval", "grad_clip", "max_seconds"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(settings, name))
    args.lr = settings.head_lr if args.lr is None else args.lr
    if args.max_seconds == 0:
        args.max_seconds = None
    if args.mode == "router":
        args.sparsity = 0.1 if args.sparsity is None else args.sparsity
    if args.upstream_lr is None and args.mode != "frozen":
        args.upstream_lr = DEFAULT_LRS["scores" if args.mode == "router" else "weights"]
    problems = _problems(args)
    if problems:
        raise ConfigError("; ".join(problems))
    args.valid_interval = min(args.valid_interval, args.max_updates)
    return settings if args.head_conf is None else replace(settings, head=merged(settings.head, args.head_conf))


def merged(head: dict[str, Any], changes: Any, where: str = "--head-conf") -> dict[str, Any]:
    """Arguments of a head with some in place of others, nested ones included.

    Raises:
        ConfigError: an argument that the head does not have.
    """
    if not isinstance(changes, dict):
        raise ConfigError(f"{where}: {changes!r} is not an object of arguments; known: {', '.join(head)}")
    if unknown := sorted(changes.keys() - head.keys()):
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(head)}")
    return {
        name: merged(value, changes[name], f"{where}: {name}")
        if name in changes and isinstance(value, dict)
        else changes.get(name, value)
        for name, value in head.items()
    }


def _problems(args: argparse.Namespace) -> list[str]:
    found = []
    for name in ("batch_size", "accum_grad", "max_updates", "valid_interval", "save_interval", "progress_interval"):
        if getattr(args, name) < 1:
            found.append(f"--{name.replace('_', '-')} must be a whole number above 0, found {getattr(args, name)}")
    for name in ("lr", "upstream_lr", "grad_clip", "max_seconds"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            found.append(f"--{name.replace('_', '-')} must be a number above 0, found {value}")
    if args.num_workers < 0:
        found.append(f"--num-workers must be 0 or more, found {args.num_workers}")
    if args.mode == "router":
        from s3router.masks import MaskConfig

        try:
            MaskConfig.from_dict(mask_conf(args))
        except ConfigError as error:
            found.append(str(error))
    elif args.sparsity is not None or args.mask_conf:
        found.append(f"--sparsity and --mask-conf are for --mode router, not {args.mode}; leave them out")
    if args.mode == "frozen" and args.upstream_lr is not None:
        found.append("--upstream-lr: with --mode frozen the upstream does not train; leave it out")
    if args.mode == "frozen" and (args.feature_masking or args.upstream_dropout):
        found.append("--feature-masking and --upstream-dropout have no effect on a frozen upstream; leave them out")
    if TASKS[args.task].kind == "sequences":
        if args.max_seconds:
            found.append("--max-seconds: a cropped utterance would not hold all of its text; leave it out")
        if args.classes is not None:
            found.append(f"--classes: the units of {args.task} come from the texts; leave it out")
        if args.batch_size < 2:
            found.append("--batch-size must be 2 or more: batches of long utterances are half as large")
    if args.feature_cache and args.max_seconds:
        found.append("--feature-cache: crops differ each time, so their features cannot be kept; add --max-seconds 0")
    return found


def mask_conf(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of MaskConfig for mode router."""
    return {"seed": args.seed, "sparsity": args.sparsity, **args.mask_conf}


def extra_conf(args: argparse.Namespace) -> dict[str, Any]:
    """What the s3prl upstream ``s3router`` is told (see `s3router.upstreams.hub`)."""
    wanted = {
        "upstream": args.upstream,
        "mask": mask_conf(args) if args.mode == "router" else None,
        "specaug": args.feature_masking,
        "feature_cache": None if pools_ahead(args) else args.feature_cache,
        "dropout": args.upstream_dropout,
        "seed": args.seed,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def pools_ahead(args: argparse.Namespace) -> bool:
    """Whether training will go over the utterances once only (`s3router.superb.pooled`)."""
    linear = TASKS[args.task].kind == "classification"
    return linear and args.mode == "frozen" and args.pool_ahead == "auto" and args.max_seconds is None


def recorded(args: argparse.Namespace) -> dict[str, Any]:
    """The options as plain values."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}


def check_same_run(now: dict[str, Any], before: dict[str, Any], where: Path) -> None:
    """Refuse to go on with a run under other options. Raises ConfigError with every one that differs."""
    differ = [
        f"--{name.replace('_', '-')} was {before.get(name)}, is {now.get(name)}"
        for name in DECISIVE
        if before.get(name) != now.get(name)
    ]
    if differ:
        raise ConfigError(
            f"{where} holds a run with other options ({'; '.join(differ)}); take another --output-dir, or delete it"
        )
