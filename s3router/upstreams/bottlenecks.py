"""Bottleneck adapters behind linear layers (Houlsby et al., arXiv 1902.00751), there while a route is applied."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from s3router.errors import PackError
from s3router.packs.adapters import houlsby

_READ_WEIGHTS = ("MultiheadAttention", "WavLMAttention")
"""Classes (torch's and those after fairseq's, transformers') that multiply by the weights of layers they never call."""


def check_layer(backbone: nn.Module, name: str, where: str) -> None:
    """Refuse a place behind which no bottleneck would be computed.

    Args:
        name: of a module with a matrix as its weight.
        where: what comes first in the message.

    Raises:
        PackError: it is no linear layer, or the module around it reads its weight without calling it.
    """
    parent, _, _ = name.rpartition(".")
    if not isinstance(backbone.get_submodule(name), nn.Linear):
        raise PackError(f"{where}: {name} is no linear layer, and bottlenecks stand behind these. Train without it.")
    if type(backbone.get_submodule(parent)).__name__ in _READ_WEIGHTS:
        raise PackError(
            f"{where}: {parent} multiplies by the weight of {name} itself, so that no bottleneck can stand behind it. "
            "Train without it (--method_conf targets=ffn)."
        )


@contextlib.contextmanager
def attached(backbone: nn.Module, bottlenecks: Mapping[str, Mapping[str, Tensor]]) -> Iterator[None]:
    """The backbone with bottlenecks for the length of a ``with`` block.

    Args:
        bottlenecks: name of a linear layer -> its parts, as `s3router.packs.adapters.houlsby` takes them.
    """
    with contextlib.ExitStack() as stack:
        for name, parts in bottlenecks.items():
            handle = backbone.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, parts=parts: houlsby(output, parts)
            )
            stack.callback(handle.remove)
        yield
