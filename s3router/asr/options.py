"""Options of the training command besides ESPnet's: defaults, checks, and their translation into ESPnet's."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import ConfigError
from s3router.masks import MaskConfig
from s3router.masks.config import DEFAULT_SPARSITY, fixes_sparsity
from s3router.training.arithmetic import ARITHMETIC
from s3router.tuners.methods import METHODS, check_masks, complete_conf, mask_fields, methods_for
from s3router.upstreams.dropout import DropoutConfig

FEATURES = ("weighted", "last")
DROPOUT_HELP = "of the transformer: a number, or hidden=0.1,attention=…,activation=…,input=…,layerdrop=… (its own)"
RATES = ("score_lr", "weight_lr", "adapter_lr", "head_lr")
_GIVEN = "given_on_the_command_line"  # until `_settle`

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

SETTLED = {
    "max_epoch": "--max_updates",
    "num_iters_per_epoch": "--valid_interval",
    "batch_bins": "--batch_seconds",
    "frontend_conf": "--upstream, --upstream_ckpt, --features and --normalize_features",
    **{f"train_{what}": "--train_dir" for what in ("data_path_and_name_and_type", "shape_file")},
    **{f"valid_{what}": "--valid_dir" for what in ("data_path_and_name_and_type", "shape_file")},
}
"""ESPnet's options that `translate` or the task fills in, and what says the same to us."""

MODEL_CONF = ("amp_dtype", "head_dropout", "token_type", "bpemodel")
"""Fields of ``model_conf`` that are options by themselves."""

