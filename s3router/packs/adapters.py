"""What packs hold besides masks, as functions of the backbone's weights: the arithmetic of each method, in one place.

An adapter is a mapping ``{target}.{part}`` -> tensor, and settings, the first of which is the ``method``:

========================  =====================================================  =====================================
method                    parts of a target                                      what the target becomes
========================  =====================================================  =====================================
``lora``                  ``lora_A`` (r, columns), ``lora_B`` (rows, r)          V = W + ``scale`` · B A
``dora``                  the same, and ``magnitude`` (rows,)                    magnitude · V / its rows' lengths
``sparse_delta``          ``values`` (k,)                                        W + values at k positions
``bitdelta``              ``signs`` (⌈rows · columns / 8⌉,) uint8, ``scale``     W ± scale
                          (1,)
``row_scale``             ``row_scale`` (rows,); beside masks                    row_scale · W, row by row
``houlsby``               ``down.weight`` (b, d), ``down.bias`` (b,),            y + up(gelu(down(y))), y the output
                          ``up.weight`` (d, b), ``up.bias`` (d,)                 of the linear layer
========================  =====================================================  =====================================

Targets are weights (rows, columns) by their plain names, ``encoder.layers.0.fc1.weight``; of ``houlsby`` they are
linear layers, ``encoder.layers.0.fc2``.

Sources: LoRA, Hu et al., arXiv 2106.09685; DoRA, Liu et al., arXiv 2402.09353; sparse differences at fixed random
positions as in SHiRA, Bhardwaj et al., arXiv 2406.13175; BitDelta, Liu et al., arXiv 2402.10193; bottleneck adapters,
Houlsby et al., arXiv 1902.00751.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from s3router.errors import ConfigError, PackError
from s3router.files import printable

PARTS: dict[str, dict[str, int]] = {
    "lora": {"lora_A": 2, "lora_B": 2},
    "dora": {"lora_A": 2, "lora_B": 2, "magnitude": 1},
    "sparse_delta": {"values": 1},
    "bitdelta": {"signs": 1, "scale": 1},
    "row_scale": {"row_scale": 1},
    "houlsby": {"down.weight": 2, "down.bias": 1, "up.weight": 2, "up.bias": 1},
}
"""Method -> name of each part of a target -> how many dimensions it has."""
SETTINGS: dict[str, tuple[str, ...]] = {
    "lora": ("scale",),
    "dora": ("scale",),
    "sparse_delta": ("seed",),
    "bitdelta": (),
    "row_scale": (),
    "houlsby": (),
}
"""Method -> its settings besides ``method``."""
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
MAX_SEED = (1 << 63) - 1
_NO_PACK = "Correct what the pack is made of."
_NO_BACKBONE = "Use the backbone that the pack names."


def settings_problem(settings: Mapping[str, Any]) -> str | None:
    """What is wrong with an adapter's settings; None: nothing."""
    method = settings.get("method")
    if not isinstance(method, str) or method not in PARTS:
        return f"unknown method {str(method)[:80]!r} (known: {', '.join(PARTS)})"
    if settings.keys() != {"method", *SETTINGS[method]}:
        wanted = ", ".join(SETTINGS[method]) or "none"
        return f"method {method} has the settings {wanted}, and not {str(sorted(settings.keys() - {'method'}))[:200]}"
    scale, seed = settings.get("scale", 1.0), settings.get("seed", 0)
    if type(scale) not in (int, float) or abs(scale) > 1e30 or not math.isfinite(scale):
        return f"scale {str(scale)[:80]} is no finite number"
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        return f"seed {str(seed)[:80]} is no whole number from 0 to {MAX_SEED}"
    return None


