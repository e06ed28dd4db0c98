"""What masks do to a representation: CKA between the frozen and the routed upstream, layer by layer, on given audio."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s3router.analysis.cka import MinibatchCKA
from s3router.data.audio import read_audio
from s3router.data.kaldi import Utterance
from s3router.errors import DataError
from s3router.packs import MaskPack
from s3router.upstreams.routed import RoutedUpstream
from s3router.upstreams.routes import Routes

FROZEN = "frozen"
"""The label of the upstream without a route."""
_SECONDS = 40.0  # of audio in a batch


@dataclass(frozen=True)
class Resident:
    """A backbone in memory.

    Attributes:
        module: the bare model that masks are for: an encoder, or encoder and decoder.
        fingerprint: of it.
        upstream: gives the encoder's hidden states.
        routes: of `module`.
        device: that it runs on while it has routes (`routed`); otherwise it rests on the CPU, where its weights are
            compared.
    """

    module: nn.Module
    fingerprint: str
    upstream: RoutedUpstream
    routes: Routes
    device: str = "cpu"

    @torch.inference_mode()
    def hidden(self, waves: Sequence[Tensor], labels: Sequence[str]) -> Iterator[list[Tensor]]:
        """[(samples,)] at 16 kHz -> under each route (`FROZEN`: none) the hidden states [(frames of all, C)] * layers.

        Frames of padding are left out. The front end, which routes share, runs once. What comes out is on the CPU.
        """
        shared: dict[str, Any] = {}
        placed = [wave.to(self.device) for wave in waves]
        for label in labels:
            with self.routes.applied(None if label == FROZEN else label):
                states = [state.cpu() for state in self.upstream.hidden(placed, shared)]
            frames = self.frames(waves, states[0].size(1))
            yield [torch.cat([row[:n] for row, n in zip(state, frames, strict=True)]) for state in states]

    def frames(self, waves: Sequence[Tensor], most: int) -> list[int]:
        """Of each waveform [(samples,)]; all `most`, where the upstream does not say what it makes of lengths."""
        lengths = self.upstream.anatomy.lengths
        return [most if lengths is None else max(lengths.frames(len(wave)), 1) for wave in waves]


def load_resident(
    source: str | os.PathLike, upstream: str | None = None, ckpt: str | None = None, device: str = "cpu"
) -> Resident:
    """The backbone of a pack or an experiment.

    Args:
        upstream, ckpt: name and checkpoint, where the source's own do not hold.
        device: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        PackError, CheckpointError, ConfigError: as `s3router.serving.loading.load_routes`.
    """
    from s3router.serving.loading import backbone_of, is_whole, whole_model
    from s3router.training.processes import check_device
    from s3router.upstreams.hub import build

    check_device(device)
    upstream, ckpt = backbone_of(source, upstream, ckpt)
    if is_whole(source):
        model = whole_model(upstream, ckpt, str(source))
        whole = model.whole
        return Resident(whole.model.eval(), whole.fingerprint, model.upstream.eval(), whole.routes, device)
    routed = build(ckpt=ckpt, upstream=upstream).eval()
    return Resident(routed.backbone, routed.backbone_fingerprint, routed, routed.routes, device)


@contextlib.contextmanager
def routed(resident: Resident, packs: Sequence[tuple[str, MaskPack]]) -> Iterator[None]:
    """The backbone with these (label, pack) as routes, on its device, for the length of a ``with`` block."""
    parts = (resident.module, resident.upstream)
    try:
        for part in parts:
            part.to(resident.device)
        for label, pack in packs:
            resident.routes.add(replace(pack, route=label))
        yield
    finally:
        for name in resident.routes.names:
            resident.routes.remove(name)
        for part in parts:
            part.cpu()


@dataclass(frozen=True)
class Alignment:
    """How alike representations are.

    Attributes:
        labels: `FROZEN`, then the routes.
        cka: float64 (layers, labels, labels); the first layer is what enters the transformer.
        frames, seconds, recordings: that it rests on.
    """

    labels: tuple[str, ...]
    cka: np.ndarray
    frames: int
    seconds: float
    recordings: int


def align(
    resident: Resident,
    packs: Sequence[tuple[str, MaskPack]],
    recordings: Sequence[Utterance],
    frames: int = 512,
    seed: int = 0,
    told: Callable[[float], None] | None = None,
) -> Alignment:
    """CKA of every pair of routes, and of each with the frozen upstream.

    Args:
        packs: label and pack of each route; they are added to `resident` and removed again.
        recordings: with durations; at other rates than 16 kHz they are resampled.
        frames: at most so many of a batch, drawn at random: neighbours say nearly the same.
        seed: of the draws.
        told: is called after each batch with the share that is done.

    Raises:
        DataError: a recording cannot be read, or there is too little audio.
    """
    labels = (FROZEN, *(label for label, _ in packs))
    generator = np.random.default_rng(seed)
    cka: MinibatchCKA | None = None
    used, seconds = 0, 0.0
    planned = list(batches(recordings))
    with routed(resident, packs):
        for number, batch in enumerate(planned, 1):
            waves = [torch.from_numpy(read_audio(utt.source)) for utt in batch]
            seconds += sum(len(wave) for wave in waves) / 16_000
            states: list[list[Tensor]] = []
            chosen: Tensor | None = None
            for hidden in resident.hidden(waves, labels):
                if chosen is None:
                    count = len(hidden[0])
                    chosen = torch.from_numpy(np.sort(generator.permutation(count)[:frames]))
                states.append([state[chosen] for state in hidden])
            if len(chosen) >= 4:  # fewer say nothing
                cka = cka or MinibatchCKA(len(labels), len(states[0]))
                cka.add(states)
                used += len(chosen)
            if told is not None:
                told(number / len(planned))
    if cka is None:
        raise DataError("too little audio to compare representations on; give some seconds of speech at least")
    return Alignment(labels, cka.value.numpy(), used, seconds, len(recordings))


def batches(recordings: Sequence[Utterance]) -> Iterator[list[Utterance]]:
    """Recordings by duration, so that little is padding; each batch about 40 s long."""
    batch: list[Utterance] = []
    for utt in sorted(recordings, key=lambda utt: (utt.duration, utt.utt)):
        if batch and (len(batch) + 1) * utt.duration > _SECONDS:
            yield batch
            batch = []
        batch.append(utt)
    if batch:
        yield batch
