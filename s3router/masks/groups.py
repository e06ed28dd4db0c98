"""Groups of weights that can be removed together, and so for good: hidden units and attention heads.

Of a feed-forward layer a hidden unit is a row of the first linear and a column of the second; an attention head is some
rows of the query, key and value projections and the same number of columns of the output projection. Nothing else
reads what a unit gives: where its columns are zero, all of it can go.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from s3router.errors import ConfigError

_PARTNERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fc2": ("ffn", ("fc1",)),
    "output_dense": ("ffn", ("intermediate_dense",)),
    "w_2": ("ffn", ("w_1",)),
    "linear2": ("ffn", ("linear1",)),
    "out_proj": ("attention", ("q_proj", "k_proj", "v_proj")),
    "linear_out": ("attention", ("linear_q", "linear_k", "linear_v")),
}
"""Last linear of a layer -> its role, and those before it, in the names of all vendors."""


_COLUMNS = re.compile(r"(?:.*\.)?(?:fc2|output_dense|w_2|linear2|channel_proj2|output\.dense)\.weight")
_ROWS = re.compile(r"(?:.*\.)?(?:fc1|intermediate_dense|w_1|linear1|channel_proj1\.0|intermediate\.dense)\.weight")


def hidden_axis(name: str) -> int | None:
    """The axis of a feed-forward weight (rows, columns) that its hidden units are on, by its name.

    0: each row gives a unit; 1: each column reads one; None: the name does not say. Shapes do not either: narrow layers
    have fewer units than channels.
    """
    return 0 if _ROWS.fullmatch(name) else 1 if _COLUMNS.fullmatch(name) else None


@dataclass(frozen=True)
class Group:
    """The units of one layer.

    Attributes:
        role: ``ffn`` or ``attention``.
        inputs: modules whose rows the units are: the first linear; query, key, value.
        output: the module whose columns they are.
        units: hidden units, or heads.
        size: rows of each input, and columns of the output, per unit.
    """

    role: str
    inputs: tuple[str, ...]
    output: str
    units: int
    size: int

    @property
    def weight(self) -> str:
        """Name of the output's weight, whose columns are masked."""
        return f"{self.output}.weight"


def find_groups(module: nn.Module, weights: Collection[str] | None = None) -> list[Group]:
    """The groups of a model, in its order.

    Args:
        weights: names of weights; groups whose output's weight is among them. None: all that there are.

    Raises:
        ConfigError: a weight belongs to no group; none is found.
    """
    modules = dict(module.named_modules())
    found = [group for name in modules if (group := _group(modules, name)) is not None]
    if weights is not None:
        found = [group for group in found if group.weight in weights]
        covered = {group.weight for group in found} | {f"{name}.weight" for group in found for name in group.inputs}
        if alone := [name for name in weights if name not in covered]:
            raise ConfigError(
                f"granularity group: {', '.join(alone[:4])} belong to no feed-forward or attention layer of separate "
                "linears whose units could be removed; name others in targets, or take another granularity"
            )
    if not found:
        raise ConfigError(f"{type(module).__name__} has no feed-forward or attention layers of separate linears")
    return found


def _group(modules: dict[str, nn.Module], output: str) -> Group | None:
    above, _, last = output.rpartition(".")
    if last not in _PARTNERS or not isinstance(modules[output], nn.Linear):
        return None
    role, partners = _PARTNERS[last]
    inputs = tuple(f"{above}.{name}" if above else name for name in partners)
    columns = modules[output].in_features
    if any(not isinstance(modules.get(n), nn.Linear) or modules[n].out_features != columns for n in inputs):
        return None
    units = columns
    if role == "attention":
        units = getattr(modules[above], "num_heads", None) or getattr(modules[above], "h", None)
        if units is None or columns % units:
            return None
    return Group(role, inputs, output, units, columns // units)


def weight_of(module: nn.Module, name: str) -> Tensor:
    """A linear's weight (rows, columns), past a parametrization."""
    linear = module.get_submodule(name)
    if parametrize.is_parametrized(linear, "weight"):
        return linear.parametrizations["weight"].original
    return linear.weight


def unit_cost(module: nn.Module, group: Group) -> int:
    """Weights of one unit: its rows of the inputs and its columns of the output; as many multiplications in each frame.

    (Without the products of queries, keys and values of a head, which depend on the length of the audio.)
    """
    rows = sum(module.get_submodule(name).in_features for name in group.inputs)
    return group.size * (rows + module.get_submodule(group.output).out_features)


@torch.no_grad()
def group_magnitudes(module: nn.Module, group: Group) -> Tensor:
    """Mean magnitude of all weights of each unit: float32 (1, units)."""
    rows = [weight_of(module, name).abs().float().view(group.units, -1) for name in group.inputs]
    columns = weight_of(module, group.output).abs().float().t().reshape(group.units, -1)
    return torch.cat([*rows, columns], 1).mean(1)[None]
