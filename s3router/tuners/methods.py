"""The table of training methods. Nothing heavy is imported here: command lines read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from s3router.errors import ConfigError
from s3router.prune import schedule

if TYPE_CHECKING:
    from s3router.masks import MaskConfig

FFN = ("ffn",)
EVERY_OUTPUT = ("ffn", "attention")


@dataclass(frozen=True)
class Method:
    """A training method.

    Attributes:
        what: what it trains, for help texts; the head trains with every method.
        title: its name in tables.
        rate: the option that is the learning rate of what trains in the upstream; None: nothing trains there. Where
            weights train besides scores, theirs is ``weight_lr``.
        default_rate: of SUPERB's ``--upstream-lr``, whose one option is for all methods.
        masks: whether it takes a sparsity and the fields of `s3router.masks.MaskConfig`.
        attached: whether `s3router.tuners.attach` sets it up; the others are a matter of ``requires_grad`` alone.
        conf: the fields of its configuration (``method_conf``) with their defaults; {}: it has none.
        prunes: whether it is one of `s3router.prune`, with which all weights train but those of the front end.
        mask: fields of `MaskConfig` whose default is another one with this method.
    """

    what: str
    title: str
    rate: str | None = None
    default_rate: float | None = None
    masks: bool = False
    attached: bool = False
    conf: Mapping[str, Any] = field(default_factory=dict)
    prunes: bool = False
    mask: Mapping[str, Any] = field(default_factory=dict)


def _pruning(
    name: str, what: str, title: str, rate: str = "weight_lr", default_rate: float = 1e-5, **mask: Any
) -> Method:
    """A method of `s3router.prune`; ``mask``: further defaults of its masks."""
    masks = {"targets": EVERY_OUTPUT, **mask}
    return Method(what, title, rate, default_rate, True, True, schedule.CONF[name], True, masks)


_LORA = {"targets": FFN, "r": None, "lora_alpha": None, "lora_dropout": 0.0}

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "scratch": Method(
            "an upstream with random weights, all of it", "from scratch (random upstream)", "weight_lr", 1e-4
        ),
        "frozen": Method("nothing in the upstream", "frozen (head only)"),
        "weight": Method("the upstream's weights except for its front end", "weight finetuning", "weight_lr", 1e-5),
        "ffn_weight": Method(
            "the weights that masks would be on, and nothing else (by default of the feed-forward layers)",
            *("weights, FFN only", "weight_lr", 1e-5, False, True, {"targets": FFN}),
        ),
        "lora": Method(
            "low-rank additions to linear layers (LoRA, arXiv 2106.09685, by HuggingFace PEFT)",
            *("LoRA", "adapter_lr", 1e-3, False, True, _LORA),
        ),
        "dora": Method(
            "the same, with the norm of each row apart (DoRA, arXiv 2402.09353, by HuggingFace PEFT)",
            *("DoRA", "adapter_lr", 1e-3, False, True, _LORA),
        ),
        "bitfit": Method(
            "biases and layer norms (BitFit, arXiv 2106.10199)", "biases + norms", "adapter_lr", 1e-3, False, True
        ),
        "houlsby": Method(
            "a bottleneck behind each attention and feed-forward layer (arXiv 1902.00751)",
            *("adapters", "adapter_lr", 1e-3, False, True, {"targets": EVERY_OUTPUT, "bottleneck": None}),
        ),
        "sparse_delta": Method(
            "a few weights of each matrix, drawn at random (SHiRA, arXiv 2406.13175, by HuggingFace PEFT)",
            *("sparse delta", "adapter_lr", 1e-3, False, True, {"targets": FFN, "r": None}),
        ),
        "bitdelta": Method(
            "weights whose change is kept as its signs and a scale per matrix (BitDelta, arXiv 2402.10193)",
            *("BitDelta", "weight_lr", 1e-5, False, True, {"targets": FFN}),
        ),
        "magnitude": Method(
            "nothing in the upstream, from which the weights of smallest magnitude are removed",
            *("magnitude mask, untrained", None, None, True, True),
        ),
        "router": Method(
            "scores of weight masks on a frozen upstream (S3-Router)", "S3-Router", "score_lr", 1e-3, True, True
        ),
        "omp": _pruning(
            "omp", "all weights; halfway those of smallest magnitude are removed (one-shot pruning)", "OMP"
        ),
        "imp": _pruning("imp", "the same in several rounds (iterative magnitude pruning)", "IMP"),
        "parp": _pruning(
            "parp", "all weights; removed ones may come back, and are removed again (PARP, arXiv 2106.05933)", "PARP"
        ),
        "parp_p": _pruning("parp_p", "the same, more of them each time (PARP-P)", "PARP-P"),
        "router_p": _pruning(
            "router_p",
            *("all weights, then scores of masks on the finetuned weights (S3-Router-P)", "S3-Router-P"),
            *("score_lr", 1e-3),
            score_init="weight",
        ),
    }
)
"""Method -> what it is, in the order in which tables have them."""


def methods_for(whole: bool = False) -> dict[str, str]:
    """Name -> what trains, of a head on an upstream or of a ``whole`` recogniser, which has no head to train."""
    return {name: method.what for name, method in METHODS.items() if not (whole and name == "scratch")}


def used_rates(method: str, head: bool = True) -> tuple[str, ...]:
    """The options of learning rates that a method uses: of the upstream, and of the ``head`` where there is one."""
    rate = METHODS[method].rate
    both = METHODS[method].prunes and rate != "weight_lr"
    return (*(() if rate is None else (rate,)), *(("weight_lr",) if both else ()), *(("head_lr",) if head else ()))


def mask_fields(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a method's `MaskConfig`: those given, and its own defaults for others."""
    return {**METHODS[method].mask, **given}


