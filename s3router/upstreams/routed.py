"""One backbone that is as many models as it has routes: the upstream that s3prl and ESPnet see."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.masks import detach, iterate
from s3router.packs import MaskPack, read_pack
from s3router.upstreams.memory import give_back_memory
from s3router.upstreams.padding import lengthen
from s3router.upstreams.routes import Routes
from s3router.upstreams.upstream import Upstream, named


class RoutedUpstream(Upstream):
    """An `Upstream` with routes: any number of mask packs for its backbone, see `s3router.upstreams.routes`::

        upstream.add_route("exp/routes/es.pack")
        with upstream.using("es"):
            hidden = upstream(wavs)["hidden_states"]
        mixed = upstream(wavs, routes=["es", "en", "es"])["hidden_states"]

    Args: as of `Upstream`.

    Attributes:
        routes: the routes by name (`Routes`); it has none at first.
    """

    def __init__(self, expert: nn.Module, *args: Any, **kwargs: Any):
        super().__init__(expert, *args, **kwargs)
        self.routes = Routes(self.backbone, self.backbone_fingerprint)

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
                return named(self._under(self.routes.selected if routes is None else routes, wavs))
            return named(self._mixed(wavs, routes))

    def each_route(self, wavs: list[Tensor], routes: Sequence[str | None]) -> Iterator[tuple[str | None, dict]]:
        """The same waveforms through several routes: (route, what `forward` gives) of each.

        The front end, which the routes share, runs once.
        """
        shared: dict[str, Any] = {}
        for route in routes:
            yield route, named(self._under(route, wavs, shared))

    def _under(self, route: str | None, wavs: list[Tensor], shared: dict[str, Any] | None = None) -> list[Tensor]:
        """The hidden states under one route; the lock of `applied` also guards the running batch."""
        with self.routes.applied(route):
            return self.hidden(wavs, shared)

    def _mixed(self, wavs: list[Tensor], routes: Sequence[str | None]) -> list[Tensor]:
        if len(routes) != len(wavs):
            raise ConfigError(f"{len(routes)} routes for {len(wavs)} waveforms; give one for each, or one for all")
        rows: dict[str | None, list[int]] = {}
        for row, route in enumerate(routes):
            rows.setdefault(self.routes.check(route), []).append(row)
        ready = self.routes.ready  # first, before another route takes over their working copy
        rows = dict(sorted(rows.items(), key=lambda item: item[0] not in ready))
        parts = {route: self._under(route, [wavs[row] for row in members]) for route, members in rows.items()}
        if len(parts) == 1:
            return next(iter(parts.values()))
        frames = max(hidden[0].size(1) for hidden in parts.values())
        order = torch.tensor([row for members in rows.values() for row in members]).argsort()
        layers = zip(*parts.values(), strict=True)  # of each layer one tensor per route
        return [torch.cat([lengthen(h, frames) for h in layer])[order.to(layer[0].device)] for layer in layers]

    @cached_property
    def outline(self) -> tuple[int, int]:
        """As `Upstream.outline`, of the bare backbone, whatever routes there are."""
        with self.routes.applied(None):
            return super().outline

    def first_layers(self, wavs: list[Tensor], layers: int) -> tuple[list[Tensor], list[int]]:
        """As `Upstream.first_layers`, of the bare backbone, whatever routes there are."""
        with self.routes.applied(None):
            return super().first_layers(wavs, layers)

    @torch.no_grad()
    def store_features(self, wavs: list[Tensor]) -> None:
        """Fill the feature cache with these waveforms [(samples,)], without running the transformer."""
        with self.routes.applied(None):
            super().store_features(wavs)
