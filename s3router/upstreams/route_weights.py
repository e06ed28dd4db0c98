"""What is kept of a route, and the weights made from it for a forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s3router.masks.functions import compute_dtype
from s3router.packs.adapters import adapted
from s3router.upstreams.mask_bits import write_masked

_ALIGNED = 64  # bytes: as torch aligns its own tensors


@dataclass
class RouteWeights:
    """What stays in memory of a pack, in its dtypes, by the backbone's names.

    A weight may have several of them: it is replaced first, then adapted, then masked.

    Attributes:
        bits: weight -> its mask, packed.
        delta: parameter -> what replaces it.
        settings: the adapter's method and settings; empty without one.
        adapter: weight -> parts, as `s3router.packs.adapters.resident` gives them.
        bottlenecks: linear layer -> parts of what stands behind it.
    """

    bits: dict[str, Tensor]
    delta: dict[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    adapter: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    bottlenecks: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The backbone's parameters that are others under this route."""
        return tuple(dict.fromkeys((*self.bits, *self.delta, *self.adapter)))

    @property
    def made_from(self) -> tuple[str, ...]:
        """The backbone's parameters that the route's working copy depends on."""
        return tuple(dict.fromkeys((*self.names, *(f"{layer}.weight" for layer in self.bottlenecks))))

    @property
    def nbytes(self) -> int:
        """Memory of it."""
        parts = [part for each in (*self.adapter.values(), *self.bottlenecks.values()) for part in each.values()]
        return sum(tensor.nbytes for tensor in (*self.bits.values(), *self.delta.values(), *parts))

    def move(self, name: str, device: torch.device) -> None:
        """Bring what is kept for a weight, or for the layer that it belongs to, to its device."""
        if name in self.bits:
            self.bits[name] = self.bits[name].to(device)
        for parts in (self.adapter.get(name, {}), self.bottlenecks.get(name.removesuffix(".weight"), {})):
            parts |= {part: tensor.to(device) for part, tensor in parts.items()}


@dataclass
class WorkingCopy:
    """Weights under a route, and bottlenecks' own, by name, in the dtype that products with them are computed in.

    Attributes:
        made_of: the route's name, and whatever else the caller says that they were made of; None: they are not whole.
        tensors: name -> weight; a few of an earlier route may be left, to be used again.
    """

    made_of: Any = None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def is_of(self, route: str) -> bool:
        """Whether it is whole, and of the route of this name."""
        return self.made_of is not None and self.made_of[0] == route

    def fill(self, made_of: Any, route: RouteWeights, parameters: Mapping[str, nn.Parameter]) -> None:
        """Make them anew, in the memory that is there already where it fits."""
        self.made_of = None
        # Tensors made in inference mode could not be used outside of it later.
        with torch.inference_mode(False), torch.no_grad():
            for name, parameter in parameters.items():
                route.move(name, parameter.device)
                self._fill_weight(name, route, parameter)
                layer = name.removesuffix(".weight")
                for part, tensor in route.bottlenecks.get(layer, {}).items():
                    self.tensors[f"{layer}.{part}"] = tensor.to(compute_dtype(parameter), copy=True)
        self.made_of = made_of

    def bottlenecks(self, route: RouteWeights) -> dict[str, dict[str, Tensor]]:
        """Linear layer -> parts of what stands behind it under the route that it was filled with."""
        return {
            layer: {part: self.tensors[f"{layer}.{part}"] for part in parts}
            for layer, parts in route.bottlenecks.items()
        }

    def _fill_weight(self, name: str, route: RouteWeights, parameter: nn.Parameter) -> None:
        trained = route.delta.get(name)
        if name in route.bits or name in route.adapter:
            weight = parameter if trained is None else trained.to(parameter)
            if name in route.adapter:
                weight = adapted(route.settings, weight, route.adapter[name])
            room = self._room(name, parameter)
            if name in route.bits:
                write_masked(weight, route.bits[name], room)
            else:
                room.copy_(weight)
        elif trained is not None:
            self.tensors[name] = trained.to(parameter, copy=True)

    def _room(self, name: str, parameter: nn.Parameter) -> Tensor:
        dtype, old = compute_dtype(parameter), self.tensors.get(name)
        if old is None or (old.dtype, old.device) != (dtype, parameter.device):
            del old
            self.tensors.pop(name, None)  # its memory first
            self.tensors[name] = _empty(parameter.shape, dtype, parameter.device)
        return self.tensors[name]


def _empty(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """As `torch.empty`; on a CPU from numpy, which asks Linux for huge pages: a third of the time at first use."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    size = shape.numel() * dtype.itemsize
    flat = np.empty(size + _ALIGNED, np.uint8)
    start = -flat.ctypes.data % _ALIGNED
    return torch.from_numpy(flat[start : start + size]).view(dtype).view(shape)
