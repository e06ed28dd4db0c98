"""Content hashes of weights, and the plain weights of a module whatever is attached to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.original$")
_WRAPPED = re.compile(r"\bbase_layer\.")  # PEFT's, of what a layer was before
_ADDED = re.compile(r"(^|\.)(lora_\w+|shira_weight|houlsby)\.")
_WEIGHT_NORM = re.compile(r"parametrizations\.(\w+)\.original([01])$")


def weights_hash(module: nn.Module) -> str:
    """Fingerprint of a backbone: 32 hexadecimal digits, equal exactly when all names, shapes and values are.

    It does not depend on the type the values are kept in (a half-precision file read into a float32 model keeps it),
    on the device, on the order of the tensors, on torch's two namings of weight norm, or on attached masks (scores are
    left out, the weight under a mask counts as the plain weight).
    """
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(named_weights(module), key=lambda item: item[0]):
        total.update(f"{name} {tuple(tensor.shape)}\n".encode())
        total.update(tensor_bytes(tensor))
    return total.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values as bytes: floating point as float32, whole numbers as int64."""
    wide = torch.float32 if tensor.is_floating_point() else torch.int64
    values = tensor.detach().to(device="cpu", dtype=wide).contiguous()
    return memoryview(values.numpy()).cast("B") if values.numel() else memoryview(b"")


def named_weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name in the plain module, tensor) of every parameter and buffer of its state dict, what is attached left out."""
    for name, tensor in module.state_dict().items():
        if (plain := plain_name(name)) is not None:
            yield plain, tensor


def plain_name(name: str) -> str | None:
    """What a state dict's entry is called in the plain module; None for what was attached to it."""
    if _ADDED.search(name):
        return None
    name = _WRAPPED.sub("", name)
    if _WEIGHT_NORM.search(name):
        return _WEIGHT_NORM.sub(lambda m: f"{m[1]}_{'gv'[int(m[2])]}", name)
    if _PARAMETRIZED.search(name):
        return _PARAMETRIZED.sub(r"\1", name)
    return None if "parametrizations" in name.split(".") else name
