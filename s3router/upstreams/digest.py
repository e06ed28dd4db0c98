"""Content hashes of weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.original$")
_WEIGHT_NORM = re.compile(r"parametrizations\.(\w+)\.original([01])$")


def fingerprint(module: nn.Module) -> str:
    """Hash of a backbone's weights: 32 hexadecimal digits, equal exactly when all names, shapes and values are.

    It does not depend on the type the values are kept in (a half-precision file read into a float32 model keeps it),
    on the device, on the order of the tensors, on torch's two namings of weight norm, or on attached masks (scores are
    left out, the weight under a mask counts as the plain weight). Of a `RoutedUpstream`, or of a module that contains
    one, the backbone inside is meant.
    """
    return weights_hash(_backbone(module))


def weights_hash(module: nn.Module) -> str:
    """`fingerprint` of exactly this module."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(_named_weights(module), key=lambda item: item[0]):
        total.update(f"{name} {tuple(tensor.shape)}\n".encode())
        total.update(tensor_bytes(tensor))
    return total.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values as bytes: floating point as float32, whole numbers as int64."""
    wide = torch.float32 if tensor.is_floating_point() else torch.int64
    values = tensor.detach().to(device="cpu", dtype=wide).contiguous()
    return memoryview(values.numpy()).cast("B") if values.numel() else memoryview(b"")


def _backbone(module: nn.Module) -> nn.Module:
    from s3router.upstreams.routed import RoutedUpstream

    routed = [part for part in module.modules() if isinstance(part, RoutedUpstream)]
    return routed[0].backbone if routed else module


def _named_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in module.state_dict().items():
        parts = name.split(".")
        if _WEIGHT_NORM.search(name):
            yield _WEIGHT_NORM.sub(lambda m: f"{m[1]}_{'gv'[int(m[2])]}", name), tensor
        elif _PARAMETRIZED.search(name):
            yield _PARAMETRIZED.sub(r"\1", name), tensor
        elif "parametrizations" not in parts:  # what is left there belongs to the parametrization: scores, masks
            yield name, tensor
