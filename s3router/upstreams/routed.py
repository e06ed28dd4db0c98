"""The upstream that s3prl and ESPnet see: any loaded upstream, with its masks, feature masking and feature cache."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.masks import detach, iterate
from s3router.packs import MaskPack, read_pack
from s3router.upstreams.anatomy import ConvGeometry, exact_padding_mask, find_feature_extractor, find_stacked_positions
from s3router.upstreams.digest import weights_hash
from s3router.upstreams.extractor import (
    CacheConfig,
    ExtractorControl,
    FeaturesStored,
    control_extractor,
    silence_padding,
)
from s3router.upstreams.feature_cache import FeatureCache
from s3router.upstreams.packed_masks import give_back_memory
from s3router.upstreams.routes import Routes
from s3router.upstreams.specaug import SpecAug, SpecAugConfig


class RoutedUpstream(nn.Module):
    """An s3prl-style upstream around another one.

    What it changes of the other, whose features are the same otherwise:

    - an utterance's features do not depend on the batch it is padded in (see `exact_padding_mask`,
      `silence_padding` and, for models with group norm, `s3router.upstreams.extractor`); frames past its end repeat
      its last one;
    - waveforms shorter than one frame are padded with zeros to one frame;
    - the convolutions are frozen and build no graph, unless ``train_feature_extractor``.

    With routes (`add_route`) it is as many models as there are mask packs, see `s3router.upstreams.routes`::

        upstream.add_route("exp/routes/es.pack")
        with upstream.using("es"):
            hidden = upstream(wavs)["hidden_states"]
        mixed = upstream(wavs, routes=["es", "en", "es"])["hidden_states"]

    Args:
        expert: module with ``forward(wavs) -> {"hidden_states": [...]}`` and ``get_downsample_rates``; it is changed
            in place.
        specaug: mask features in training mode; None: no masking.
        cache: keep the frozen convolutions' output on disk; None: compute it each time.
        train_feature_extractor: leave the convolutions trainable.

    Attributes:
        backbone_fingerprint: `s3router.upstreams.fingerprint` of the weights as they were loaded.
        routes: the routes by name (`Routes`); it has none at first.
        held: while True, no gradients are computed here, whatever is trainable: the head trains alone.

    Raises:
        ConfigError: specaug or cache is asked for, and the model has no place for it.
    """

    def __init__(
        self,
        expert: nn.Module,
        specaug: SpecAugConfig | None = None,
        cache: CacheConfig | None = None,
        train_feature_extractor: bool = False,
    ):
        super().__init__()
        self.expert = expert
        self.held = False
        self.backbone_fingerprint = weights_hash(self.backbone)
        self.routes = Routes(self.backbone, self.backbone_fingerprint)
        self._control: ExtractorControl | None = None
        if found := find_feature_extractor(self.backbone):
            self._control = self._take_over(found[1], cache)
            found[1].requires_grad_(train_feature_extractor)
        elif cache is not None:
            raise ConfigError(
                f"feature_cache: {type(self.backbone).__name__} has no convolutional feature extractor whose output "
                "could be kept. Leave feature_cache out."
            )
        self.specaug = None if specaug is None else SpecAug(specaug, self.backbone)

    @property
    def backbone(self) -> nn.Module:
        """The bare model (HubertModel, Wav2Vec2Model ...) whose weights are masked and fingerprinted."""
        model = getattr(self.expert, "model", None)
        return model if isinstance(model, nn.Module) else self.expert

    def get_downsample_rates(self, key: str | None = None) -> Any:
        """Samples per frame, as the wrapped upstream says."""
        return self.expert.get_downsample_rates(key)

    def add_route(self, pack: MaskPack | str | os.PathLike) -> str:
        """Take in a mask pack, or the file of one; returns its route's name.

        Raises:
            PackError: the file is damaged, or the pack is for another backbone.
            ConfigError: the route is known already, or masks are attached.
        """
        if not isinstance(pack, MaskPack):
            name = self.add_route(read_pack(pack, self.backbone, fingerprint=self.backbone_fingerprint))
            give_back_memory()
            return name
        self.routes.add(pack)
        return pack.route

    def remove_route(self, name: str) -> None:
        """Forget a route."""
        self.routes.remove(name)

    def route(self, name: str | None) -> None:
        """Use this route from now on, in this thread; None: the bare backbone. Raises ConfigError for unknown names."""
        self.routes.select(name)

    def using(self, name: str | None) -> contextlib.AbstractContextManager[None]:
        """`route` for the length of a ``with`` block; after it, what was used before."""
        return self.routes.using(name)

    def detach(self) -> nn.Module:
        """Remove all routes and attached masks; returns the backbone, whose weights are what they were."""
        if next(iterate(self.backbone), None):
            detach(self.backbone)
        for name in self.routes.names:
            self.routes.remove(name)
        return self.backbone

    def forward(self, wavs: list[Tensor], routes: str | Sequence[str | None] | None = None) -> dict[str, Any]:
        """[(samples,)] at 16 kHz, float -> {"hidden_states": [(B, T, C)] * n, "last_hidden_state": (B, T, C)}.

        The first hidden state is what enters the first transformer layer, the last is the encoder's output.

        Args:
            wavs: waveforms.
            routes: one for all, or one for each waveform (they are grouped inside; the result is in the order of the
                input); by default the one that this thread has selected.

        Raises:
            ConfigError: unknown route, or routes and waveforms differ in number; no route is selected though there
                are some.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            if routes is None or isinstance(routes, str):
                hidden = self._hidden(wavs, self.routes.selected if routes is None else routes)
            else:
                hidden = self._mixed(wavs, routes)
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}

    def each_route(self, wavs: list[Tensor], routes: Sequence[str | None]) -> Iterator[tuple[str | None, dict]]:
        """The same waveforms through several routes: (route, what `forward` gives) of each.

        The convolutions, which the routes share, are computed once.
        """
        shared: dict[str, Any] = {}
        for route in routes:
            hidden = self._hidden(wavs, route, shared)
            yield route, {"hidden_states": hidden, "last_hidden_state": hidden[-1]}

    def _mixed(self, wavs: list[Tensor], routes: Sequence[str | None]) -> list[Tensor]:
        if len(routes) != len(wavs):
            raise ConfigError(f"{len(routes)} routes for {len(wavs)} waveforms; give one for each, or one for all")
        rows: dict[str | None, list[int]] = {}
        for row, route in enumerate(routes):
            rows.setdefault(self.routes.check(route), []).append(row)
        ready = self.routes.ready  # first, before another route takes over their working copy
        rows = dict(sorted(rows.items(), key=lambda item: item[0] not in ready))
        parts = {route: self._hidden([wavs[row] for row in members], route) for route, members in rows.items()}
        if len(parts) == 1:
            return next(iter(parts.values()))
        frames = max(hidden[0].size(1) for hidden in parts.values())
        order = torch.tensor([row for members in rows.values() for row in members]).argsort()
        layers = zip(*parts.values(), strict=True)  # of each layer one tensor a route
        return [torch.cat([_lengthen(h, frames) for h in layer])[order.to(layer[0].device)] for layer in layers]

    def _hidden(self, wavs: list[Tensor], route: str | None, shared: dict[str, Any] | None = None) -> list[Tensor]:
        """The hidden states under one route; the lock of `applied` also guards what the control carries."""
        with self.routes.applied(route):
            control = self._control
            if control is None:
                return list(self.expert(wavs)["hidden_states"])
            wavs, frames = self._prepare(wavs)
            control.wavs, control.frames, control.shared = wavs, frames, shared
            if self.specaug is not None:
                self.specaug.frames = frames
            try:
                hidden = list(self.expert(wavs)["hidden_states"])
            finally:
                control.wavs = control.frames = control.shared = None
            return _repeat_last(hidden, frames)

    @property
    def feature_store(self) -> FeatureCache | None:
        """The store of this upstream's features, opened where it was not yet; None without ``cache``."""
        if self._control is None or self._control.cache is None:
            return None
        return self._extractor.open_store()

    @torch.no_grad()
    def store_features(self, wavs: list[Tensor]) -> None:
        """Fill the feature cache with these waveforms [(samples,)], without running the transformer."""
        if self.feature_store is None:
            raise ConfigError("store_features: the upstream was built without feature_cache.")
        self._control.only_store = True
        try:
            self._hidden(wavs, None)
        except FeaturesStored:
            pass
        finally:
            self._control.only_store = False

    @property
    def _extractor(self) -> nn.Module:
        return find_feature_extractor(self.backbone)[1]

    def _prepare(self, wavs: list[Tensor]) -> tuple[list[Tensor], list[int]]:
        geometry = self._control.geometry
        shortest = geometry.receptive_field
        wavs = [F.pad(wav, (0, shortest - len(wav))) if len(wav) < shortest else wav for wav in wavs]
        return wavs, [geometry.frames(len(wav)) for wav in wavs]

    def _take_over(self, extractor: nn.Module, cache: CacheConfig | None) -> ExtractorControl:
        control = ExtractorControl(ConvGeometry.of(extractor), _settings(self.expert), cache)
        control_extractor(extractor, control)
        backbone = self.backbone
        if hasattr(backbone, "feature_grad_mult"):
            backbone.feature_grad_mult = (
                1.0  # at 0 fairseq's models never train the convolutions; we decide by freezing
            )
        if hasattr(backbone, "forward_padding_mask"):
            own = backbone.forward_padding_mask
            backbone.forward_padding_mask = functools.partial(exact_padding_mask, control.geometry, own)
        for convolution in find_stacked_positions(backbone):
            convolution.register_forward_pre_hook(functools.partial(silence_padding, control))
        return control


def _settings(expert: nn.Module) -> str:
    """What an upstream does to waveforms before the convolutions, as far as it can be read off it."""
    kind = type(expert)
    places = [expert, getattr(expert, "task_cfg", None), getattr(expert, "cfg", None)]
    flags = [(name, getattr(place, name, None)) for place in places for name in ("normalize", "wav_normalize")]
    return f"{kind.__module__}.{kind.__qualname__} {[flag for flag in flags if flag[1] is not None]}"


def _repeat_last(hidden: list[Tensor], frames: list[int]) -> list[Tensor]:
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


def _lengthen(hidden: Tensor, frames: int) -> Tensor:
    """(B, T, C) -> (B, frames, C) by repeating the last frame."""
    lacking = frames - hidden.size(1)
    return hidden if lacking == 0 else torch.cat((hidden, hidden[:, -1:].expand(-1, lacking, -1)), 1)
