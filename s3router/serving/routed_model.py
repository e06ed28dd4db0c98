"""One resident backbone with an output layer for each route: all the models of a set of packs at once.

    model = load_routes(["es.pack", "en.pack", "ks.pack"])  # s3router.serving.loading
    model.log_probs([wave, other], ["es", "en"])  # [(frames, Spanish tokens), (frames, English tokens)]
    model.logits([wave, other], "ks")  # [(classes,), (classes,)]

The numbers are those of the models that the packs were made from; neither ESPnet nor s3prl is needed (s3prl for
upstreams that are its own).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack, read_pack
from s3router.packs.pack_file import read_parts
from s3router.serving.route_heads import ClassHead, CTCHead, RouteHead, route_head
from s3router.serving.whole_routes import WholeHead, WholeRoutes
from s3router.upstreams.memory import give_back_memory
from s3router.upstreams.routed import RoutedUpstream
from s3router.upstreams.routes import unknown_route

if TYPE_CHECKING:
    from s3router.upstreams.whisper_recogniser import Recogniser

TextHead = CTCHead | WholeHead

PADDED_TO = 800
"""Samples: s3prl pads a batch to 0.05 s at least, and so does this."""


class RoutedModel(nn.Module):
    """A `RoutedUpstream` with a head for each of its routes. In evaluation mode; nothing of it trains.

    Args:
        upstream: without routes.
        recogniser: a whole recogniser that ``upstream`` is the encoder of, module by module; None: there is none, and
            packs of whole recognisers are refused.
    """

    def __init__(self, upstream: RoutedUpstream, recogniser: Recogniser | None = None):
        super().__init__()
        self.upstream = upstream
        self.whole = None if recogniser is None else WholeRoutes(recogniser, upstream.routes)
        self._heads = nn.ModuleDict()
        rate = upstream.get_downsample_rates("hidden_states")
        self.stride = rate if isinstance(rate, int) else rate[0]
        self.eval()

    @property
    def routes(self) -> tuple[str, ...]:
        """The known routes."""
        return self.upstream.routes.names + (() if self.whole is None else self.whole.routes.names)

    @property
    def transcribing(self) -> tuple[str, ...]:
        """The routes that write text."""
        return self._of_kind(TextHead)

    @property
    def classifying(self) -> tuple[str, ...]:
        """The routes that give labels."""
        return self._of_kind(ClassHead)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.upstream.parameters()).device

    @property
    def receptive_field(self) -> int:
        """Samples behind one frame, which a recording has to have; 1 where the upstream has no convolutions."""
        return self.upstream.anatomy.receptive_field

    def add(self, pack: MaskPack | str | os.PathLike) -> str:
        """Take in a pack, or the file of one; returns its route's name. Raises as `RoutedUpstream.add_route`."""
        if not isinstance(pack, MaskPack):
            backbone, fingerprint = self.backbone_for(read_parts(pack).description.meta.whole, str(pack))
            name = self.add(read_pack(pack, backbone, fingerprint=fingerprint))
            give_back_memory()
            return name
        self.backbone_for(pack.meta.whole, f"route {pack.route!r}")
        if pack.route in self.routes:
            raise ConfigError(f"route {pack.route!r} is there already; remove it first, or give the other another name")
        if pack.meta.whole:
            self._heads[_key(pack.route)] = self.whole.add(pack)
            return pack.route
        head = route_head(pack).to(self.device).eval()
        head.check(*self.upstream.outline)
        self.upstream.add_route(pack)
        self._heads[_key(pack.route)] = head
        return pack.route

    def backbone_for(self, whole: bool, where: str) -> tuple[nn.Module, str]:
        """What packs of a kind are for, and its fingerprint.

        Args:
            whole: packs of whole recognisers, else of encoders.
            where: names the pack in messages.

        Raises:
            PackError: there is no whole recogniser here.
        """
        if not whole:
            return self.upstream.backbone, self.upstream.backbone_fingerprint
        if self.whole is None:
            raise PackError(
                f"{where}: for a whole recogniser, encoder and decoder, and this is an encoder alone. Name it together "
                "with the other packs when they are loaded."
            )
        return self.whole.model, self.whole.fingerprint

    def remove(self, route: str) -> None:
        """Forget a route."""
        of_whole = self.whole is not None and route in self.whole.routes.names
        (self.whole if of_whole else self.upstream).routes.remove(route)
        if _key(route) in self._heads:  # none where it was added to the upstream alone
            del self._heads[_key(route)]

    def head(self, route: str) -> RouteHead | WholeHead:
        """The head of a route; raises ConfigError for unknown ones."""
        if route is None:
            raise ConfigError(f"a route is needed; known: {', '.join(self.routes) or 'none'}")
        if route not in self.routes:
            raise unknown_route(route, self.routes)
        key = _key(route)
        if key not in self._heads:
            raise ConfigError(f"route {route!r} was added to the upstream alone and has no head here; add() it here")
        return self._heads[key]

    def text_head(self, route: str) -> TextHead:
        """The head of a route that transcribes, by CTC or as a whole recogniser; raises ConfigError for others."""
        return self._head_of_kind(route, TextHead)

    def ctc_head(self, route: str) -> CTCHead:
        """The head of a route that transcribes by CTC; raises ConfigError for others."""
        return self._head_of_kind(route, CTCHead)

    def class_head(self, route: str) -> ClassHead:
        """The head of a route that classifies; raises ConfigError for others."""
        return self._head_of_kind(route, ClassHead)

    def log_probs(self, waves: Sequence[Tensor], routes: str | Sequence[str]) -> list[Tensor]:
        """[(samples,)], float32 at 16 kHz, any lengths -> [(frames, tokens of its route)], log probabilities, float32.

        Args:
            waves: on the model's device.
            routes: one for all, or one for each.
        """
        routes = self._for_each(waves, routes)
        return self._outputs(waves, routes, {route: self.ctc_head(route) for route in routes})

    def logits(self, waves: Sequence[Tensor], routes: str | Sequence[str]) -> list[Tensor]:
        """[(samples,)], float32 at 16 kHz, any lengths -> [(classes of its route,)], float32; as `log_probs`."""
        routes = self._for_each(waves, routes)
        return self._outputs(waves, routes, {route: self.class_head(route) for route in routes})

    def each_route(self, waves: Sequence[Tensor], routes: Sequence[str]) -> Iterator[tuple[str, Tensor, list[int]]]:
        """The same waveforms under several routes: (route, log probabilities (B, T, its tokens), frames of each).

        One pass through the transformer per route, one through the convolutions in all.
        """
        heads = {route: self.ctc_head(route) for route in routes}
        wavs, frames = self._prepare(waves)
        for route, output in self.upstream.each_route(wavs, routes):
            hidden = self._cut(output["hidden_states"], wavs, frames)
            yield route, heads[route](hidden, torch.tensor(frames)), frames

    def single(self, route: str) -> SingleRoute:
        """One route as a model of its own, as `s3router.asr.ctc_decode` and beam search take it."""
        return SingleRoute(self, route)

    def hidden(self, waves: Sequence[Tensor], routes: str | Sequence[str]) -> tuple[list[Tensor], list[int]]:
        """[(samples,)] -> hidden states [(B, T, C)] * layers under the routes, and the frames of each waveform."""
        wavs, frames = self._prepare(waves)
        return self._cut(self.upstream(wavs, routes=routes)["hidden_states"], wavs, frames), frames

    def _for_each(self, waves: Sequence[Tensor], routes: str | Sequence[str]) -> list[str]:
        """The route of each waveform. Raises ConfigError for waveforms that no route could take."""
        routes = [routes] * len(waves) if isinstance(routes, str) else list(routes)
        if not waves or len(routes) != len(waves):
            raise ConfigError(
                f"{len(waves)} waveforms and {len(routes)} routes; give at least one, and a route for each"
            )
        for wave in waves:
            if wave.dim() != 1 or wave.dtype != torch.float32:
                raise ConfigError(
                    f"a waveform of shape {tuple(wave.shape)} and {wave.dtype}; give (samples,) of float32"
                )
        return routes

    @torch.inference_mode()
    def _outputs(self, waves: Sequence[Tensor], routes: list[str], heads: dict[str, RouteHead]) -> list[Tensor]:
        waves = [w if heads[r].gain == 1 else w * heads[r].gain for w, r in zip(waves, routes, strict=True)]
        hidden, frames = self.hidden(waves, routes)
        found: list[Tensor] = [hidden[0]] * len(waves)
        for route, head in heads.items():
            rows = [row for row, other in enumerate(routes) if other == route]
            counts = [frames[row] for row in rows]
            outputs = head([h[rows] for h in hidden], torch.tensor(counts, device=hidden[0].device))
            for row, values in zip(rows, head.of_each(outputs, counts), strict=True):
                found[row] = values
        return found

    def _prepare(self, waves: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
        """Waveforms of at least 0.05 s in the longest one, and the frames that s3prl counts for each."""
        lacking = max(0, PADDED_TO - max(len(wave) for wave in waves))
        return [F.pad(wave, (0, lacking)) for wave in waves], [(len(wave) - 1) // self.stride + 1 for wave in waves]

    def _cut(self, hidden: Sequence[Tensor], wavs: Sequence[Tensor], frames: list[int]) -> list[Tensor]:
        """Hidden states of as many frames as s3prl gives: a stride each; what the convolutions lack is repeated."""
        wanted = -(-max(len(wav) for wav in wavs) // self.stride)
        if (lacking := wanted - hidden[0].size(1)) > 0:
            hidden = [torch.cat((h, h[:, -1:].repeat(1, lacking, 1)), 1) for h in hidden]
        return [h[:, : max(frames)] for h in hidden]

    def _of_kind(self, kind: Any) -> tuple[str, ...]:
        return tuple(r for r in self.routes if _key(r) in self._heads and isinstance(self._heads[_key(r)], kind))

    def _head_of_kind(self, route: str, kind: Any) -> Any:
        head = self.head(route)
        if not isinstance(head, kind):
            raise ConfigError(f"route {route!r}: {head.purpose}; here: {', '.join(self._of_kind(kind)) or 'none'}")
        return head


class SingleRoute(nn.Module):
    """See `RoutedModel.single`; it shares everything with the model that it comes from."""

    def __init__(self, model: RoutedModel, route: str):
        super().__init__()
        self.model = model
        self.route = route
        self.ctc = model.ctc_head(route)

    def encode(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, samples), lengths (B,) -> features (B, T, C), lengths in frames (B,)."""
        waves = [row[:length] for row, length in zip(speech, lengths.tolist(), strict=True)]
        hidden, frames = self.model.hidden(waves, self.route)
        return self.ctc.features(hidden), torch.tensor(frames, device=speech.device)


def _key(route: str) -> str:
    """A module's name: no dots, and none that `nn.ModuleDict` has for itself."""
    return "route_" + route.replace(".", "/")
