"""The backbone inside a larger model, and the content hash of its weights."""

from __future__ import annotations

from torch import nn

from s3router.packs.fingerprint import weights_hash


def fingerprint(module: nn.Module) -> str:
    """The `weights_hash` of the backbone inside ``module``."""
    return weights_hash(bare_backbone(module))


def bare_backbone(module: nn.Module) -> nn.Module:
    """The backbone inside the first `RoutedUpstream` in ``module`` (known by its attributes); else ``module``."""
    routed = (part for part in module.modules() if hasattr(part, "backbone_fingerprint"))
    found = next(routed, None)
    return module if found is None else found.backbone
