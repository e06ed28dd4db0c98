"""Which language is spoken, by a classifier on the first layers of the bare backbone: a part of one forward pass.

The classifier is logistic regression on the mean and the standard deviation over time of one layer's output,
standardised. It is kept in a small file of its own, bound to the backbone by its fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from s3router.asr.ctc_decode import BatchOptions, plan_batches
from s3router.data.audio import SAMPLE_RATE
from s3router.data.kaldi import Utterance
from s3router.data.threads import read_ahead
from s3router.errors import ConfigError, PackError
from s3router.packs.container import LANGID, read_container, refuse, write_container
from s3router.serving.reading import WaveReader
from s3router.upstreams.upstream import Upstream

VERSION = 1
_TENSORS = ("mean", "scale", "weight", "bias")
_KEYS = {"languages", "layers", "backbone", "checkpoint", "fingerprint", "training"}


@dataclass(frozen=True)
class LanguageClassifier:
    """Logistic regression over pooled hidden states.

    Attributes:
        languages: at least two; names of routes.
        layers: it sees the output of this one, counted from 1; the ones above are not computed.
        mean, scale: (2C,), float32: taken off the features, which are then divided by it.
        weight: (languages, 2C), float32.
        bias: (languages,), float32.
        backbone, checkpoint, fingerprint: the upstream that it is for.
        training: how it was made, for people: corpora, seconds, accuracy on dev.
    """

    languages: tuple[str, ...]
    layers: int
    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    backbone: str
    checkpoint: str | None
    fingerprint: str
    training: Mapping[str, Any]

    def log_probs(self, features: np.ndarray, among: Sequence[str] | None = None) -> list[dict[str, float]]:
        """Features (recordings, 2C) -> of each recording language -> log probability, the best first.

        Args:
            among: the languages that it could be; by default all.

        Raises:
            ConfigError: a language that the classifier does not know.
        """
        among = self.check(among or self.languages)
        rows = [self.languages.index(lang) for lang in among]
        logits = ((features - self.mean) / self.scale) @ self.weight[rows].T + self.bias[rows]
        values = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return [dict(sorted(zip(among, map(float, row), strict=True), key=lambda item: -item[1])) for row in values]

    def check(self, languages: Sequence[str]) -> list[str]:
        """The languages themselves; raises ConfigError for unknown ones."""
        if unknown := [lang for lang in languages if lang not in self.languages]:
            raise ConfigError(
                f"the language classifier does not know {', '.join(unknown)} (known: {', '.join(self.languages)}); fit "
                "it with data of them (s3router langid --fit), or name the candidates with --among"
            )
        return list(languages)

    def check_backbone(self, upstream: Upstream) -> None:
        """Raises PackError where the upstream is not the one that it was fitted on."""
        if self.fingerprint != upstream.backbone_fingerprint:
            raise PackError(
                f"the language classifier is for another backbone ({self.backbone}, fingerprint {self.fingerprint}; "
                f"this one is {upstream.backbone_fingerprint}). Fit one on this backbone (s3router langid --fit)."
            )
        states, width = upstream.outline
        if len(self.mean) != 2 * width or self.layers >= states:
            raise PackError(
                f"the language classifier is for {self.layers} layers of width {len(self.mean) / 2:g}, the backbone "
                f"has {states - 1} of width {width}. Fit one on this backbone (s3router langid --fit)."
            )

    def figures(self) -> dict[str, Any]:
        """What there is to know of it besides its numbers, as plain data for JSON."""
        told = {name: getattr(self, name) for name in ("layers", "backbone", "checkpoint", "fingerprint")}
        return {"languages": list(self.languages), **told, "training": dict(self.training)}

    def save(self, path: str | os.PathLike) -> int:
        """Write the file, whole or not at all; returns its bytes."""
        tensors = {name: ("F32", getattr(self, name).astype(np.float32)) for name in _TENSORS}
        told = {name: getattr(self, name) for name in _KEYS} | {"languages": list(self.languages)}
        return write_container(path, tensors, VERSION, {name: told[name] for name in sorted(told)}, LANGID)

    @classmethod
    def load(cls, path: str | os.PathLike) -> LanguageClassifier:
        """Read one. The file may come from anywhere: everything about it is checked, and nothing in it is run.

        Raises:
            PackError: it is damaged, or another kind of file.
        """
        tensors, told, *_ = read_container(path, VERSION, LANGID)
        languages, layers = told.get("languages"), told.get("layers")
        if told.keys() != _KEYS or not (
            isinstance(languages, list)
            and len(languages) >= 2
            and len(set(map(str, languages))) == len(languages)
            and all(isinstance(name, str) for name in (*languages, told["backbone"], told["fingerprint"]))
            and type(layers) is int
            and layers >= 1
            and isinstance(told["checkpoint"], str | None)
            and isinstance(told["training"], dict)
        ):
            refuse(path, "its description is damaged")
        arrays = {name: array for name, (dtype, array) in tensors.items() if dtype == "F32"}
        width = arrays["mean"].shape[-1:] if "mean" in arrays else ()
        shapes = {"mean": width, "scale": width, "weight": (len(languages), *width), "bias": (len(languages),)}
        if (
            not width
            or {name: array.shape for name, array in arrays.items()} != shapes
            or tensors.keys() != shapes.keys()
        ):
            refuse(path, f"its tensors are not those of a classifier of {len(languages)} languages")
        if not all(np.isfinite(array).all() for array in arrays.values()) or not (arrays["scale"] > 0).all():
            refuse(path, "its tensors are not all finite, or it would divide by 0")
        return cls(**(told | {"languages": tuple(languages)}), **arrays)


@torch.inference_mode()
def pooled(upstream: Upstream, waves: Sequence[np.ndarray], layers: int, bf16: bool = False) -> np.ndarray:
    """Waveforms [(samples,)], float32 at 16 kHz -> float32 (waveforms, layers, 2C): mean and standard deviation over
    time of the outputs of the first layers of the bare backbone.
    """
    device = next(upstream.parameters()).device
    wavs = [torch.from_numpy(wave).to(device) for wave in waves]
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        states, frames = upstream.first_layers(wavs, layers)
    found = [
        [torch.cat((state[:count].mean(0), state[:count].std(0, correction=0))) for state in rows]
        for count, *rows in zip(frames, *(state.float() for state in states), strict=True)
    ]
    return np.stack([torch.stack(rows).cpu().numpy() for rows in found])


def pooled_recordings(
    upstream: Upstream,
    recordings: Sequence[Utterance],
    layers: int,
    options: BatchOptions,
    bad: dict[int, str] | None = None,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """`pooled` of recordings in batches, the longest first: (indices, features). Of longer ones than
    ``options.max_seconds`` the beginning is heard.

    Args:
        bad: see `s3router.serving.reading.WaveReader`; what is in it is in the batches, of no meaning.
    """
    read = WaveReader(recordings, upstream.anatomy.receptive_field, bad)
    limit = round(options.max_seconds * SAMPLE_RATE)
    batches = plan_batches([min(utt.duration, options.max_seconds) for utt in recordings], options.batch_seconds)
    for batch, waves in read_ahead(lambda index: read(index)[:limit], batches):
        yield batch, pooled(upstream, waves, layers, options.bf16)
