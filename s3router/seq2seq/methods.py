"""Training methods of a whole recogniser: `s3router.tuners` on encoder and decoder alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from s3router.errors import ConfigError
from s3router.masks import MaskConfig
from s3router.tuners.attach import attach_method
from s3router.tuners.methods import METHODS, check_masks, complete_conf, mask_fields

if TYPE_CHECKING:
    from torch import nn

TARGETS = {
    "ffn": ("model.*.fc1", "model.*.fc2"),
    "attention": ("model.*_attn.?_proj", "model.*_attn.out_proj"),
}
"""Role -> patterns of modules, in encoder and decoder alike."""

_FIXED = ("model.encoder.conv1.", "model.encoder.conv2.", "model.encoder.embed_positions.")


def mask_config(options: Mapping[str, Any], seed: int) -> MaskConfig:
    """The masks that options ask for: ``mask_conf`` and ``sparsity``, which goes before.

    Raises:
        ConfigError: as `MaskConfig`.
    """
    given = dict(options.get("mask_conf") or {})
    if options.get("sparsity") is not None:
        given["sparsity"] = options["sparsity"]
    config = MaskConfig.from_dict(mask_fields(options["method"], {"seed": seed, **given}))
    check_masks(options["method"], options.get("method_conf") or {}, config)
    return config


def patterns(targets: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Roles as patterns of the recogniser's modules; patterns as they are."""
    return tuple(pattern for target in targets for pattern in TARGETS.get(target, (target,)))


def method_conf(options: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a method, with targets as patterns of the recogniser's modules; {}: it has none.

    Raises:
        ConfigError: as `s3router.tuners.methods.complete_conf`.
    """
    conf = complete_conf(options["method"], options.get("method_conf") or {})
    return {**conf, "targets": patterns(conf["targets"])} if "targets" in conf else conf


def _refuse_tied(model: nn.Module, targets: Sequence[str]) -> None:
    """Raise ConfigError where a target is another module's weight as well, which no pack could change alone."""
    from torch import nn

    own = dict(model.named_parameters())  # of weights that are shared, the first name alone
    for name, module in model.named_modules():
        weight = f"{name}.weight"
        if not isinstance(module, nn.Linear) or "weight" not in module._parameters or weight in own:
            continue
        if found := [t for t in targets if fnmatchcase(name, t) or fnmatchcase(weight, t)]:
            raise ConfigError(
                f"targets: {found[0]!r} fits {name}, which shares its weights with the token embedding; name others, "
                "such as 'model.*.fc1'"
            )


def apply_method(model: nn.Module, options: Mapping[str, Any]) -> None:
    """Freeze what stays, and attach what trains, in place.

    Args:
        model: a `s3router.upstreams.whisper_recogniser.WhisperRecogniser`.
        options: ``method``, ``mask_conf`` and ``sparsity``, ``method_conf``, and the ``seed`` of what is random.

    Raises:
        ConfigError: masks or additions that fit nothing.
    """
    from dataclasses import replace

    method, seed = options["method"], options["seed"]
    if METHODS[method].attached:
        mask = mask_config(options, seed) if METHODS[method].masks else None
        mask = mask and replace(mask, targets=patterns(mask.targets))
        conf = method_conf(options)
        _refuse_tied(model, (*(mask.targets if mask else ()), *conf.get("targets", ())))
        attach_method(model, method, mask, conf, seed)
        if not METHODS[method].prunes:
            return
    for name, parameter in model.named_parameters():
        weights = method == "weight" or METHODS[method].prunes
        parameter.requires_grad_(weights and not name.startswith(_FIXED))
