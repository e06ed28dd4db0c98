"""What trains under each method, and with which learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from s3router.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

METHODS = {
    "router": "scores of weight masks on a frozen upstream (S3-Router), and the head",
    "weight": "the upstream's weights but for its feature extractor, and the head",
    "frozen": "the head alone",
    "scratch": "an upstream of random weights, all of it, and the head",
}
"""Method -> what it trains. The head is the featurizer's layer weights and the output layer."""

UPSTREAM = "frontend.upstream."
SCORES = ".scores"
FEATURE_EXTRACTOR = "feature_extractor"
"""Name of the convolutional front part in every wav2vec2-like model: fairseq, HuggingFace and torchaudio alike."""


def role_of(name: str) -> str:
    """``scores``, ``weights`` (of the upstream) or ``head`` for a parameter's name in the ASR model."""
    if not name.startswith(UPSTREAM):
        return "head"
    return "scores" if name.endswith(SCORES) else "weights"


def apply_method(model: nn.Module, method: str) -> None:
    """Set ``requires_grad`` throughout the ASR model.

    For ``router`` the upstream comes with its masks attached, which have decided already (`MaskConfig.train`).

    Raises:
        ConfigError: unknown method, or an upstream without what the method trains or freezes.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    frontend = model.frontend
    inside = list(frontend.upstream.named_parameters())
    if method == "router":
        if not any(name.endswith(SCORES) and p.requires_grad for name, p in inside):
            raise ConfigError("method router: the upstream carries no mask scores; use the s3prl upstream 's3router'")
    else:
        for name, parameter in inside:
            parameter.requires_grad_(method == "scratch" or (method == "weight" and not in_feature_extractor(name)))
        if method == "weight" and not any(in_feature_extractor(name) for name, _ in inside):
            raise ConfigError("method weight: found no feature extractor to freeze in the upstream")
    if method != "scratch":
        for module in frontend.upstream.modules():
            # HuggingFace's feature encoders otherwise ask for gradients of the waveform, in vain
            if hasattr(module, "_requires_grad") and hasattr(module, "_freeze_parameters"):
                module._freeze_parameters()
    if not frontend.multilayer_feature and hasattr(frontend.featurizer, "weights"):
        frontend.featurizer.weights.requires_grad_(False)  # the last layer alone is used


def in_feature_extractor(name: str) -> bool:
    """Whether a parameter belongs to the convolutional front part."""
    return FEATURE_EXTRACTOR in name.split(".")


def trained_names(model: nn.Module) -> Iterator[str]:
    """Names of everything that training changes, and so of everything that a checkpoint must hold.

    Buffers change only where weights do: a frozen upstream's are left out.
    """
    free = False
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            free |= role_of(name) == "weights"
            yield name
    for name, _ in model.named_buffers():
        if free or not name.startswith(UPSTREAM):
            yield name


def param_groups(model: nn.Module, lrs: dict[str, float]) -> list[dict]:
    """Optimizer groups ``scores``, ``weights``, ``head`` (those that have anything), in this order.

    Args:
        model: after `apply_method`.
        lrs: peak learning rate for each of the three.
    """
    members: dict[str, list] = {"scores": [], "weights": [], "head": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[role_of(name)].append(parameter)
    return [{"params": p, "lr": lrs[role], "name": role} for role, p in members.items() if p]