ADAM = {"betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.0, "fused": True}
TRISTAGE = {"warmup_ratio": 0.1, "hold_ratio": 0.4, "decay_ratio": 0.5, "init_lr_scale": 0.01, "final_lr_scale": 0.05}
MASKING = {"time_prob": 0.65, "time_length": 10, "channel_prob": 0.25, "channel_length": 64}
"""S3-Router's settings for little data (arXiv 2211.01522), except for batch size and peak learning rates."""


def add_arguments(parser: argparse.ArgumentParser, nested_dict: type[argparse.Action]) -> None:
    """Add our options; ``nested_dict`` is ESPnet's action for ``--x_conf key=value``."""
    group = parser.add_argument_group("S3-Router")
    add = group.add_argument
    what = "; ".join(f"{name}: {what}" for name, what in methods_for().items())
    add("--method", choices=list(METHODS), default="router", help=f"what trains besides the head ({what})")
    add("--upstream", default="tiny", help="tiny, a name of s3router upstream list, auto, or one of s3prl")
    add("--upstream_ckpt", default=None, help="checkpoint of the upstream: path or URL")
    add("--upstream_dropout", type=_dropout, default=None, help=DROPOUT_HELP)
    add("--sparsity", action=_Remembered, type=float, default=None, help=f"share removed ({DEFAULT_SPARSITY})")
    remembered = type("MaskAction", (_Remembered, nested_dict), {})
    add("--mask_conf", action=remembered, default={}, help="other fields of MaskConfig, key=value")
    add("--method_conf", action=nested_dict, default={}, help="fields of the method, key=value, such as r of lora")
    add("--feature_masking", action=nested_dict, default=MASKING, help="time and channel masking, key=value")
    add("--feature_cache", default=None, help="folder that keeps the feature extractor's output")
    add(
        "--features",
        choices=FEATURES,
        default="weighted",
        help="learnt sum over all layers, or the last one",
    )
    add("--normalize_features", type=_bool, default=False, help="layer norm on every layer's output")
    add("--train_dir", default=None, help="Kaldi data directory")
    add("--valid_dir", default=None, help="Kaldi data directory; selects the best model")
    add("--batch_seconds", type=float, default=32.0, help="audio in a batch, padding included")
    add("--max_updates", type=int, default=1500, help="optimizer steps")
    add("--valid_interval", type=int, default=100, help="optimizer steps between validations")
    add("--progress_interval", type=int, default=25, help="optimizer steps between progress lines")
    add("--score_lr", type=float, default=5e-3, help="peak learning rate of mask scores")
    add("--weight_lr", type=float, default=5e-4, help="peak learning rate of upstream weights")
    add("--adapter_lr", type=float, default=1e-3, help="peak learning rate of additions, and of biases and norms")
    add("--head_lr", type=float, default=2e-3, help="peak learning rate of the head")
    add("--head_first", type=float, default=0.0, help="share of the updates, at the start, for the head alone")
    add("--head_dropout", type=float, default=0.1, help="dropout before the output layer")
    add("--amp_dtype", choices=ARITHMETIC, default="auto", help="arithmetic; auto: what is measured to be faster")


class _Remembered(argparse.Action):
    """Notes what came from the command line, which goes before a configuration file; see `_settle`."""

    def __call__(self, parser, namespace, values, option_string=None):
        given = vars(namespace).setdefault(_GIVEN, set())
        if isinstance(values, str):
            given |= {f"{self.dest}.{key}" for key in _keys(values)}
            super().__call__(parser, namespace, values, option_string)
        else:
            given.add(self.dest)
            setattr(namespace, self.dest, values)


def _keys(text: str) -> list[str]:
    """Keys of a ``key=value``, or of a mapping in YAML."""
    if "=" in text:
        return [text.split("=", 1)[0]]
    return re.findall(r"(\w+)['\"]?\s*:", text)


def _dropout(text: str) -> float | dict[str, float]:
    """``0.1``, or ``hidden=0.1,layerdrop=0.05``."""
    try:
        if "=" not in text:
            return float(text)
        return {key.strip(): float(value) for key, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, or hidden=0.1,layerdrop=0.05; found {text!r}") from None


def _bool(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")


def _settle(args: argparse.Namespace) -> None:
    """Let the command line go before the configuration file where two options mean the same, in place.

    The sparsity has two names, and the granularity N:M fixes it. Called once, after parsing.
    """
    given = vars(args).pop(_GIVEN, set())
    for name in RATES:
        vars(args).update(_numbers({name: getattr(args, name)}))
    if not isinstance(args.mask_conf, dict) or "sparsity" in given:
        return
    n_m = "mask_conf.granularity" in given and fixes_sparsity(args.mask_conf["granularity"])
    if n_m or "mask_conf.sparsity" in given:
        args.sparsity = None
    if n_m and "mask_conf.sparsity" not in given:
        args.mask_conf = {key: value for key, value in args.mask_conf.items() if key != "sparsity"}


def mask_conf(args: argparse.Namespace) -> dict | None:
    """The mask's configuration as a plain dict; None where the method has no masks."""
    if not METHODS[args.method].masks:
        return None
    given = {} if args.sparsity is None else {"sparsity": args.sparsity}
    return mask_fields(args.method, {"seed": args.seed, **args.mask_conf, **given})


def adapter(args: argparse.Namespace) -> dict | None:
    """The method and its configuration, where the upstream is to be told (`s3router.upstreams.hub.build`)."""
    if args.method == "router" or not METHODS[args.method].attached:
        return None
    return {"method": args.method, **args.method_conf}


def extra_conf(args: argparse.Namespace) -> dict:
    """What the s3prl upstream ``s3router`` is told (see `s3router.upstreams.hub`)."""
    wanted = {
        "upstream": args.upstream,
        "mask": mask_conf(args),
        "adapter": adapter(args),
        "specaug": args.feature_masking,
        "feature_cache": args.feature_cache,
        "random_init": args.method == "scratch" or None,
        "dropout": args.upstream_dropout,
        "seed": args.seed,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def check(args: argparse.Namespace, defaults: Mapping[str, object] | None = None) -> None:
    """Refuse what cannot work, before any file is written. The parser does not check values of a YAML file.

    Args:
        defaults: ESPnet's, of the options in `SETTLED`; what differs from them would be overwritten in silence.

    Raises:
        ConfigError: all problems at once.
    """
    _settle(args)
    problems: list[str] = []

    def one_of(name: str, known) -> None:
        if getattr(args, name) not in known:
            problems.append(f"--{name}: unknown value {getattr(args, name)!r}; known: {', '.join(known)}")

    def number(name: str, fits: Callable[[float], bool], range_: str, kind=(int, float)) -> None:
        value = getattr(args, name)
        if not (isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and fits(value)):
            problems.append(f"--{name} must be {range_}, found {value!r}")

    one_of("method", METHODS)
    one_of("features", FEATURES)
    one_of("amp_dtype", ARITHMETIC)
    for name in ("output_dir", "token_list", "train_dir", "valid_dir"):
        if getattr(args, name) is None:
            problems.append(f"--{name} is missing")
    for name in ("max_updates", "valid_interval", "progress_interval", "accum_grad"):
        number(name, lambda v: v > 0, "a whole number above 0", int)
    number("seed", lambda v: 0 <= v < 2**31, "a whole number from 0 up to 2^31", int)  # ESPnet adds the epoch's number
    number("batch_seconds", lambda v: v > 0, "a number above 0")
    for name in RATES:
        number(name, lambda v: v >= 0, "a number of 0 or more")
    number("head_first", lambda v: 0 <= v < 1, "a share from 0 up to 1")
    number("head_dropout", lambda v: 0 <= v < 1, "a number from 0 up to 1")
    problems += _problems_of(lambda: args.upstream_dropout is None or DropoutConfig.of(args.upstream_dropout))
    if args.method in METHODS:
        problems += _problems_of(lambda: complete_conf(args.method, args.method_conf))
    if args.method in METHODS and METHODS[args.method].masks:
        problems += _problems_of(
            lambda: check_masks(args.method, args.method_conf, MaskConfig.from_dict(mask_conf(args)))
        )
    elif args.sparsity is not None or args.mask_conf:
        problems.append(f"--sparsity and --mask_conf are for methods with masks, not {args.method}; leave them out")
    if args.method == "scratch" and args.head_first:
        problems.append("--head_first: there is nothing in a random upstream for a head to start from; leave it out")
    if args.method == "scratch" and args.feature_cache is not None:
        problems.append("--feature_cache: method scratch trains the feature extractor; leave it out")
    if args.init_param and args.ignore_init_mismatch:
        problems.append(
            "--ignore_init_mismatch: weights under masks have names of their own, so that those of --init_param would "
            "be left out in silence; give a whole upstream with --upstream_ckpt instead"
        )
    problems += [
        f"--{name}: s3router train sets it; give {SETTLED[name]} instead"
        for name, default in (defaults or {}).items()
        if getattr(args, name) != default
    ]
    problems += [
        f"--model_conf {name}: s3router train sets it; give --{name} instead"
        for name in MODEL_CONF
        if name in args.model_conf and args.model_conf[name] != getattr(args, name)
    ]
    if args.use_amp:
        problems.append("--use_amp is float16 with loss scaling; use --amp_dtype bfloat16")
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))  # masks and methods may say the same


def _problems_of(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except ConfigError as error:
        return [str(error)]
    return []


def translate(args: argparse.Namespace, amp_dtype: str | None = None) -> None:
    """Fill ESPnet's own options from ours, in place. Call it after `check`.

    Args:
        amp_dtype: what ``auto`` stands for in the run that goes on; None: a new one, which measures it.
    """
    args.valid_interval = min(args.valid_interval, args.max_updates)
    args.num_iters_per_epoch = args.valid_interval * args.accum_grad
    args.max_epoch = -(-args.max_updates // args.valid_interval)
    args.head_updates = int(args.head_first * args.max_updates) if METHODS[args.method].rate else 0
    args.batch_bins = round(args.batch_seconds * SAMPLE_RATE)
    if args.amp_dtype == "auto" and amp_dtype:
        args.amp_dtype = amp_dtype
    args.frontend_conf = {
        "frontend_conf": {
            "upstream": "s3router",
            "path_or_url": args.upstream_ckpt,
            "normalize": args.normalize_features,
            "extra_conf": extra_conf(args),
        },
        "multilayer_feature": args.features == "weighted",
    }
    args.model_conf = {**args.model_conf, **{name: getattr(args, name) for name in MODEL_CONF}}
    args.optim_conf, args.scheduler_conf = _numbers(args.optim_conf), _numbers(args.scheduler_conf)
    if args.optim == "adam":
        args.optim_conf = {**ADAM, **args.optim_conf}
    if args.scheduler == "tristagelr":
        args.scheduler_conf = {**TRISTAGE, **args.scheduler_conf, "max_steps": args.max_updates}
    if args.log_interval is None:
        args.log_interval = args.num_iters_per_epoch
    args.output_dir = str(Path(args.output_dir))


def _numbers(conf: dict) -> dict:
    """Numbers for texts such as ``1e-4``, which YAML reads as a number only when it has a point."""

    def number(value):
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return {key: number(value) for key, value in conf.items()}
