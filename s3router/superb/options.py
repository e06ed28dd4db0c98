"""Options of ``superb-train``: command line, configuration file, defaults, and their meaning for the upstream."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.submission.tracks import method_of
from s3router.superb.kind import Settings
from s3router.superb.tasks import TASKS, task
from s3router.training import command_line
from s3router.training.arithmetic import ARITHMETIC
from s3router.training.resume import plain
from s3router.tuners.methods import METHODS, check_masks, complete_conf, mask_fields, methods_for

FROM_SETTINGS = ("batch_size", "accum_grad", "max_updates", "valid_interval", "grad_clip", "max_seconds")


def parser() -> argparse.ArgumentParser:
    """The command's options. Those without a default follow the task's settings (`Kind.settings`)."""
    made = command_line.Parser(prog="s3router superb-train", description="Train one task; called again, it resumes.")
    add = made.add_argument
    add("--config", type=Path, metavar="YAML", help="options in a file, 'name: value'; those given here go before it")
    add("--task", required=True, choices=sorted(TASKS), help="one of SUPERB's, or cls: any utterance classification")
    add("--train-dir", type=Path, required=True, help="Kaldi directory with utt2label (pr, asr, sf: text; sd: rttm)")
    add("--valid-dir", type=Path, required=True, help="the same (sv: with trials); selects the best checkpoint")
    add("--test-dirs", type=Path, nargs="+", default=[], help="sets to predict later: checked before training begins")
    add("--output-dir", type=Path, required=True, help="checkpoints, log and settings")
    add("--classes", type=Path, help="list of classes (default: those of the training labels)")
    words = "; ".join(f"{name}: {what}" for name, what in methods_for().items())
    what = f"what trains besides the head ({words})"
    add("--method", "--mode", dest="method", choices=list(METHODS), default="frozen", help=what)
    add("--upstream", default="tiny", help="tiny, a name of s3router upstream list, or one of s3prl")
    add("--upstream-ckpt", help="its checkpoint: path or URL")
    add("--upstream-dropout", type=float, help="of the transformer (default: as its checkpoint says)")
    add("--sparsity", type=float, help="share of weights removed (methods with masks; default: MaskConfig's)")
    fields = {"action": command_line.Fields, "metavar": "FIELD=VALUE|JSON"}
    add("--mask-conf", **fields, default={}, help="fields of MaskConfig, such as granularity=2:4; several times: all")
    add("--method-conf", **fields, default={}, help="fields of the method, such as r=16 of lora")
    add("--feature-masking", **fields, help="fields of SpecAugConfig (default: no masking)")
    add("--feature-cache", help="folder that keeps the frozen feature extractor's output")
    add("--pool-ahead", choices=("auto", "never"), default="auto", help="frozen upstream: compute means over time once")
    add("--lr", type=float, help="learning rate of head and featurizer")
    lrs = ", ".join(f"{name} {m.default_rate:g}" for name, m in METHODS.items() if m.default_rate)
    add("--upstream-lr", type=float, help=f"learning rate of what trains in the upstream (default: {lrs})")
    add("--batch-size", type=int, help="utterances (default, as for all below without one: the benchmark's)")
    add("--accum-grad", type=int, help="batches per update")
    add("--max-updates", type=int, help="optimizer steps")
    add("--valid-interval", type=int, help="updates between validations")
    add("--save-interval", type=int, default=500, help="updates between checkpoints, besides those at validations")
    add("--progress-interval", type=int, default=25, help="updates between progress lines")
    add("--max-seconds", type=float, help="crop longer training utterances; 0: never")
    add("--grad-clip", type=float, help="largest norm of the gradients")
    add("--head-conf", type=json.loads, metavar="JSON", help="arguments that replace the benchmark's for the head")
    add("--amp-dtype", choices=ARITHMETIC, default="auto", help="auto: the faster one here; a resumed run keeps it")
    add("--num-workers", type=int, default=0, help="processes that read audio")
    add("--device", default="cpu", help="cpu or cuda; torchrun starts several processes")
    add("--seed", type=int, default=0, help="seed of initialisation, batches and dropout")
    return made


def read_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line and of its ``--config`` file (`s3router.training.command_line.read_options`)."""
    options = command_line.read_options(parser(), argv)
    command_line.settle_sparsity(options, argv)
    return options


def complete(options: argparse.Namespace) -> Settings:
    """Fill in what was not given from the task's settings, in place, and check everything.

    Returns:
        The settings of the task, with the head's arguments that were given.

    Raises:
        ConfigError: all problems at once.
    """
    kind = task(options.task)
    settings = kind.settings()
    for name in FROM_SETTINGS:
        if getattr(options, name) is None:
            setattr(options, name, getattr(settings, name))
    options.lr = settings.head_lr if options.lr is None else options.lr
    if options.max_seconds == 0:
        options.max_seconds = None
    if options.upstream_lr is None:
        options.upstream_lr = METHODS[options.method].default_rate
    problems = _problems(options) + kind.option_problems(options)
    if problems:
        raise ConfigError("; ".join(problems))
    options.valid_interval = min(options.valid_interval, options.max_updates)
    if METHODS[options.method].masks:
        options.sparsity = mask_of(options)["sparsity"]
    return settings if options.head_conf is None else replace(settings, head=merged(settings.head, options.head_conf))


