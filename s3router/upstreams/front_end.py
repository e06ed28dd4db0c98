"""The front end, from waveforms to frames: lengths of utterances, freezing, and the feature cache."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3router.errors import ConfigError
from s3router.packs.fingerprint import weights_hash
from s3router.upstreams.feature_cache import KEY_BYTES, FeatureCache
from s3router.upstreams.padding import RunningBatch


@dataclass(frozen=True)
class CacheConfig:
    """Where frozen features are kept.

    Args:
        path: folder for the stores of any number of upstreams.
        max_gb: upper size of one store in units of 1e9 bytes; None: no limit.
    """

    path: str
    max_gb: float | None = None

    @classmethod
    def of(cls, value: str | Path | dict[str, Any]) -> CacheConfig:
        """From a path, or a mapping with ``path`` and ``max_gb``; raises ConfigError."""
        if isinstance(value, str | Path):
            return cls(str(value))
        if not isinstance(value, dict) or "path" not in value or set(value) - {"path", "max_gb"}:
            raise ConfigError(f"feature_cache must be a folder, or a mapping of path and max_gb; found {value!r}.")
        limit = value.get("max_gb")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0):
            raise ConfigError(f"feature_cache: max_gb must be a number above 0, found {limit!r}.")
        return cls(str(value["path"]), limit)


class FeaturesStored(Exception):
    """Ends a forward pass that was only made to fill the cache."""


@dataclass
class FrontEndControl:
    """What an `Upstream` tells its front end.

    Args:
        batch: the waveforms that are going through the upstream, and their lengths.
        settings: all that shapes the features besides the weights (kind of the upstream, normalisation).
        cache: where features are kept, or None.
    """

    batch: RunningBatch
    settings: str = ""
    cache: CacheConfig | None = None
    store: FeatureCache | None = field(default=None, repr=False)


class _Controlled:
    """Mixed into the class of a front end: (B, samples) -> (B, C, T), torchaudio: -> (B, T, C) and lengths.

    - A frozen one builds no graph.
    - Where a norm runs over time (group norm; the loudest value of a spectrogram), each length is computed without its
      padding, so that an utterance's features do not depend on the batch it is in.
    - With a cache, features are computed once per utterance, in float32, and read back ever after.
    """

    control: FrontEndControl

    def forward(self, x: Tensor, *length: Tensor | None) -> Any:
        shared = self.control.batch.shared
        if shared is None:
            return self._extract(x, *length)
        if "features" not in shared:
            shared["features"] = self._extract(x, *length)
        return shared["features"]

    def _extract(self, x: Tensor, *length: Tensor | None) -> Any:
        control, wavs = self.control, self.control.batch.wavs
        if wavs is not None and len(wavs) != x.size(0):
            wavs = None
        trained = any(parameter.requires_grad for parameter in self.parameters())
        if control.cache is not None and trained:
            raise ConfigError(
                "feature_cache: the feature extractor is being trained (method scratch, random_init), so its features "
                "change and cannot be kept. Leave feature_cache out."
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and (trained or x.requires_grad)):
            if wavs is None:
                return super().forward(x, *length)
            cached = control.cache is not None and not control.batch.no_cache
            if cached and not any(wav.requires_grad for wav in wavs):
                features = self._cached(x, wavs)
            elif control.batch.remembered is not None and not trained:
                features = self._remembered(x, wavs, control.batch.remembered)
            elif self._norm_over_time and len({len(wav) for wav in wavs}) > 1:
                features = self._by_length(x, [len(wav) for wav in wavs])
            else:
                return super().forward(x, *length)
        padded = pad_sequence(features, batch_first=True)  # (B, T, C)
        if not self._takes_length:
            return padded.transpose(1, 2)
        given = length[0] if length else None
        return padded, None if given is None else torch.tensor([len(f) for f in features], device=given.device)

    @property
    def _norm_over_time(self) -> bool:
        whole = getattr(self, "norm_over_time", False)
        return whole or any(isinstance(module, nn.GroupNorm) for module in self.modules())

    @property
    def _takes_length(self) -> bool:
        return "length" in inspect.signature(super().forward).parameters

    def _frames_major(self, x: Tensor) -> Tensor:
        """(B, samples) without padding -> (B, T, C)."""
        if self._takes_length:
            return super().forward(x, None)[0]
        return super().forward(x).transpose(1, 2)

    def _by_length(self, x: Tensor, lengths: list[int]) -> list[Tensor]:
        features: list[Tensor] = [x] * len(lengths)
        for length in set(lengths):
            rows = [row for row, other in enumerate(lengths) if other == length]
            for row, value in zip(rows, self._frames_major(x[rows, :length]), strict=True):
                features[row] = value
        return features

    def _remembered(self, x: Tensor, wavs: list[Tensor], kept: dict[Any, Tensor]) -> list[Tensor]:
        """As `_by_length`; waveforms that came before, under the same arithmetic, are not computed again."""
        low = torch.is_autocast_enabled(x.device.type)
        keys = [(wav_key(wav), low) for wav in wavs]
        new = {key: row for row, key in enumerate(keys) if key not in kept}
        if new:
            rows = list(new.values())
            kept |= zip(new, self._by_length(x[rows], [len(wavs[row]) for row in rows]), strict=True)
        return [kept[key] for key in keys]

    def _cached(self, x: Tensor, wavs: list[Tensor]) -> list[Tensor]:
        store = self.open_store()
        keys = [wav_key(wav) for wav in wavs]
        found = {key: store.get(key) for key in keys}
        new: dict[bytes, Tensor] = {}
        for row, key in enumerate(keys):
            if found[key] is None and key not in new:
                # One by one, in float32 whatever autocast says: what is stored must not depend on who stored it.
                with torch.autocast(x.device.type, enabled=False):
                    value = self._frames_major(x[row : row + 1, : len(wavs[row])].float())[0]
                new[key] = value.detach().cpu().to(torch.bfloat16)
        store.add(new)
        if self.control.batch.only_store:
            raise FeaturesStored
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        # Copied here: the store's own tensors are views into its file.
        batch = [new[key] if key in new else found[key] for key in keys]
        return [value.to(device=x.device, dtype=dtype, copy=True) for value in batch]

    def open_store(self) -> FeatureCache | None:
        """The store for these weights and settings, opened at first use: weights set after that are not noticed."""
        control = self.control
        if control.store is None and control.cache is not None:
            name = store_name(self, control.settings)
            channels = [module for module in self.modules() if isinstance(module, nn.Conv1d)][-1].out_channels
            limit = None if control.cache.max_gb is None else int(control.cache.max_gb * 1e9)
            control.store = FeatureCache(Path(control.cache.path) / name, channels, limit)
        return control.store


def control_front_end(front_end: nn.Module, control: FrontEndControl) -> None:
    """Make ``front_end`` obey ``control``, in place. Names, state dict and its place in the model stay as they are."""
    kind = type(front_end)
    front_end.__class__ = type(f"Controlled{kind.__name__}", (_Controlled, kind), {"__module__": kind.__module__})
    front_end.control = control


def wav_key(wav: Tensor) -> bytes:
    """The key of a waveform (samples,): a hash of its float32 samples."""
    samples = wav.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
    return hashlib.blake2b(samples.data, digest_size=KEY_BYTES).digest()


def store_name(front_end: nn.Module, settings: str) -> str:
    """The name of a front end's store: everything that shapes its features, hashed."""
    # The text of a module states its strides, norms and activations.
    content = f"{weights_hash(front_end)}\n{front_end}\n{settings}"
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
