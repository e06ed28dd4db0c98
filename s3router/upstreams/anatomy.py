"""Finding the parts of a speech backbone by name, in the naming of HuggingFace, s3prl/fairseq and torchaudio."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Modules whose output is what the transformer encoder gets, first match wins. `dropout_input` is s3prl's and fairseq's
# (it follows post_extract_proj, which is absent where no change of width is needed).
_PROJECTIONS = ("feature_projection", "dropout_input", "post_extract_proj")
_MASK_EMBEDDINGS = ("masked_spec_embed", "mask_emb", "mask_embedding")


@dataclass(frozen=True)
class ConvGeometry:
    """What a stack of convolutions does to lengths.

    Args:
        layers: (kernel, stride, padding, dilation) of each, in samples of its input, from the waveform upwards.
    """

    layers: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def of(cls, extractor: nn.Module) -> ConvGeometry:
        """Read it off the Conv1d modules of a feature extractor, which must follow each other."""
        return cls(
            tuple(
                (conv.kernel_size[0], conv.stride[0], int(conv.padding[0]), conv.dilation[0])
                for conv in extractor.modules()
                if isinstance(conv, nn.Conv1d)
            )
        )

    def frames(self, samples: int) -> int:
        """Frames that come out for that many samples, never less than 0."""
        for kernel, stride, padding, dilation in self.layers:
            samples = (samples + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        return max(samples, 0)

    @property
    def receptive_field(self) -> int:
        """Samples behind the first frame: fewer give no frame at all (without padding)."""
        samples = 1
        for kernel, stride, padding, dilation in reversed(self.layers):
            samples = (samples - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
        return max(samples, 1)


def find_feature_extractor(backbone: nn.Module) -> tuple[str, nn.Module] | None:
    """(name, module) of the convolutions over the waveform, or None where the backbone has none."""
    return _first_named(backbone, ("feature_extractor",), lambda m: any(isinstance(c, nn.Conv1d) for c in m.modules()))


def find_projection(backbone: nn.Module) -> tuple[str, nn.Module] | None:
    """(name, module) whose output (B, T, C), or the first item of it, enters the transformer encoder, or None."""
    return _first_named(backbone, _PROJECTIONS, lambda module: True)


def find_stacked_positions(backbone: nn.Module) -> list[nn.Conv1d]:
    """The positional convolutions of a model that stacks several (data2vec); empty for a single one, or none."""
    found = _first_named(backbone, ("pos_conv", "pos_conv_embed"), lambda module: True)
    convolutions = [module for module in found[1].modules() if isinstance(module, nn.Conv1d)] if found else []
    return convolutions if len(convolutions) > 1 else []


def find_layers(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, module) of every transformer layer, the lowest first; empty where there is no list of them."""
    found = _first_named(
        backbone,
        ("layers",),
        lambda m: isinstance(m, nn.ModuleList) and any(isinstance(part, nn.Linear) for part in m.modules()),
    )
    return [(f"{found[0]}.{index}", layer) for index, layer in enumerate(found[1])] if found else []


def find_mask_embedding(backbone: nn.Module) -> tuple[nn.Module, str] | None:
    """(module, attribute) of the vector (C,) that stood for masked frames in pretraining, or None."""
    for module in backbone.modules():
        for name in _MASK_EMBEDDINGS:
            if isinstance(getattr(module, name, None), nn.Parameter):
                return module, name
    return None


def _first_named(backbone: nn.Module, names: tuple[str, ...], fits) -> tuple[str, nn.Module] | None:
    modules = sorted(backbone.named_modules(), key=lambda item: item[0].count("."))
    for wanted in names:
        for name, module in modules:
            if name.rsplit(".", 1)[-1] == wanted and fits(module):
                return name, module
    return None


def exact_padding_mask(geometry: ConvGeometry, original, features: Tensor, padding_mask: Tensor) -> Tensor:
    """Padding of samples (B, samples) -> padding of frames (B, T): True past an utterance's last whole frame.

    In place of ``forward_padding_mask`` of s3prl's HuBERT, WavLM and UniSpeech-SAT, which cut the samples into as many
    equal chunks as there are frames, so that up to two frames past the end of a shorter utterance count as speech, and
    its features depend on the longest one of the batch. wav2vec 2.0, data2vec and transformers count as here.
    """
    if features.size(1) != geometry.frames(padding_mask.size(1)):  # another frame rate (multi-resolution HuBERT)
        return original(features, padding_mask)
    frames = torch.tensor([geometry.frames(samples) for samples in (~padding_mask).sum(1).tolist()])
    return torch.arange(features.size(1), device=features.device) >= frames.to(features.device)[:, None]
