"""The first transformer layers of an upstream alone: a part of a forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from s3router.errors import ConfigError


class LayersReached(Exception):
    """Ends a forward pass that was only made for the first layers."""


@contextlib.contextmanager
def stopping_after(backbone: nn.Module, layers: Sequence[str], states: list[Tensor]) -> Iterator[None]:
    """Within, a forward pass of `backbone` leaves the outputs of these layers in `states` and ends behind the last.

    Args:
        layers: names of the first layers, the lowest first.

    Raises:
        ConfigError: the pass came to its end without them.
    """

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        states.append(_first_tensor(output))
        if len(states) == len(layers):
            raise LayersReached

    handles = [backbone.get_submodule(name).register_forward_hook(keep) for name in layers]
    try:
        yield
        raise ConfigError(
            f"{type(backbone).__name__} does not run its layers in order, so the first cannot be had alone"
        )
    except LayersReached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def batch_first(state: Tensor, utterances: int, frames: int) -> Tensor:
    """A layer's output, (B, T, C) or, as in fairseq and s3prl, (T, B, C) -> (B, frames, C).

    Raises:
        ConfigError: it is neither.
    """
    if state.dim() == 3 and state.size(0) == utterances and state.size(1) >= frames:
        return state[:, :frames]
    if state.dim() == 3 and state.size(1) == utterances and state.size(0) >= frames:
        return state.transpose(0, 1)[:, :frames]
    raise ConfigError(
        f"a layer gives {tuple(state.shape)} for {utterances} utterances of up to {frames} frames; its first layers "
        "cannot be used alone"
    )


def _first_tensor(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = output[0]
    return output
