"""Any loaded upstream behind s3prl's interface: exact in padded batches, with a frozen front end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3router.errors import ConfigError
from s3router.packs.fingerprint import weights_hash
from s3router.upstreams.anatomy import Anatomy
from s3router.upstreams.feature_cache import FeatureCache
from s3router.upstreams.first_layers import batch_first, stopping_after
from s3router.upstreams.front_end import CacheConfig, FeaturesStored, FrontEndControl, control_front_end
from s3router.upstreams.padding import RunningBatch, make_exact, pad_to_one_frame, repeat_last
from s3router.upstreams.specaug import SpecAug, SpecAugConfig


class Upstream(nn.Module):
    """An s3prl-style upstream around another one, whose features are the same otherwise:

    - an utterance's features do not depend on the batch that it is padded in (`s3router.upstreams.padding`); frames
      past its end repeat its last one;
    - waveforms shorter than one frame are padded with zeros to one frame;
    - the front end is frozen and builds no graph, unless ``train_front_end``.

    Args:
        expert: module with ``forward(wavs) -> {"hidden_states": [...]}`` and ``get_downsample_rates``; it is changed
            in place.
        specaug: mask features in training mode; None: no masking.
        cache: keep the frozen front end's output on disk; None: compute it each time.
        train_front_end: leave the front end trainable.

    Attributes:
        anatomy: where the backbone's parts are, and what it makes of lengths (`Anatomy`).
        backbone_fingerprint: `s3router.upstreams.fingerprint` of the weights as they were loaded.
        held: while True, no gradients are computed here, whatever is trainable: the head trains alone.

    Raises:
        ConfigError: specaug or cache is asked for, and the model has no place for it.
    """

    def __init__(
        self,
        expert: nn.Module,
        specaug: SpecAugConfig | None = None,
        cache: CacheConfig | None = None,
        train_front_end: bool = False,
    ):
        super().__init__()
        self.expert = expert
        self.held = False
        self.backbone_fingerprint = weights_hash(self.backbone)
        self.anatomy = Anatomy.of(self.backbone)
        self._batch = RunningBatch()
        if self.front_end is not None:
            control_front_end(self.front_end, FrontEndControl(self._batch, _settings(expert), cache))
            self.front_end.requires_grad_(train_front_end)
        elif cache is not None:
            raise ConfigError(
                f"feature_cache: {type(self.backbone).__name__} has no convolutional feature extractor whose output "
                "could be kept. Leave feature_cache out."
            )
        if hasattr(self.backbone, "feature_grad_mult"):
            # At 0 fairseq's models never train the convolutions; freezing decides that here.
            self.backbone.feature_grad_mult = 1.0
        make_exact(self.backbone, self.anatomy, self._batch)
        self.specaug = None if specaug is None else SpecAug(specaug, self.backbone, self.anatomy, self._batch)

    @property
    def backbone(self) -> nn.Module:
        """The bare model (HubertModel, Wav2Vec2Model ...) whose weights are masked and fingerprinted."""
        return model_of(self.expert)

    @cached_property
    @torch.inference_mode()
    def outline(self) -> tuple[int, int]:
        """(number, width) of the hidden states that it gives, found once with a moment of silence."""
        silence = torch.zeros(1600, device=next(self.parameters()).device)
        states = self.hidden([silence])
        return len(states), states[0].shape[-1]

    @property
    def front_end(self) -> nn.Module | None:
        """The backbone's part from waveforms to frames."""
        name = self.anatomy.front_end
        return None if name is None else self.backbone.get_submodule(name)

    def get_downsample_rates(self, key: str | None = None) -> Any:
        """Samples per frame, as the wrapped upstream says."""
        return self.expert.get_downsample_rates(key)

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """[(samples,)] at 16 kHz, float -> {"hidden_states": [(B, T, C)] * n, "last_hidden_state": (B, T, C)}.

        The first hidden state is what enters the first transformer layer, the last is the encoder's output.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            return named(self.hidden(wavs))

    def hidden(self, wavs: list[Tensor], shared: dict[str, Any] | None = None) -> list[Tensor]:
        """The hidden states [(B, T, C)] of waveforms [(samples,)].

        Args:
            shared: passes over the same batch that are given the same dictionary run the front end once.
        """
        if self.anatomy.lengths is None:
            return list(self.expert(wavs)["hidden_states"])
        wavs, frames = pad_to_one_frame(wavs, self.anatomy.lengths)
        with self._batch.of(wavs, frames, shared):
            hidden = list(self.expert(wavs)["hidden_states"])
        return repeat_last(hidden, frames)

    @torch.no_grad()
    def first_layers(self, wavs: list[Tensor], layers: int) -> tuple[list[Tensor], list[int]]:
        """The outputs of the first layers alone, [(B, T, C)] * layers, and the frames of each waveform [(samples,)].

        Nothing above them is computed. Frames past an utterance's end are of no meaning.

        Raises:
            ConfigError: the upstream has not so many layers, or none that could be run alone.
        """
        names = self.anatomy.layers
        if self.anatomy.lengths is None or not 1 <= layers <= len(names):
            raise ConfigError(
                f"the first {layers} layers of {type(self.backbone).__name__} cannot be had; known are {len(names)}"
            )
        wavs, frames = pad_to_one_frame(wavs, self.anatomy.lengths)
        states: list[Tensor] = []
        with self._batch.of(wavs, frames, None), stopping_after(self.backbone, names[:layers], states):
            self.expert(wavs)
        first, second = states[0].shape[:2]
        if first == second > 1:  # which of them is time? Singly it is no question
            alone = zip(*(self.first_layers([wav], layers)[0] for wav in wavs), strict=True)
            return [pad_sequence([state[0] for state in layer], batch_first=True) for layer in alone], frames
        return [batch_first(state, len(wavs), max(frames)) for state in states], frames

    @contextlib.contextmanager
    def remembering_front_end(self) -> Iterator[None]:
        """Within a ``with`` block, the front end computes each waveform once, and keeps its output in memory."""
        self._batch.remembered = {}
        try:
            yield
        finally:
            self._batch.remembered = None

    @property
    def feature_store(self) -> FeatureCache | None:
        """The store of this upstream's features, opened where it was not yet; None without ``cache``."""
        return None if self.front_end is None else self.front_end.open_store()

    @contextlib.contextmanager
    def without_cache(self) -> Iterator[None]:
        """Compute all features anew for the length of a ``with`` block: the cache's are rounded to bfloat16."""
        self._batch.no_cache = True
        try:
            yield
        finally:
            self._batch.no_cache = False

    @torch.no_grad()
    def store_features(self, wavs: list[Tensor]) -> None:
        """Fill the feature cache with these waveforms [(samples,)], without running the transformer."""
        if self.feature_store is None:
            raise ConfigError("store_features: the upstream was built without feature_cache.")
        self._batch.only_store = True
        try:
            self.hidden(wavs)
        except FeaturesStored:
            pass
        finally:
            self._batch.only_store = False


def model_of(expert: nn.Module) -> nn.Module:
    """The bare model inside an s3prl-style upstream."""
    model = getattr(expert, "model", None)
    return model if isinstance(model, nn.Module) else expert


def named(hidden: list[Tensor]) -> dict[str, Any]:
    """Hidden states as s3prl expects them."""
    return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}


def _settings(expert: nn.Module) -> str:
    """What an upstream does to waveforms before the front end, as far as it can be read off it."""
    kind = type(expert)
    places = [expert, getattr(expert, "task_cfg", None), getattr(expert, "cfg", None)]
    flags = [(name, getattr(place, name, None)) for place in places for name in ("normalize", "wav_normalize")]
    return f"{kind.__module__}.{kind.__qualname__} {[flag for flag in flags if flag[1] is not None]}"
