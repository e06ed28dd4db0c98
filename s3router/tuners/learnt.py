"""What a method has learnt of a model, as packs hold it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from s3router.masks import masks_of
from s3router.masks.attach import row_scales
from s3router.packs.bits import pack_bits
from s3router.packs.fingerprint import plain_name
from s3router.tuners import bitdelta, houlsby, peft_layers
from s3router.tuners.attach import RECORD
from s3router.tuners.methods import METHODS


@dataclass(frozen=True)
class Learnt:
    """New tensors on the CPU.

    Attributes:
        masks: weight's name in the plain model -> bool, the weight's shape, True = kept.
        delta: parameters that have other values now, by plain name; zero where a mask removes them.
        adapter: additions, ``{target}.{part}`` (`s3router.packs.adapters`).
        meta: how they are put to use; {} without additions.
    """

    masks: dict[str, Tensor] = field(default_factory=dict)
    delta: dict[str, Tensor] = field(default_factory=dict)
    adapter: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def learnt(module: nn.Module) -> Learnt:
    """What training has changed of a model, after any method (also those that only set ``requires_grad``)."""
    record = module.__dict__.get(RECORD, {})
    method = record.get("method")
    adapter = dict(_additions(module, method))
    if scales := row_scales(module):
        method, record = "row_scale", {}
        adapter = {f"{name}.row_scale": _own(scale) for name, scale in scales.items()}
    meta = {"method": method, **{k: v for k, v in record.items() if k not in ("method", "modules")}} if adapter else {}
    changed = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    everything = METHODS[method].prunes if record else not adapter
    if changed and everything:  # statistics of normalisation move where all weights do
        state = module.state_dict()
        changed |= {name: buffer for name, buffer in module.named_buffers() if name in state}
    delta = {plain: _own(tensor) for name, tensor in changed.items() if (plain := plain_name(name)) is not None}
    masks = {name: mask.cpu() for name, mask in masks_of(module).items()}
    for name in delta.keys() & masks.keys():
        delta[name].masked_fill_(~masks[name], 0)
    return Learnt(masks, delta, adapter, meta)


def _additions(module: nn.Module, method: str | None) -> Iterator[tuple[str, Tensor]]:
    if method == "bitdelta":
        yield from _changes(module)
        return
    of_layer = {
        "lora": peft_layers.lora_tensors,
        "dora": peft_layers.lora_tensors,
        "sparse_delta": peft_layers.sparse_tensors,
        "houlsby": houlsby.tensors,
    }.get(method)
    if of_layer is None:
        return
    for name, layer in module.named_modules():
        target = name if method == "houlsby" else f"{name}.weight"
        for part, tensor in (of_layer(layer) or {}).items():
            yield f"{target}.{part}", _own(tensor)


def _changes(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, layer in module.named_modules():
        if not parametrize.is_parametrized(layer):
            continue
        for parameter, chain in layer.parametrizations.items():
            if isinstance(chain[0], bitdelta.Change):
                plus, scale = chain[0].quantised()
                yield f"{name}.{parameter}.signs", torch.from_numpy(pack_bits(plus))
                yield f"{name}.{parameter}.scale", _own(scale)


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()
