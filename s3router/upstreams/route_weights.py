"""The bits kept of a route, and the masked weights made from them for a forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from s3router.masks.functions import compute_dtype
from s3router.upstreams.mask_bits import write_masked


@dataclass
class RouteWeights:
    """What stays in memory of a pack: mask bits and further trained parameters, by their names in the backbone.

    A weight may have both (``train=("weights",)``): the mask then goes over the trained one.
    """

    bits: dict[str, Tensor]
    delta: dict[str, Tensor]

    @property
    def names(self) -> tuple[str, ...]:
        """The backbone's parameters that are others under this route."""
        return tuple(dict.fromkeys((*self.bits, *self.delta)))

    @property
    def nbytes(self) -> int:
        """Memory of it."""
        return sum(tensor.nbytes for tensor in (*self.bits.values(), *self.delta.values()))


@dataclass
class WorkingCopy:
    """Weights under a route, by name, in the dtype that products with them are computed in.

    Attributes:
        made_of: whatever the caller says that they were made of; None while they are not whole.
        tensors: name -> weight; a few of an earlier route may be left, to be used again.
    """

    made_of: Any = None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def fill(self, made_of: Any, route: RouteWeights, parameters: Mapping[str, nn.Parameter]) -> None:
        """Make them anew, in the memory that is there already where it fits."""
        self.made_of = None
        # Tensors made in inference mode could not be used outside of it later.
        with torch.inference_mode(False), torch.no_grad():
            for name, parameter in parameters.items():
                trained = route.delta.get(name)
                if name not in route.bits:
                    self.tensors[name] = trained.to(parameter, copy=True)
                    continue
                route.bits[name] = route.bits[name].to(parameter.device)
                weight = parameter if trained is None else trained.to(parameter)
                write_masked(weight, route.bits[name], self._room(name, parameter))
        self.made_of = made_of

    def _room(self, name: str, parameter: nn.Parameter) -> Tensor:
        dtype, old = compute_dtype(parameter), self.tensors.get(name)
        if old is None or (old.dtype, old.device) != (dtype, parameter.device):
            del old
            self.tensors.pop(name, None)  # its memory first
            self.tensors[name] = torch.empty(parameter.shape, dtype=dtype, device=parameter.device)
        return self.tensors[name]
