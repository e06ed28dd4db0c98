"""Padding that leaves no trace: an utterance's features do not depend on the batch that it is padded in.

s3prl's experts and some models let the padding of shorter utterances into their features. What is done about it here,
besides the front end's own part (`s3router.upstreams.front_end`), is the same for every vendor's model.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.upstreams.anatomy import Anatomy, Lengths


@dataclass
class RunningBatch:
    """The batch that is going through an upstream, for those of its parts that need to know lengths.

    Attributes:
        wavs: the waveforms, [(samples,)]; None between batches.
        frames: valid frames of each of them; None between batches.
        shared: where the front end's output is left by the first of several passes over one batch, and found by the
            others; None: each pass computes its own.
        only_store: end the forward pass once the features are in the cache.
        no_cache: compute all features anew.
        remembered: where the front end keeps its output of each waveform, by key; None: it keeps nothing in memory.
    """

    wavs: list[Tensor] | None = None
    frames: list[int] | None = None
    shared: dict[str, Any] | None = None
    only_store: bool = False
    no_cache: bool = False
    remembered: dict[Any, Tensor] | None = None

    @contextlib.contextmanager
    def of(self, wavs: list[Tensor], frames: list[int], shared: dict[str, Any] | None) -> Iterator[None]:
        """Run this batch for the length of a ``with`` block."""
        self.wavs, self.frames, self.shared = wavs, frames, shared
        try:
            yield
        finally:
            self.wavs = self.frames = self.shared = None


def make_exact(backbone: nn.Module, anatomy: Anatomy, batch: RunningBatch) -> None:
    """Make the parts between front end and layers count frames exactly, in place."""
    if hasattr(backbone, "forward_padding_mask") and anatomy.lengths is not None:
        own = backbone.forward_padding_mask
        backbone.forward_padding_mask = functools.partial(exact_padding_mask, anatomy.lengths, own)
    for name in (*anatomy.stacked_positions, *anatomy.frame_convolutions):
        backbone.get_submodule(name).register_forward_pre_hook(functools.partial(silence_padding, batch))

    for name in anatomy.batch_norms:
        norm = backbone.get_submodule(name)
        kind = type(norm)
        norm.__class__ = type(f"Constant{kind.__name__}", (_Constant, kind), {"__module__": kind.__module__})
        norm.eval()


class _Constant:
    """Mixed into the class of a batch norm: its statistics stay as they are, in training, too.

    Statistics of a batch would make an utterance's features depend on the others in it, and those that run along would
    change a backbone that is frozen.
    """

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)


def exact_padding_mask(lengths: Lengths, original: Callable, features: Tensor, padding_mask: Tensor) -> Tensor:
    """Padding of samples (B, samples) -> padding of frames (B, T): True past an utterance's last whole frame.

    In place of ``forward_padding_mask`` of s3prl's HuBERT, WavLM and UniSpeech-SAT, which cut the samples into as many
    equal chunks as there are frames, so that up to two frames past the end of a shorter utterance count as speech.
    wav2vec 2.0, data2vec and transformers count as here.
    """
    if features.size(1) != lengths.frames(padding_mask.size(1)):  # another frame rate (multi-resolution HuBERT)
        return original(features, padding_mask)
    frames = torch.tensor([lengths.frames(samples) for samples in (~padding_mask).sum(1).tolist()])
    return torch.arange(features.size(1), device=features.device) >= frames.to(features.device)[:, None]


def silence_padding(batch: RunningBatch, conv: nn.Conv1d, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """Pre-hook for a convolution over frames, (B, C, T): zeros past the end of each utterance, as alone in a batch."""
    (x,) = inputs
    frames = batch.frames
    if frames is None or len(frames) != x.size(0) or len(set(frames)) == 1 or x.size(2) < max(frames):
        return None
    beyond = torch.arange(x.size(2), device=x.device) >= torch.tensor(frames, device=x.device)[:, None]
    return (x.masked_fill(beyond[:, None], 0),)


def pad_to_one_frame(wavs: Sequence[Tensor], lengths: Lengths) -> tuple[list[Tensor], list[int]]:
    """Waveforms [(samples,)] with zeros behind those that are shorter than one frame, and the frames of each."""
    least = lengths.receptive_field
    wavs = [F.pad(wav, (0, least - len(wav))) if len(wav) < least else wav for wav in wavs]
    return wavs, [lengths.frames(len(wav)) for wav in wavs]


def repeat_last(hidden: list[Tensor], frames: list[int]) -> list[Tensor]:
    """Fill each (B, T, C) past an utterance's end with its last frame.

    S3PRLUpstream counts one frame for each stride of samples, one or two more than the convolutions give. Alone, an
    utterance gets them by repeating its last frame; so it does here in a batch.
    """
    if len(set(frames)) == 1:
        return hidden
    last = torch.tensor(frames, device=hidden[0].device) - 1
    valid = torch.arange(max(frames), device=last.device) <= last[:, None]
    rows = torch.arange(len(frames), device=last.device)
    return [
        torch.where(valid[:, :, None], h, h[rows, last][:, None]) if h.shape[:2] == valid.shape else h for h in hidden
    ]


def lengthen(hidden: Tensor, frames: int) -> Tensor:
    """(B, T, C) -> (B, frames, C) by repeating the last frame."""
    lacking = frames - hidden.size(1)
    return hidden if lacking == 0 else torch.cat((hidden, hidden[:, -1:].expand(-1, lacking, -1)), 1)