def by_target(adapter: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """``{target}.{part}`` -> tensor, as target -> part -> tensor; targets in the order of their names.

    Raises:
        PackError: a name that ends in no part of the method's.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name in sorted(adapter):
        part = next((part for part in PARTS[settings["method"]] if name.endswith(f".{part}")), None)
        if part is None:
            raise PackError(f"adapter {settings['method']}: it has no tensors of the name {name[:200]!r}")
        found.setdefault(name.removesuffix(f".{part}"), {})[part] = adapter[name]
    return found


def check(
    where: str | os.PathLike,
    adapter: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Refuse an adapter that is none, or is not one of this backbone's.

    Args:
        where: what comes first in messages: the file, the route.
        adapter: ``{target}.{part}`` -> tensor; with empty `settings`, none.
        settings: ``method`` and its settings.
        shapes: plain name -> shape of every weight of the backbone; without them, targets and shapes are compared
            among themselves.

    Raises:
        PackError: unknown method or settings, tensors without method or the other way round; names, shapes or dtypes
            that are not the method's, values that are not finite; targets that the backbone lacks.
    """

    def refuse(what: str, todo: str = _NO_PACK) -> None:
        raise PackError(printable(f"{where}: {what}. {todo}"))

    if not settings:
        if adapter:
            refuse(f"tensors of an adapter ({next(iter(adapter))[:200]}), and no method")
        return
    if problem := settings_problem(settings):
        refuse(f"adapter: {problem}", "Install a newer s3router, or pack again.")
    method = settings["method"]
    if not adapter:
        refuse(f"adapter {method}: it has no tensors")
    try:
        targets = by_target(adapter, settings)
    except PackError as error:
        refuse(str(error))
    for target, parts in targets.items():
        name = f"adapter {method} of {target[:200]}"
        if lacking := [part for part in PARTS[method] if part not in parts]:
            refuse(f"{name}: {', '.join(lacking)} is missing")
        for part, tensor in parts.items():
            if tensor.dtype not in ((torch.uint8,) if part == "signs" else FLOATS):
                refuse(f"{name}: {part} is {tensor.dtype}")
            if tensor.dim() != PARTS[method][part] or not tensor.numel():
                refuse(f"{name}: {part} is {list(tensor.shape)}, and has {PARTS[method][part]} dimensions, none empty")
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                refuse(f"{name}: {part} holds NaN or infinite values", "Take a checkpoint from before it diverged.")
        shape = None
        if shapes is not None:
            weight = f"{target}.weight" if method == "houlsby" else target
            shape = tuple(shapes.get(weight, ()))
            if len(shape) != 2:
                kind = "linear layer" if method == "houlsby" else "matrix"
                refuse(f"the backbone has no {kind} {target[:200]} for its adapter", _NO_BACKBONE)
        for part, wanted in _due(method, parts, shape).items():
            if (found := tuple(parts[part].shape)) != wanted:
                refuse(
                    f"{name}: {part} is {list(found)}, and should be {list(wanted)}",
                    _NO_BACKBONE if shape else _NO_PACK,
                )
        if shape is not None:
            count = shape[0] * shape[1]
            if method == "sparse_delta" and parts["values"].numel() > count:
                refuse(f"{name}: {parts['values'].numel():,} values for {count:,} weights", _NO_BACKBONE)
            if method == "bitdelta" and count % 8 and int(parts["signs"][-1]) >> (count % 8):
                refuse(f"{name}: bits of signs behind the last weight are not 0")


def _due(method: str, parts: Mapping[str, Tensor], shape: tuple[int, int] | None) -> dict[str, tuple[int, ...]]:
    """The shapes that parts must have: on a weight of this shape, or (None) beside each other."""
    if method in ("lora", "dora"):
        rank, columns = parts["lora_A"].shape
        rows = len(parts["lora_B"])
        rows, columns = shape or (rows, columns)
        due = {"lora_A": (rank, columns), "lora_B": (rows, rank), "magnitude": (rows,)}
    elif method == "bitdelta":
        signs = len(parts["signs"]) if shape is None else -(-shape[0] * shape[1] // 8)
        due = {"signs": (signs,), "scale": (1,)}
    elif method == "row_scale":
        due = {"row_scale": (parts["row_scale"].shape[0] if shape is None else shape[0],)}
    elif method == "houlsby":
        inner, outer = parts["down.weight"].shape
        outer = outer if shape is None else shape[0]
        due = {"down.weight": (inner, outer), "down.bias": (inner,), "up.weight": (outer, inner), "up.bias": (outer,)}
    else:
        due = {}
    return {part: due[part] for part in PARTS[method] if part in due}


def sparse_positions(name: str, shape: Sequence[int], count: int, seed: int) -> Tensor:
    """Where the values of ``sparse_delta`` belong: `count` distinct places of a weight, at random, the same for ever.

    They are the first `count` distinct values of raw 64-bit outputs, modulo the weight's size, of numpy's PCG64 whose
    seed is the BLAKE2b hash (16 bytes, little-endian) of ``{seed} {name}``; of more than half of the places, those
    that are left out are drawn so. docs/packs.md says it for other readers.

    Args:
        name: the weight's plain name.
        shape: of the weight.
        count: from 0 to the number of weights.
        seed: from 0.

    Returns:
        int64 (count,), flat indices row after row, in ascending order.

    Raises:
        ConfigError: more places than weights, or a number below 0.
    """
    size = math.prod(shape)
    if not 0 <= count <= size or not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"{name}: {count} places of {size} with seed {seed}; take fewer, and numbers from 0")
    if count > size - count:
        left = np.ones(size, np.bool_)
        left[_draw(name, size, size - count, seed)] = False
        return torch.from_numpy(np.flatnonzero(left))
    return torch.from_numpy(np.sort(_draw(name, size, count, seed)))


def _draw(name: str, size: int, count: int, seed: int) -> np.ndarray:
    """The first `count` distinct values, int64 (count,), not sorted; at most half of `size`."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()
    generator = np.random.PCG64(int.from_bytes(digest, "little"))  # raw output: numpy promises that it stays
    drawn = first = np.empty(0, np.int64)
    while len(first) < count:  # 1.4 draws per place at most on average
        more = generator.random_raw(count + count // 2 + 16) % np.uint64(size)
        drawn = np.concatenate([drawn, more.astype(np.int64)])
        first = np.unique(drawn, return_index=True)[1]
    return drawn[np.sort(first)[:count]]


def resident(settings: Mapping[str, Any], name: str, shape: Sequence[int], parts: Mapping[str, Tensor]) -> dict:
    """The parts of a target as `adapted` takes them.

    Args:
        settings: ``method`` and its settings, as checked by `check`.
        name: the weight's plain name.
        shape: of the weight.
        parts: part -> tensor, as in the pack.

    Returns:
        the parts; of ``sparse_delta`` with ``positions``, int32 (k,) (int64 for very large weights), too.
    """
    found = dict(parts)
    if settings["method"] == "sparse_delta":
        positions = sparse_positions(name, shape, parts["values"].numel(), settings["seed"])
        found["positions"] = positions.int() if math.prod(shape) < 1 << 31 else positions
    return found


def adapted(settings: Mapping[str, Any], weight: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
    """A weight under an adapter of any method that is a function of it; gradients flow to floating parts.

    Computed in float32 where the weight's type is narrower, under autocast, too.

    Args:
        settings: ``method`` and its settings.
        weight: (rows, columns), floating point.
        parts: as from `resident`, of any floating type, on the weight's device.

    Returns:
        (rows, columns), a new tensor of the weight's dtype.
    """
    method = settings["method"]
    dtype = torch.promote_types(weight.dtype, torch.float32)
    with torch.autocast(weight.device.type, enabled=False):
        wide = weight.to(dtype)
        given = {part: tensor.to(dtype) if tensor.is_floating_point() else tensor for part, tensor in parts.items()}
        if method in ("lora", "dora"):
            result = torch.addmm(wide, given["lora_B"], given["lora_A"], alpha=settings["scale"])
            if method == "dora":
                # The lengths count as constant, as in the paper (4.3) and in PEFT; a row of zeros stays one.
                lengths = torch.linalg.norm(result.detach(), dim=1).clamp_min(1e-30)
                result = (given["magnitude"] / lengths)[:, None] * result
        elif method == "sparse_delta":
            result = wide.reshape(-1).index_add(0, given["positions"], given["values"]).view(weight.shape)
        elif method == "bitdelta":
            result = wide + _signed(given["signs"], given["scale"], weight.numel()).view(weight.shape)
        elif method == "row_scale":
            result = wide * given["row_scale"][:, None]
        else:
            raise ConfigError(f"method {method} is no function of a weight")
        return result.to(weight.dtype)


def _signed(signs: Tensor, scale: Tensor, count: int) -> Tensor:
    """Packed bits -> (count,), ± scale: eight numbers at a time from a table of all bytes."""
    byte, place = torch.arange(256, device=signs.device), torch.arange(8, device=signs.device)
    table = torch.where((byte[:, None] >> place) & 1 == 1, scale, -scale)
    return table.index_select(0, signs.int()).view(-1)[:count]


def houlsby(output: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
    """The output of a linear layer with a bottleneck adapter behind it: y + up(gelu(down(y))), gelu exact.

    Args:
        output: (…, d).
        parts: ``down.weight`` (b, d), ``down.bias`` (b,), ``up.weight`` (d, b), ``up.bias`` (d,), of the output's
            dtype.

    Returns:
        (…, d).
    """
    inner = F.gelu(F.linear(output, parts["down.weight"], parts["down.bias"]))
    return output + F.linear(inner, parts["up.weight"], parts["up.bias"])
