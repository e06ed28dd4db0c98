"""The parts of a speech encoder, found by the names that HuggingFace, s3prl/fairseq and torchaudio give them.

Everything that has to know where an upstream's front end, layers or mask embedding are, or how many frames so many
samples give, asks an `Anatomy`. A new kind of model is described here, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

# Modules whose output is what the transformer encoder gets, first match wins. `dropout_input` is s3prl's and fairseq's
# (it follows post_extract_proj, which is absent where no change of width is needed).
_ENCODER_INPUTS = ("feature_projection", "dropout_input", "post_extract_proj")
_MASK_EMBEDDINGS = ("masked_spec_embed", "mask_emb", "mask_embedding")


class Lengths(Protocol):
    """What a front end makes of lengths."""

    @property
    def receptive_field(self) -> int:
        """Samples behind the first frame: fewer give no frame at all."""

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""

    def frames(self, samples: int) -> int:
        """Frames that come out for that many samples, never less than 0."""


@dataclass(frozen=True)
class ConvLengths:
    """`Lengths` of convolutions over the waveform that follow each other.

    Args:
        layers: (kernel, stride, padding, dilation) of each, in samples of its input, from the waveform upwards.
    """

    layers: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def of(cls, front_end: nn.Module) -> ConvLengths:
        """Read off the Conv1d modules of a front end, in their order."""
        return cls(
            tuple(
                (conv.kernel_size[0], conv.stride[0], int(conv.padding[0]), conv.dilation[0])
                for conv in front_end.modules()
                if isinstance(conv, nn.Conv1d)
            )
        )

    @property
    def receptive_field(self) -> int:
        samples = 1
        for kernel, stride, padding, dilation in reversed(self.layers):
            samples = (samples - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
        return max(samples, 1)

    @property
    def stride(self) -> int:
        return math.prod(stride for _, stride, _, _ in self.layers)

    def frames(self, samples: int) -> int:
        for kernel, stride, padding, dilation in self.layers:
            samples = (samples + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        return max(samples, 0)


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of a backbone are: names of modules in it, None (or empty) where it has no such part.

    Args:
        front_end: from waveforms to frames, below the transformer. It is frozen unless an upstream is trained from
            random weights, all routes share it, and its output is what the feature cache keeps.
        encoder_input: its output (B, T, C), or the first item of that, enters the transformer. Features are masked
            there.
        layers: the transformer layers, the lowest first.
        mask_embedding: the parameter (C,) that stood for masked frames in pretraining.
        stacked_positions: positional convolutions, where there are several on top of each other (data2vec).
        frame_convolutions: convolutions over frames inside the layers (Conformer).
        batch_norms: above the front end; their statistics stay those of pretraining.
        lengths: what the front end makes of lengths.
    """

    front_end: str | None = None
    encoder_input: str | None = None
    layers: tuple[str, ...] = ()
    mask_embedding: str | None = None
    stacked_positions: tuple[str, ...] = ()
    frame_convolutions: tuple[str, ...] = ()
    batch_norms: tuple[str, ...] = ()
    lengths: Lengths | None = None

    @classmethod
    def of(cls, backbone: nn.Module) -> Anatomy:
        """Look a backbone, or what wraps one, over."""
        front_end = _first_named(backbone, ("feature_extractor",), _has(nn.Conv1d))
        layers = _first_named(backbone, ("layers",), lambda m: isinstance(m, nn.ModuleList) and _has(nn.Linear)(m))
        return cls(
            front_end,
            _first_named(backbone, _ENCODER_INPUTS),
            () if layers is None else tuple(f"{layers}.{n}" for n in range(len(backbone.get_submodule(layers)))),
            _mask_embedding(backbone),
            _stacked_positions(backbone),
            _inside(backbone, layers, lambda m: isinstance(m, nn.Conv1d) and m.kernel_size[0] > 1),
            _batch_norms(backbone, front_end),
            None if front_end is None else _lengths(backbone.get_submodule(front_end)),
        )

    @property
    def receptive_field(self) -> int:
        """Samples that give one frame; 1 where the lengths are not known."""
        return 1 if self.lengths is None else self.lengths.receptive_field

    def in_front_end(self, name: str) -> bool:
        """Whether the parameter or module of that name belongs to the front end."""
        return self.front_end is not None and f"{name}.".startswith(f"{self.front_end}.")


def _lengths(front_end: nn.Module) -> Lengths:
    """What a front end says of itself, else what its convolutions tell."""
    return getattr(front_end, "lengths", None) or ConvLengths.of(front_end)


def _has(kind: type[nn.Module]) -> Callable[[nn.Module], bool]:
    return lambda module: any(isinstance(part, kind) for part in module.modules())


def _first_named(
    backbone: nn.Module, wanted: tuple[str, ...], fits: Callable[[nn.Module], bool] = lambda module: True
) -> str | None:
    """The module that bears the first of these names that is there at all, the outermost of them."""
    modules = sorted(backbone.named_modules(), key=lambda item: item[0].count("."))
    fitting = (name for end in wanted for name, m in modules if name.rsplit(".", 1)[-1] == end and fits(m))
    return next(fitting, None)


def _mask_embedding(backbone: nn.Module) -> str | None:
    names = (name for name, _ in backbone.named_parameters() if name.rsplit(".", 1)[-1] in _MASK_EMBEDDINGS)
    return next(names, None)


def _inside(backbone: nn.Module, layers: str | None, fits: Callable[[nn.Module], bool]) -> tuple[str, ...]:
    """Fitting modules in the layers."""
    if layers is None:
        return ()
    return tuple(name for name, module in backbone.get_submodule(layers).named_modules(prefix=layers) if fits(module))


def _batch_norms(backbone: nn.Module, front_end: str | None) -> tuple[str, ...]:
    norms = (name for name, module in backbone.named_modules() if isinstance(module, nn.BatchNorm1d))
    return tuple(name for name in norms if front_end is None or not name.startswith(f"{front_end}."))


def _stacked_positions(backbone: nn.Module) -> tuple[str, ...]:
    """Positional convolutions whose input is not 0 in padding: those behind another, or behind a batch norm."""
    found = _first_named(backbone, ("pos_conv", "pos_conv_embed"))
    if found is None:
        return ()
    inside = dict(backbone.get_submodule(found).named_modules(prefix=found))
    names = tuple(name for name, module in inside.items() if isinstance(module, nn.Conv1d))
    normed = any(isinstance(module, nn.BatchNorm1d) for module in inside.values())
    return names if len(names) > 1 or normed else ()
