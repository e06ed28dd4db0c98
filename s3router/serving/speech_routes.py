"""One resident backbone, an output layer for each route: every trained model of a set of packs at once.

    model = load_routes(["es.pack", "en.pack"], "tiny")
    model.log_probs([wave, other], ["es", "en"])  # [(frames, Spanish tokens), (frames, English tokens)]

The numbers are those of the ESPnet models that the packs were made from; neither ESPnet nor s3prl is needed (s3prl for
upstreams that are its own).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.data.tokens import TokenIds
from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack, read_pack
from s3router.packs.pack_file import read_parts
from s3router.upstreams.packed_masks import give_back_memory
from s3router.upstreams.routed import RoutedUpstream

MIN_SAMPLES = 800
"""s3prl pads batches to 0.05 s at least."""


class RouteHead(nn.Module):
    """From hidden states to log probabilities: the featurizer and the CTC output layer of one route.

    Attributes:
        tokens: from token ids to text.
        usual_confidence: of this route in its own language (`s3router.serving.langid`); None: the pack does not say.

    Raises:
        PackError: the pack has no token list or output layer, or was trained on features of another kind.
    """

    def __init__(self, pack: MaskPack):
        super().__init__()
        if pack.tokens is None or "weight" not in pack.head:
            raise PackError(f"route {pack.route!r}: its pack has no CTC output layer, so it cannot transcribe")
        settings = pack.meta.preprocessing
        if settings.get("sample_rate", 16000) != 16000 or settings.get("features") not in ("weighted", "last"):
            raise PackError(
                f"route {pack.route!r}: preprocessing {dict(settings)} is not known; install a newer s3router"
            )
        self.normalize = bool(settings.get("normalize_features", False))
        try:
            self.tokens = TokenIds(pack.tokens, settings.get("token_type", "char"), pack.bpe_model)
        except (ConfigError, RuntimeError) as error:  # the latter is all that sentencepiece says of a damaged model
            raise PackError(f"route {pack.route!r}: its tokens cannot be read ({error}); pack it again") from None
        self.usual_confidence = pack.meta.metrics.get("dev", {}).get("confidence")
        weighted = settings["features"] == "weighted" and "weights" in pack.featurizer
        self.register_buffer("layer_weights", pack.featurizer["weights"].float() if weighted else None)
        self.register_buffer("weight", pack.head["weight"].float())
        self.register_buffer("bias", pack.head["bias"].float() if "bias" in pack.head else None)

    def features(self, hidden: Sequence[Tensor]) -> Tensor:
        """[(B, T, C)] * layers -> (B, T, C), float32: the weighted sum, or the last."""
        if self.layer_weights is None:
            hidden = hidden[-1:]
        if self.normalize:
            hidden = [F.layer_norm(h, h.shape[-1:]) for h in hidden]
        if self.layer_weights is None:
            return hidden[0].float()
        if len(hidden) != len(self.layer_weights):
            raise PackError(
                f"the pack weighs {len(self.layer_weights)} hidden states, the backbone gives {len(hidden)}"
            )
        stacked = torch.stack(list(hidden))
        weights = F.softmax(self.layer_weights, dim=-1)
        return (weights[:, None] * stacked.view(len(hidden), -1)).sum(0).view(stacked.shape[1:]).float()

    def log_softmax(self, features: Tensor) -> Tensor:
        """(B, T, C) -> log probabilities (B, T, tokens)."""
        return F.log_softmax(F.linear(features, self.weight, self.bias), dim=2)


class RoutedCTC(nn.Module):
    """A `RoutedUpstream` with a head for each of its routes. In evaluation mode; nothing of it trains.

    Args:
        upstream: without routes.
    """

    def __init__(self, upstream: RoutedUpstream):
        super().__init__()
        self.upstream = upstream
        self._heads = nn.ModuleDict()
        rate = upstream.get_downsample_rates("hidden_states")
        self.stride = rate if isinstance(rate, int) else rate[0]
        self.eval()

    @property
    def routes(self) -> tuple[str, ...]:
        """The known routes."""
        return self.upstream.routes.names

    def add(self, pack: MaskPack | str | os.PathLike) -> str:
        """Take in a pack, or the file of one; returns its route's name. Raises as `RoutedUpstream.add_route`."""
        if not isinstance(pack, MaskPack):
            name = self.add(read_pack(pack, self.upstream.backbone, fingerprint=self.upstream.backbone_fingerprint))
            give_back_memory()
            return name
        head = RouteHead(pack).to(next(self.upstream.parameters()).device).eval()
        self.upstream.add_route(pack)
        self._heads[_key(pack.route)] = head
        return pack.route

    def remove(self, route: str) -> None:
        """Forget a route."""
        self.upstream.remove_route(route)
        if _key(route) in self._heads:  # none where it was added to the upstream alone
            del self._heads[_key(route)]

    def head(self, route: str) -> RouteHead:
        """The head of a route; raises ConfigError for unknown ones."""
        if route is None:
            raise ConfigError(f"a route is needed to transcribe; known: {', '.join(self.routes) or 'none'}")
        key = _key(self.upstream.routes.check(route))
        if key not in self._heads:
            raise ConfigError(f"route {route!r} was added to the upstream alone and has no head here; add() it here")
        return self._heads[key]

    @torch.inference_mode()
    def log_probs(self, waves: Sequence[Tensor], routes: str | Sequence[str]) -> list[Tensor]:
        """[(samples,)], float32 at 16 kHz, any lengths -> [(frames, tokens of its route)], log probabilities, float32.

        Args:
            waves: on the model's device.
            routes: one for all, or one for each.
        """
        routes = [routes] * len(waves) if isinstance(routes, str) else list(routes)
        heads = [self.head(route) for route in routes]
        wavs, frames = self._prepare(waves)
        hidden = self._cut(self.upstream(wavs, routes=routes)["hidden_states"], wavs, frames)
        rows = {route: [row for row, other in enumerate(routes) if other == route] for route in routes}
        found: list[Tensor] = [hidden[0]] * len(waves)
        for members in rows.values():
            head = heads[members[0]]
            log_probs = head.log_softmax(head.features([h[members] for h in hidden])).float()
            for row, values in zip(members, log_probs, strict=True):
                found[row] = values[: frames[row]]
        return found

    def each_route(self, waves: Sequence[Tensor], routes: Sequence[str]) -> Iterator[tuple[str, Tensor, list[int]]]:
        """The same waveforms under several routes: (route, log probabilities (B, T, its tokens), frames of each).

        One pass through the transformer a route, one through the convolutions in all.
        """
        heads = {route: self.head(route) for route in routes}
        wavs, frames = self._prepare(waves)
        for route, output in self.upstream.each_route(wavs, routes):
            hidden = self._cut(output["hidden_states"], wavs, frames)
            yield route, heads[route].log_softmax(heads[route].features(hidden)), frames

    def single(self, route: str) -> SingleRoute:
        """One route as a model of its own, as `s3router.asr.ctc_decode` and beam search take it."""
        return SingleRoute(self, route)

    def _prepare(self, waves: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
        """Waveforms of at least 0.05 s in the longest one, and the frames that s3prl counts for each."""
        lacking = max(0, MIN_SAMPLES - max(len(wave) for wave in waves))
        return [F.pad(wave, (0, lacking)) for wave in waves], [(len(wave) - 1) // self.stride + 1 for wave in waves]

    def _cut(self, hidden: Sequence[Tensor], wavs: Sequence[Tensor], frames: list[int]) -> list[Tensor]:
        """Hidden states of as many frames as s3prl gives: a stride each; what the convolutions lack is repeated."""
        wanted = -(-max(len(wav) for wav in wavs) // self.stride)
        if (lacking := wanted - hidden[0].size(1)) > 0:
            hidden = [torch.cat((h, h[:, -1:].repeat(1, lacking, 1)), 1) for h in hidden]
        return [h[:, : max(frames)] for h in hidden]


class SingleRoute(nn.Module):
    """See `RoutedCTC.single`; it shares everything with the model that it comes from."""

    def __init__(self, model: RoutedCTC, route: str):
        super().__init__()
        self.model = model
        self.route = route
        self.ctc = model.head(route)

    def encode(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, samples), lengths (B,) -> features (B, T, C), lengths in frames (B,)."""
        waves = [row[:length] for row, length in zip(speech, lengths.tolist(), strict=True)]
        wavs, frames = self.model._prepare(waves)
        hidden = self.model._cut(self.model.upstream(wavs, routes=self.route)["hidden_states"], wavs, frames)
        return self.ctc.features(hidden), torch.tensor(frames, device=speech.device)


def load_routes(
    packs: Sequence[str | os.PathLike], backbone: str | None = None, ckpt: str | None = None, device: str = "cpu"
) -> RoutedCTC:
    """The backbone with these packs.

    Args:
        packs: files.
        backbone: the upstream's name; by default the one that the first pack names.
        ckpt: its checkpoint.
        device: "cpu", "cuda", "cuda:1".

    Raises:
        PackError: a pack is damaged, or for another backbone; ConfigError: none are given, or two have one route.
    """
    if not packs:
        raise ConfigError("no packs given; name at least one .pack file")
    from s3router.upstreams.hub import build

    if backbone is None:
        meta = read_parts(packs[0]).description.meta
        backbone, ckpt = meta.backbone, ckpt or meta.checkpoint
        if ckpt == meta.checkpoint and ckpt is not None and "/" not in ckpt and not os.path.exists(ckpt):
            raise ConfigError(
                f"{packs[0]} is for the upstream {backbone} with a checkpoint that was called {ckpt}; say where it is "
                "now (--backbone-ckpt)"
            )
    model = RoutedCTC(build(ckpt=ckpt, upstream=backbone)).to(device)
    for pack in packs:
        model.add(pack)
    return model.eval()


def _key(route: str) -> str:
    """A module's name: no dots, and none that `nn.ModuleDict` has for itself."""
    return "route_" + route.replace(".", "/")
