"""Pretrained speech upstreams: safe loading, the s3prl hub entry ``s3router``, feature masking and the feature cache.

Start with `s3router.upstreams.hub.register`. Importing this package imports neither torch nor s3prl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def fingerprint(module: nn.Module) -> str:
    """The content hash of a backbone's weights: see `s3router.upstreams.digest.fingerprint`."""
    from s3router.upstreams import digest

    return digest.fingerprint(module)
