"""Removing units for good: a model with fewer rows and columns, and the same outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.masks.groups import Group, find_groups


@dataclass(frozen=True)
class Shrunk:
    """What is left of the units of a layer.

    Attributes:
        group: as it was before.
        kept: numbers of the units that are left, in order.
    """

    group: Group
    kept: tuple[int, ...]


@torch.no_grad()
def shrink(module: nn.Module, masks: Mapping[str, Tensor]) -> list[Shrunk]:
    """Take out of a plain model, in place, every unit that masks remove as a whole.

    A unit is a hidden unit of a feed-forward layer or an attention head (`s3router.masks.groups`); it goes where no
    column of it is kept, but one stays in a layer that would be empty, and heads stay where attention has more of each
    than its projections. Outputs stay what they were under the masks, up to rounding. Other zeros stay where they are.

    Args:
        module: with the masks written into it already (`s3router.packs.merging.merge`).
        masks: weight's name -> bool (rows, columns), True = kept.

    Returns:
        The layers that have become smaller, in the order of the model.

    Raises:
        ConfigError: nothing is removed as a whole, or nothing but heads that stay. The model is left as it was.
    """
    found = [group for group in find_groups(module) if group.weight in masks]
    plan, staying = [], []
    for group in found:
        units = masks[group.weight].any(0).view(group.units, group.size).any(1)
        # a layer cannot be empty; the unit that stays there has only zeros to say
        kept = tuple(units.nonzero().flatten().tolist()) or (0,)
        if len(kept) == group.units:
            continue
        if group.role == "attention" and (why := _why_heads_stay(module, group)):
            staying.append(why)
        else:
            plan.append(Shrunk(group, kept))
    if not plan and staying:
        raise ConfigError(f"{staying[0]}; its heads cannot be taken out, only hidden units of ffn")
    if not plan:
        raise ConfigError(
            "no hidden unit and no attention head is removed as a whole, so that nothing can be taken out; train with "
            "mask_conf granularity: group, or write zeros instead (s3router bake)"
        )
    for each in plan:
        _take_out(module, each)
    return plan


def _why_heads_stay(module: nn.Module, group: Group) -> str | None:
    """What attention has of each of its heads besides the four projections, in words; None where it has nothing."""
    above = group.output.rpartition(".")[0]
    attention = module.get_submodule(above)
    own = {name.removeprefix(f"{above}.") for name in (*group.inputs, group.output)}
    others = [name for name, _ in attention.named_parameters() if name.rpartition(".")[0] not in own]
    named = f"{above} ({type(attention).__name__})"
    if others:
        return f"{named} has {', '.join(others[:3])} besides its projections"
    return None if hasattr(attention, "head_dim") else f"{named} does not say how wide a head is"


def _take_out(module: nn.Module, shrunk: Shrunk) -> None:
    group = shrunk.group
    places = (torch.tensor(shrunk.kept)[:, None] * group.size + torch.arange(group.size)).flatten()
    for name in group.inputs:
        linear = module.get_submodule(name)
        linear.weight = nn.Parameter(linear.weight[places].clone(), linear.weight.requires_grad)
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.bias[places].clone(), linear.bias.requires_grad)
        linear.out_features = len(places)
    output = module.get_submodule(group.output)
    output.weight = nn.Parameter(output.weight[:, places].clone(), output.weight.requires_grad)
    output.in_features = len(places)
    if group.role == "attention":
        attention = module.get_submodule(group.output.rpartition(".")[0])
        attention.num_heads, attention.embed_dim = len(shrunk.kept), len(places)


def fit_config(module: nn.Module) -> bool:
    """Write the sizes of a transformers model into its configuration, in place, as far as that has a place for them.

    Returns:
        Whether it has: all feed-forward layers of a stack are of one size, and all heads are there. If so, transformers
        itself loads the model.
    """
    groups = find_groups(module)
    config = module.config
    sizes: dict[str, set[int]] = {}
    for group in groups:
        stack = "decoder" if ".decoder." in f".{group.output}" else "encoder"
        name = "intermediate_size" if hasattr(config, "intermediate_size") else f"{stack}_ffn_dim"
        if group.role == "ffn":
            sizes.setdefault(name, set()).add(group.units)
        elif group.units * group.size != module.get_submodule(group.output).out_features:
            return False
    if any(len(found) > 1 for found in sizes.values()):
        return False
    for name, (size,) in sizes.items():
        setattr(config, name, size)
    return True


def layers_in_words(shrunk: Sequence[Shrunk]) -> str:
    """Such as ``12 feed-forward layers with 1,536 of 3,072 hidden units``."""
    words = []
    for role, layers, units in (("ffn", "feed-forward", "hidden units"), ("attention", "attention", "heads")):
        found = [each for each in shrunk if each.group.role == role]
        if found:
            left, of = sum(len(each.kept) for each in found), sum(each.group.units for each in found)
            words.append(f"{len(found)} {layers} layers with {left:,} of {of:,} {units}")
    return " and ".join(words)
