"""Writing and reading of mask packs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s3router.errors import ConfigError, PackError
from s3router.files import printable
from s3router.packs import adapters
from s3router.packs.bits import BitMasks, padding_is_zero
from s3router.packs.container import read_container, refuse, write_container
from s3router.packs.contents import CODECS, FORMAT_VERSION, MaskPack, PackMeta
from s3router.packs.description import Description, Malformed, MaskEntry, from_json, to_json
from s3router.packs.fingerprint import named_weights, weights_hash

__all__ = ["MaskPack", "PackMeta", "Parts", "read_pack", "read_parts", "write_pack"]

_PARTS = ("delta", "featurizer", "head", "adapter")
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _FLOATS.items()}
_BITS, _BPE, _STREAM = "masks.", "bpe_model", "coded"
_STREAMS = ("gaps", "flags")


@dataclasses.dataclass(frozen=True)
class Parts:
    """A pack whose masks are not decoded yet.

    Attributes:
        description: everything but the tensors.
        tensors: name in the file -> (safetensors dtype, read-only array).
        size: bytes of the file.
    """

    description: Description
    tensors: dict[str, tuple[str, np.ndarray]]
    size: int


def write_pack(path: str | os.PathLike, pack: MaskPack, codec: str = "bits", backbone: nn.Module | None = None) -> int:
    """Write a pack, whole or not at all. The same pack always gives the same bytes.

    Args:
        path: the file; one that exists is replaced.
        codec: ``bits`` (one bit per weight), ``coded`` (range coding: the smallest) or ``gaps`` (within a few percent
            of it, and read several times as fast); the last two need the backbone, as does reading them.
        backbone: as for `read_pack`.

    Returns:
        the bytes written.

    Raises:
        PackError: the pack is inconsistent, or not for this backbone.
        ConfigError: unknown codec, or no backbone for those that need one.
    """
    if codec not in CODECS:
        raise ConfigError(f"unknown pack codec {codec!r}; known: {', '.join(CODECS)}")
    if codec != "bits" and backbone is None:
        raise ConfigError(f"the codec {codec!r} needs the backbone that the masks belong to; give it, or use 'bits'")
    if bad := [name for name, mask in pack.masks.items() if mask.dtype != torch.bool or mask.dim() != 2]:
        raise PackError(f"{path}: masks are bool matrices; {', '.join(bad[:5])} are not")
    masks = BitMasks.of(pack.masks)
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    codings: dict[str, dict[str, Any]] = {name: {} for name in masks}
    weights = None
    if backbone is not None:
        weights = _weights_for(path, pack.meta.fingerprint, backbone, None)
        _check_backbone(path, masks.shapes, pack.delta, weights)
    if codec == "coded":
        from s3router.packs import coding

        codings, stream = coding.encode(masks, weights)
        tensors[_STREAM] = "U32", stream
    elif codec == "gaps":
        from s3router.packs import gaps

        codings, streams = gaps.encode(masks, weights)
        tensors |= {name: ("U8", stream) for name, stream in streams.items()}
    else:
        tensors |= {_BITS + name: ("U8", bits) for name, bits in masks.bits.items()}
    for part in _PARTS:
        for name, tensor in getattr(pack, part).items():
            tensors[f"{part}.{name}"] = _to_numpy(path, f"{part}.{name}", tensor)
    if pack.bpe_model is not None:
        tensors[_BPE] = "U8", np.frombuffer(pack.bpe_model, np.uint8)
    entries = {name: MaskEntry(shape, masks.removed(name), codings[name]) for name, shape in masks.shapes.items()}
    description = Description(pack.route, codec, pack.tokens, entries, masks.digest(), pack.meta)
    version = description.format_version
    try:
        text = to_json(description)
        from_json(text, version)
        json.dumps(text, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # Malformed, and what JSON cannot say
        raise PackError(printable(f"{path}: not written: {error}. Correct the pack.")) from None
    _check_contents(path, pack, weights)
    return write_container(path, tensors, version, text)


def read_pack(
    path: str | os.PathLike, backbone: nn.Module | None = None, *, fingerprint: str | None = None
) -> MaskPack:
    """Read a pack and check all of it.

    Args:
        path: the file.
        backbone: the plain backbone: its fingerprint, names and shapes must be the pack's. All codecs but
            ``bits`` need it.
        fingerprint: the backbone's fingerprint where it is known already (it is not computed then).

    Raises:
        PackError: damaged, of a newer format, for another backbone, or not a pack.
    """
    parts = read_parts(path)
    found = parts.description
    weights = None
    if fingerprint is not None:
        _check_fingerprint(path, found.meta.fingerprint, fingerprint)
    if backbone is not None:
        weights = _weights_for(path, found.meta.fingerprint, backbone, fingerprint)
        deltas = _floats(path, parts.tensors, "delta")
        _check_backbone(path, {name: entry.shape for name, entry in found.masks.items()}, deltas, weights)
    masks = BitMasks(dict(_bits(path, parts, weights)), {name: entry.shape for name, entry in found.masks.items()})
    wrong = [name for name in masks if masks.removed(name) != found.masks[name].removed]
    if wrong or masks.digest() != found.masks_digest:
        refuse(
            path, f"damaged: its masks are not those that were written ({', '.join(wrong[:3]) or 'by their digest'})"
        )
    bpe = parts.tensors.get(_BPE)
    pack = MaskPack(
        route=found.route,
        masks=masks,
        **{part: _floats(path, parts.tensors, part) for part in _PARTS},
        tokens=found.tokens,
        meta=found.meta,
        bpe_model=None if bpe is None else bpe[1].tobytes(),
    )
    _check_contents(path, pack, weights)
    return pack


def read_parts(path: str | os.PathLike) -> Parts:
    """A pack without its masks decoded: no backbone is needed. The file's checksum and description are checked.

    Raises:
        PackError: as `read_pack`.
    """
    tensors, text, version, size = read_container(path, FORMAT_VERSION)
    try:
        description = from_json(text, version)
    except Malformed as error:
        refuse(path, f"its description is damaged ({error})")
    kinds = {_BPE: "U8"} | {_BITS + name: "U8" for name in description.masks if description.codec == "bits"}
    kinds |= {"coded": {_STREAM: "U32"}, "gaps": dict.fromkeys(_STREAMS, "U8")}.get(description.codec, {})
    lacking = [name for name in kinds if name not in tensors and name != _BPE]
    for name, (dtype, array) in tensors.items():
        if not _belongs(name, dtype, kinds, description) or (name in kinds and array.ndim != 1):
            refuse(path, f"tensor {name!r} ({dtype}, {array.ndim} dimensions) does not belong into it")
    if lacking:
        refuse(path, f"lacks {', '.join(lacking[:3])}")
    return Parts(description, tensors, size)


def _belongs(name: str, dtype: str, kinds: Mapping[str, str], description: Description) -> bool:
    """Whether a pack may have such a tensor; `kinds` has those that are no floats of a part."""
    part, _, rest = name.partition(".")
    if part not in _PARTS or not rest:
        return kinds.get(name) == dtype
    method = description.meta.adapter.get("method")
    if part == "adapter" and (method is None or (method == "bitdelta" and rest.endswith(".signs"))):
        return method is not None and dtype == "U8"
    return dtype in _FLOATS


def _bits(
    path: str | os.PathLike, parts: Parts, weights: Mapping[str, Tensor] | None
) -> Iterable[tuple[str, np.ndarray]]:
    """The masks in order, as `s3router.packs.bits.pack_bits` gives them."""
    entries = parts.description.masks
    if parts.description.codec != "bits":
        if weights is None:
            refuse(path, "its masks are coded relative to their backbone", "Give the backbone, too (--upstream).")
        from s3router.packs import coding, gaps

        try:
            if parts.description.codec == "coded":
                yield from coding.decode(entries, parts.tensors[_STREAM][1], weights)
            else:
                yield from gaps.decode(entries, {name: parts.tensors[name][1] for name in _STREAMS}, weights)
        except Malformed as error:
            refuse(path, f"damaged: {error}")
        return
    for name, entry in entries.items():
        bits = parts.tensors[_BITS + name][1]
        if len(bits) != -(-entry.count // 8) or not padding_is_zero(bits, entry.count):
            refuse(path, f"mask {name!r}: {len(bits):,} bytes are not the bits of {entry.shape}")
        yield name, bits


def _weights_for(
    path: str | os.PathLike, wanted: str, backbone: nn.Module, fingerprint: str | None
) -> dict[str, Tensor]:
    """The backbone's weights by name, after its fingerprint was checked (unless it is known)."""
    if fingerprint is None:
        _check_fingerprint(path, wanted, weights_hash(backbone))
    return dict(named_weights(backbone))