def check_masks(method: str, conf: Mapping[str, Any], mask: MaskConfig) -> None:
    """Refuse masks that do not go with a method and its configuration. Raises ConfigError."""
    if mask.start_packs and method != "router":
        raise ConfigError(f"start_packs are for method router, not {method}; leave them out of mask_conf")
    if METHODS[method].prunes:
        from s3router.prune.attach import check

        check(method, conf, mask)


def without_start(mask: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields of a `MaskConfig` where a checkpoint brings the scores: the packs that they began at are not read."""
    return {name: value for name, value in (mask or {}).items() if name != "start_packs"}


def complete_conf(method: str, given: Any) -> dict[str, Any]:
    """A method's configuration with its defaults.

    Raises:
        ConfigError: not a mapping, a field that the method does not have, or a value that cannot be.
    """
    known = METHODS[method].conf
    if not isinstance(given, Mapping):
        raise ConfigError(f"method_conf must be a mapping of names and values, found {given!r}")
    if given and not known:
        takes = ", ".join(name for name, other in METHODS.items() if other.conf)
        raise ConfigError(f"method_conf is for methods {takes}, not {method}; leave it out")
    if unknown := sorted(given.keys() - known.keys()):
        raise ConfigError(f"method_conf: method {method} has no {', '.join(unknown)}; known: {', '.join(known)}")
    if not known:
        return {}
    if METHODS[method].prunes:
        return schedule.complete(method, given)
    conf = {**known, **given}
    if isinstance(conf["targets"], str):
        conf["targets"] = conf["targets"].split(",")
    if not conf["targets"] or not all(isinstance(target, str) for target in conf["targets"]):
        raise ConfigError(f"method_conf: targets must be roles or name patterns, found {conf['targets']!r}")
    conf["targets"] = tuple(conf["targets"])
    for name in ("r", "bottleneck"):
        value = conf.get(name)
        if value is not None and not (type(value) is int and value > 0):
            raise ConfigError(f"method_conf: {name} must be a whole number above 0, found {value!r}")
    fitting = {
        "lora_alpha": ("above 0", lambda v: 0 < v < math.inf),
        "lora_dropout": ("from 0 up to 1", lambda v: 0 <= v < 1),
    }
    for name, (range_, fits) in fitting.items():
        value = conf.get(name)
        if value is not None and not (type(value) in (int, float) and fits(value)):
            raise ConfigError(f"method_conf: {name} must be a number {range_}, found {value!r}")
    return conf
