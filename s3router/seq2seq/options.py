"""Options of ``seq2seq-train``: command line, configuration file, defaults."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s3router.data.hypotheses import RULES
from s3router.errors import ConfigError
from s3router.masks.config import DEFAULT_SPARSITY
from s3router.seq2seq.language import AUTO
from s3router.seq2seq.methods import mask_config, method_conf
from s3router.seq2seq.windows import STEP
from s3router.training import command_line
from s3router.training.arithmetic import ARITHMETIC
from s3router.training.resume import plain
from s3router.tuners.methods import METHODS, methods_for
from s3router.upstreams.whisper import WINDOW_SECONDS

RATES = ("score_lr", "weight_lr", "adapter_lr")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = command_line.Parser(
        prog="s3router seq2seq-train",
        description="Adapt a whole recogniser, Whisper's encoder and decoder, with its own loss. It resumes.",
    )
    add = made.add_argument
    add("--config", type=Path, metavar="YAML", help="options in a file, 'name: value'; those given here go before it")
    add("--train_dir", type=Path, required=True, help="Kaldi data directory with wav.scp and text")
    add("--valid_dir", type=Path, required=True, help="the same; selects the best checkpoint, by CER")
    add("--output_dir", type=Path, required=True, help="checkpoints, log and settings")
    known = methods_for(whole=True)
    add("--method", choices=known, default="router", help="; ".join(f"{name}: {what}" for name, what in known.items()))
    add("--upstream", default="whisper_base", help="a Whisper of s3router upstream list, or auto with --upstream_ckpt")
    add("--upstream_ckpt", default=None, help="its checkpoint: HuggingFace folder, OpenAI's .pt, or model.bin")
    add(
        "--language",
        default=None,
        help="language token, such as fr; auto, where Whisper lacks the language: the likeliest",
    )
    add("--text_language", default=None, help="language of the references, for --normalize (default: --language)")
    add("--normalize", choices=RULES, default="none", help="brings hypotheses to the form of the references")
    add(
        "--sparsity",
        type=float,
        default=None,
        help=f"share of weights removed (methods with masks; {DEFAULT_SPARSITY})",
    )
    fields = {"action": command_line.Fields, "default": {}, "metavar": "FIELD=VALUE|JSON"}
    add("--mask_conf", **fields, help="fields of MaskConfig, such as granularity=2:4; several times: all of them")
    add("--method_conf", **fields, help="fields of the method, such as r=16 of lora")
    add("--score_lr", type=float, default=1e-3, help="peak learning rate of mask scores")
    add("--weight_lr", type=float, default=2e-5, help="peak learning rate of weights")
    add("--adapter_lr", type=float, default=1e-3, help="peak learning rate of additions, and of biases and norms")
    add("--window_step", type=float, default=None, help="s, of windows' lengths (5; untrained: 30, as in pretraining)")
    add("--warmup", type=float, default=0.1, help="share of the updates in which the rates rise; then they fall to 0")
    add("--batch_size", type=int, default=8, help="utterances")
    add("--accum_grad", type=int, default=1, help="batches per update")
    add("--max_updates", type=int, default=60, help="optimizer steps")
    add("--valid_interval", type=int, default=15, help="optimizer steps between validations")
    add("--max_valid_utts", type=int, default=None, help="validate on the first so many utterances (default: all)")
    add("--progress_interval", type=int, default=5, help="optimizer steps between progress lines")
    add("--grad_clip", type=float, default=1.0, help="largest norm of the gradients")
    add("--spec_augment", **fields, help="Whisper's own, such as mask_time_prob=0.05")
    add("--amp_dtype", choices=ARITHMETIC, default="auto", help="auto: the faster one here; a resumed run keeps it")
    add("--device", default="cpu", help="cpu or cuda")
    add("--seed", type=int, default=0, help="seed of initialisation and batches")
    add("--dry_run", action="store_true", help="check options and data, and end")
    return made


def read_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line and of its ``--config`` file. Raises ConfigError with all problems at once."""
    options = command_line.read_options(parser(), argv, separator="_")
    command_line.settle_sparsity(options, argv, separator="_")
    if problems := _problems(options):
        raise ConfigError("; ".join(problems))
    options.valid_interval = min(options.valid_interval, options.max_updates)
    if options.language != AUTO:
        options.text_language = options.text_language or options.language
    if options.window_step is None:
        options.window_step = STEP if METHODS[options.method].rate else float(WINDOW_SECONDS)
    if METHODS[options.method].masks:
        options.sparsity = mask_config(vars(options), options.seed).to_dict()["sparsity"]
    return options