def _check_fingerprint(path: str | os.PathLike, wanted: str, found: str) -> None:
    if wanted != found:
        what = f"made for another backbone (fingerprint {wanted}; this one's is {found})"
        refuse(path, what, "Load the backbone that the pack names (s3router inspect), or train masks on this one.")


def _check_backbone(
    path: str | os.PathLike,
    shapes: Mapping[str, tuple[int, int]],
    delta: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
) -> None:
    every = [*shapes.items(), *((name, tuple(tensor.shape)) for name, tensor in delta.items())]
    wrong = [f"{name} {list(s)}" for name, s in every if name not in weights or tuple(weights[name].shape) != s]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        refuse(path, f"the backbone has no {', '.join(wrong[:5])}{more}", "Use the backbone that the pack names.")


def _check_contents(path: str | os.PathLike, pack: MaskPack, weights: Mapping[str, Tensor] | None) -> None:
    """Refuse a pack whose parts contradict each other, or an adapter that is not for these weights of the backbone."""
    shapes = None if weights is None else {name: tuple(tensor.shape) for name, tensor in weights.items()}
    adapters.check(path, pack.adapter, pack.meta.adapter, shapes)
    if pack.tokens is not None and pack.meta.labels is not None:
        refuse(path, "it has both a token list and class labels", "A pack has one of them.")
    names = pack.meta.labels if pack.tokens is None else pack.tokens
    if names is not None and not names:
        refuse(path, "its list of tokens or labels is empty")
    for name, dimensions in (("weight", 2), ("bias", 1)):
        shape = pack.head[name].shape if name in pack.head else None
        if names and shape is not None and (len(shape) != dimensions or shape[0] != len(names)):
            refuse(path, f"head.{name} is {list(shape)}, and it has {len(names)} tokens or labels")
    if "weights" in pack.featurizer and pack.featurizer["weights"].dim() != 1:
        refuse(path, f"featurizer.weights is {list(pack.featurizer['weights'].shape)}, not one number per hidden state")
    if pack.tokens is not None and "weight" not in pack.head:
        refuse(path, "it has a token list, and no output layer (head.weight: tokens, features)")
    for part in _PARTS[:-1]:  # adapters have been looked at
        for name, tensor in getattr(pack, part).items():
            if not bool(torch.isfinite(tensor).all()):
                refuse(
                    path, f"{part}.{name} holds NaN or infinite values", "Take a checkpoint from before it diverged."
                )


def _to_numpy(path: str | os.PathLike, name: str, tensor: Tensor) -> tuple[str, np.ndarray]:
    if tensor.dtype == torch.uint8 and name.startswith("adapter."):
        return "U8", tensor.detach().cpu().contiguous().numpy()
    if tensor.dtype not in _NAMES:
        raise PackError(f"{path}: {name} is {tensor.dtype}; packs hold {', '.join(map(str, _NAMES))}")
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return _NAMES[_FLOATS["BF16"] if tensor.dtype == torch.uint16 else tensor.dtype], tensor.numpy()


def _floats(path: str | os.PathLike, tensors: Mapping[str, tuple[str, np.ndarray]], part: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``part.``, copied."""
    found = {}
    for name, (dtype, array) in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == part:
            tensor = torch.from_numpy(array.copy())
            found[rest] = tensor.view(torch.bfloat16) if dtype == "BF16" else tensor
    return found
