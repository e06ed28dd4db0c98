"""Content hashes of weights. They are made in `s3router.packs.fingerprint`, since packs carry them."""

from __future__ import annotations

from s3router.packs.fingerprint import fingerprint, tensor_bytes, weights_hash

__all__ = ["fingerprint", "tensor_bytes", "weights_hash"]
