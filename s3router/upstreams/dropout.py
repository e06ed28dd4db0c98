"""Dropout by what it acts on, LayerDrop included, whatever a vendor's model calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.upstreams.anatomy import Anatomy

_PLAIN = ("hidden", "attention", "activation", "input")


@dataclass(frozen=True)
class DropoutConfig:
    """Probabilities in training mode; None: what the checkpoint says (LayerDrop: none).

    Args:
        hidden: of what attention and feed-forward blocks add, and of the encoder's input.
        attention: of attention weights.
        activation: between the two linears of a feed-forward block.
        input: of the projected features.
        layerdrop: whole layers are skipped (arXiv 1909.11556).
    """

    hidden: float | None = None
    attention: float | None = None
    activation: float | None = None
    input: float | None = None
    layerdrop: float | None = None

    @classmethod
    def of(cls, value: float | Mapping[str, Any]) -> DropoutConfig:
        """From one probability for all but LayerDrop, or from a mapping with the names above.

        Raises:
            ConfigError: unknown names, or no probability from 0 up to 1.
        """
        if not isinstance(value, Mapping):
            value = dict.fromkeys(_PLAIN, value)
            named = {"dropout": value["hidden"]}
        else:
            named = {f"dropout {key}": probability for key, probability in value.items()}
        known = [field.name for field in fields(cls)]
        problems = [f"unknown {key}" for key in value if key not in known]
        problems += [
            f"{name} must be at least 0 and below 1, found {p!r}"
            for name, p in named.items()
            if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1
        ]
        if problems:
            raise ConfigError(f"{'; '.join(problems)}. Give one number, or a mapping of {', '.join(known)}.")
        return cls(**value)


def set_dropout(backbone: nn.Module, config: DropoutConfig) -> None:
    """Give the dropouts of a backbone these probabilities, modules and plain numbers alike, in place.

    Raises:
        ConfigError: the model has no dropout of a kind that is asked for, or no layers to skip.
    """
    anatomy = Anatomy.of(backbone)
    places = _places(backbone, anatomy)
    everywhere = len({getattr(config, kind) for kind in _PLAIN}) == 1
    for kind in _PLAIN:
        probability = getattr(config, kind)
        if probability is None:
            continue
        found = [(module, name) for at, module, name in places if at == kind]
        if probability and not found and not everywhere:
            raise ConfigError(f"dropout {kind}: {type(backbone).__name__} has none; leave it out.")
        for module, name in found:
            setattr(module, name, probability)
    if config.layerdrop:
        if not anatomy.layers:
            raise ConfigError(f"dropout layerdrop: {type(backbone).__name__} has no transformer layers; leave it out.")
        for name in anatomy.layers:
            layer = backbone.get_submodule(name)
            kind = type(layer)
            layer.__class__ = type(f"Skipped{kind.__name__}", (_Skipped, kind), {"__module__": kind.__module__})
            layer.skip_probability = config.layerdrop


class _Skipped:
    """Mixed into the class of a transformer layer: (…, C) -> (…, C), or a tuple that begins with it.

    A layer that is skipped is computed all the same, and its input handed on. So the upstream gives as many hidden
    states as ever, and every parameter gets a gradient, which distributed training waits for.
    """

    skip_probability: float

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(x, *args, **kwargs)
        if not self.training:
            return output
        skipped = torch.rand(()) < self.skip_probability  # on the CPU, whose generator's state checkpoints hold
        if isinstance(output, Tensor):
            return torch.where(skipped, x, output)
        return (torch.where(skipped, x, output[0]), *output[1:])


def _places(backbone: nn.Module, anatomy: Anatomy) -> list[tuple[str, nn.Module, str]]:
    """(kind, module, attribute) of every dropout above the front end."""
    places = []
    for name, module in backbone.named_modules():
        if anatomy.in_front_end(name):
            continue
        attributes = ["dropout", "attention_dropout", "activation_dropout"]
        if type(module).__name__.endswith("Dropout"):
            attributes.append("p")
        for attribute in attributes:
            if isinstance(vars(module).get(attribute), float | int):
                places.append((_kind(name.split("."), attribute), module, attribute))
    return places


def _kind(path: list[str], attribute: str) -> str:
    if attribute != "p":
        inside = attribute.removesuffix("dropout").rstrip("_")
        return inside or ("attention" if path[-1] in ("attention", "self_attn") else "hidden")
    own, above = path[-1], path[-2] if len(path) > 1 else ""
    if own in ("dropout_input", "dropout_features") or above == "feature_projection":
        return "input"
    if above in ("self_attn", "attention") or path[-3:-1] == ["attention", "self"]:
        return "attention"
    return "activation" if own in ("intermediate_dropout", "dropout2") else "hidden"