def merged(head: Mapping[str, Any], changes: Any, where: str = "--head-conf") -> dict[str, Any]:
    """Arguments of a head with some of them replaced, nested ones included.

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


def _problems(options: argparse.Namespace) -> list[str]:
    found = []
    for name in ("batch_size", "accum_grad", "max_updates", "valid_interval", "save_interval", "progress_interval"):
        if (value := getattr(options, name)) < 1:
            found.append(f"--{name.replace('_', '-')} must be a whole number above 0, found {value}")
    for name in ("lr", "upstream_lr", "grad_clip", "max_seconds"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            found.append(f"--{name.replace('_', '-')} must be a number above 0, found {value}")
    if options.num_workers < 0:
        found.append(f"--num-workers must be 0 or more, found {options.num_workers}")
    method = options.method
    masks = METHODS[method].masks
    for check in (lambda: complete_conf(method, options.method_conf), lambda: masks and mask_of(options)):
        try:
            check()
        except ConfigError as error:
            found += [] if str(error) in found else [str(error)]
    if not masks and (options.sparsity is not None or options.mask_conf):
        found.append(f"--sparsity and --mask-conf are for methods with masks, not {method}; leave them out")
    if METHODS[method].rate is None and options.upstream_lr is not None:
        found.append(f"--upstream-lr: with --method {method} the upstream does not train; leave it out")
    if method == "frozen" and (options.feature_masking or options.upstream_dropout):
        found.append("--feature-masking and --upstream-dropout have no effect on a frozen upstream; leave them out")
    if method == "scratch" and options.feature_cache:
        found.append("--feature-cache: with --method scratch the feature extractor trains, too; leave it out")
    if options.feature_cache and options.max_seconds:
        found.append("--feature-cache: crops differ each time, so their features cannot be kept; add --max-seconds 0")
    return found


def mask_of(options: argparse.Namespace) -> dict[str, Any]:
    """The complete mask configuration of a method with masks; ``--sparsity`` goes before that of ``--mask-conf``.

    Raises:
        ConfigError: as `s3router.masks.MaskConfig`.
    """
    from s3router.masks import MaskConfig

    if not isinstance(options.mask_conf, dict):
        raise ConfigError(f"--mask-conf: {options.mask_conf!r} is not an object of MaskConfig's fields")
    given = {} if options.sparsity is None else {"sparsity": options.sparsity}
    given = mask_fields(options.method, {"seed": options.seed, **options.mask_conf, **given})
    config = MaskConfig.from_dict(given)
    check_masks(options.method, options.method_conf, config)
    return config.to_dict()


def extra_conf(options: argparse.Namespace) -> dict[str, Any]:
    """The configuration of the s3prl upstream ``s3router`` (see `s3router.upstreams.hub`)."""
    method = options.method
    wanted = {
        "upstream": options.upstream,
        "mask": mask_of(options) if METHODS[method].masks else None,
        "adapter": {"method": method, **options.method_conf}
        if METHODS[method].attached and method != "router"
        else None,
        "specaug": options.feature_masking,
        "feature_cache": None if pools_ahead(options) else options.feature_cache,
        "random_init": True if options.method == "scratch" else None,
        "dropout": options.upstream_dropout,
        "seed": options.seed,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def weight_rate(options: argparse.Namespace) -> float | None:
    """Learning rate of the upstream's weights; where scores train, too, ``--upstream-lr`` is theirs."""
    both = METHODS[options.method].prunes and METHODS[options.method].rate == "score_lr"
    return METHODS["weight"].default_rate if both else options.upstream_lr


def pools_ahead(options: argparse.Namespace) -> bool:
    """Whether training takes means over time that are computed once (`s3router.superb.pooled`)."""
    wanted = options.pool_ahead == "auto" and options.method == "frozen" and options.max_seconds is None
    return wanted and TASKS[options.task].linear_over_time


def recorded(options: argparse.Namespace) -> dict[str, Any]:
    """The options as plain values, for ``config.json``."""
    return {name: plain(value) for name, value in vars(options).items() if name != "config"}


def read_recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded options; those that an older version did not know have their defaults, and its ``mode`` is method."""
    defaults = {action.dest: action.default for action in parser()._actions if action.dest not in ("help", "config")}
    found = {**defaults, **options, "method": method_of(options)}
    found.pop("mode", None)
    return found