def _problems(options: argparse.Namespace) -> list[str]:
    found = []
    for name in ("batch_size", "accum_grad", "max_updates", "valid_interval", "progress_interval", "max_valid_utts"):
        if (value := getattr(options, name)) is not None and value < 1:
            found.append(f"--{name} must be a whole number above 0, found {value}")
    if not 0 <= options.seed < 2**32:
        found.append(f"--seed must be a whole number from 0 up to 2^32, found {options.seed}")
    for name in (*RATES, "grad_clip"):
        if not (math.isfinite(value := getattr(options, name)) and value > 0):
            found.append(f"--{name} must be a number above 0, found {value}")
    if options.window_step is not None and not 1 <= options.window_step <= WINDOW_SECONDS:
        found.append(f"--window_step must be from 1 to {WINDOW_SECONDS} s, found {options.window_step}")
    if options.device.startswith("cuda:") and options.device != "cuda:0":
        found.append(
            f"--device {options.device}: training takes the first GPU in sight; give cuda, and set "
            f"CUDA_VISIBLE_DEVICES={options.device.removeprefix('cuda:')} for that one"
        )
    if not 0 <= options.warmup < 1:
        found.append(f"--warmup must be a share from 0 up to 1, found {options.warmup}")
    for name, known in (("method_conf", None), ("mask_conf", None), ("spec_augment", SPEC_AUGMENT)):
        value = getattr(options, name)
        if not isinstance(value, dict):
            found.append(f"--{name} must be an object of names and values, found {value!r}")
        elif known and (unknown := sorted(value.keys() - known)):
            found.append(f"--{name}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    if found:
        return found
    masks = METHODS[options.method].masks
    for check in (lambda: method_conf(vars(options)), lambda: masks and mask_config(vars(options), options.seed)):
        try:
            check()
        except ConfigError as error:
            found.append(str(error))
    if not masks and (options.sparsity is not None or options.mask_conf):
        found.append(f"--sparsity and --mask_conf are for methods with masks, not {options.method}; leave them out")
    if options.normalize != "none" and not (options.text_language or options.language not in (None, AUTO)):
        found.append("--normalize needs the language of the references: --text_language")
    for name, value in options.spec_augment.items():
        if name.endswith("_prob") and not (_is(value, int, float) and 0 <= value <= 1):
            found.append(f"--spec_augment {name} must be a number from 0 to 1, found {value!r}")
        elif name.endswith("_length") and not (_is(value, int) and value > 0):
            found.append(f"--spec_augment {name} must be a whole number above 0, found {value!r}")
        elif name.endswith("_min_masks") and not (_is(value, int) and value >= 0):
            found.append(f"--spec_augment {name} must be a whole number of 0 or more, found {value!r}")
    return found


def _is(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


SPEC_AUGMENT = frozenset(
    f"mask_{axis}_{what}" for axis in ("time", "feature") for what in ("prob", "length", "min_masks")
)
"""Fields of WhisperConfig that mask the spectrogram in training."""


def recorded(options: argparse.Namespace) -> dict[str, Any]:
    """The options as plain values, for the experiment's configuration."""
    return {name: plain(value) for name, value in vars(options).items() if name not in ("config", "dry_run")}


def read_recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded options under the names of today; those that an older version did not know have their defaults."""
    renamed = {"lora_conf": "method_conf", "lora_lr": "adapter_lr"}
    options = {renamed.get(name, name): value for name, value in options.items()}
    skipped = ("help", "config", "dry_run")
    defaults = {action.dest: action.default for action in parser()._actions if action.dest not in skipped}
    return {**defaults, **options}
