"""Output layers of routes: from a backbone's hidden states to log probabilities of tokens, or to logits of classes."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.data.audio import SAMPLE_RATE
from s3router.data.tokens import TokenIds
from s3router.data.words import UNSPACED
from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack, PackMeta
from s3router.packs.contents import language_of

MAX_GAIN_DB = 200


class RouteHead(nn.Module, abc.ABC):
    """Featurizer and linear output layer of one route, as its pack holds them; subclasses differ in the reduction.

    Attributes:
        route: whose it is.
        gain: factor on the waveform.
        purpose: what it is for, for messages.

    Raises:
        PackError: the pack has no output layer, or was trained on features of another kind.
    """

    purpose: ClassVar[str]

    def __init__(self, pack: MaskPack):
        super().__init__()
        self.route = pack.route
        if "weight" not in pack.head:
            raise PackError(f"route {pack.route!r}: its pack has no output layer; pack it again")
        settings = pack.meta.preprocessing
        features = settings.get("features")
        if settings.get("sample_rate", SAMPLE_RATE) != SAMPLE_RATE or features not in ("weighted", "last"):
            raise PackError(
                f"route {pack.route!r}: preprocessing {dict(settings)} is not known; install a newer s3router"
            )
        self.normalize = bool(settings.get("normalize_features", False))
        gain_db = settings.get("gain_db", 0.0)
        if not isinstance(gain_db, float | int) or not abs(gain_db) <= MAX_GAIN_DB:
            raise PackError(f"route {pack.route!r}: a gain of {gain_db} dB on the waveform is not known; pack it again")
        self.gain = 10 ** (gain_db / 20)
        weighted = features == "weighted" and "weights" in pack.featurizer
        self.register_buffer("layer_weights", pack.featurizer["weights"].float() if weighted else None)
        self.register_buffer("weight", pack.head["weight"].float())
        self.register_buffer("bias", pack.head["bias"].float() if "bias" in pack.head else None)

    def check(self, states: int, width: int) -> None:
        """Hold the head against the number and the width of the hidden states that an upstream gives.

        Raises:
            PackError: it is for others.
        """
        if self.weight.size(1) != width:
            raise PackError(
                f"route {self.route!r}: its output layer is for features of width {self.weight.size(1)}, those of the "
                f"backbone have {width}; pack it again"
            )
        if self.layer_weights is not None and len(self.layer_weights) != states:
            raise PackError(
                f"route {self.route!r}: its pack weighs {len(self.layer_weights)} hidden states, the backbone gives "
                f"{states}; pack it again"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RouteHead:
        """As of every module, but heads stay in float32, in which features are summed, whatever a model is cast to."""
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    def features(self, hidden: Sequence[Tensor]) -> Tensor:
        """[(B, T, C)] * layers -> (B, T, C), float32: the weighted sum, or the last."""
        if self.layer_weights is None:
            hidden = hidden[-1:]
        if self.normalize:
            hidden = [F.layer_norm(h, h.shape[-1:]) for h in hidden]
        if self.layer_weights is None:
            return hidden[0].float()
        stacked = torch.stack(list(hidden))
        weights = F.softmax(self.layer_weights, dim=-1)
        return (weights[:, None] * stacked.view(len(hidden), -1)).sum(0).view(stacked.shape[1:]).float()

    @abc.abstractmethod
    def forward(self, hidden: Sequence[Tensor], frames: Tensor) -> Tensor:
        """[(B, T, C)] * layers and valid frames (B,) -> the outputs of all frames, or of each utterance."""

    @abc.abstractmethod
    def of_each(self, outputs: Tensor, frames: Sequence[int]) -> list[Tensor]:
        """What `forward` gave -> the outputs of each utterance, without padding."""


class CTCHead(RouteHead):
    """Log probabilities (B, T, tokens).

    Attributes:
        tokens: from token ids to text.
        language: code of the language that it writes, where the pack tells it.
        spaced: whether blanks part the words of that language.
        usual_confidence: of this route in its own language (`s3router.serving.langid`); None: the pack does not say.
        error_rate: of this route on its validation set, characters if known, else words or phones; None: not known.
    """

    purpose = "it writes text and gives no labels: s3router transcribe"

    def __init__(self, pack: MaskPack):
        super().__init__(pack)
        settings = pack.meta.preprocessing
        try:
            self.tokens = TokenIds(pack.tokens, settings.get("token_type", "char"), pack.bpe_model)
        except (ConfigError, RuntimeError) as error:  # the latter is all that sentencepiece says of a damaged model
            raise PackError(f"route {pack.route!r}: its tokens cannot be read ({error}); pack it again") from None
        self.language = language_of(pack.route, pack.meta)
        self.spaced = self.language not in UNSPACED
        self.usual_confidence, self.error_rate = dev_figures(pack.meta)

    def forward(self, hidden: Sequence[Tensor], frames: Tensor) -> Tensor:
        return self.log_softmax(self.features(hidden))

    def log_softmax(self, features: Tensor) -> Tensor:
        """(B, T, C) -> log probabilities (B, T, tokens)."""
        return F.log_softmax(F.linear(features, self.weight, self.bias), dim=2).float()

    def of_each(self, outputs: Tensor, frames: Sequence[int]) -> list[Tensor]:
        return [row[:count] for row, count in zip(outputs, frames, strict=True)]


class ClassHead(RouteHead):
    """Logits (B, classes) of the mean over an utterance's frames, those of all slots one after another.

    Attributes:
        task: the task that trained it, such as ``ks``.
        slots: what a label consists of.
        classes: of each slot.
        training_settings: what trained it, as the pack says.
        upstream: name of the upstream that it was trained on.
    """

    purpose = "it gives labels and no text: s3router classify"

    def __init__(self, pack: MaskPack):
        super().__init__(pack)
        from s3router.superb.tasks import TASKS

        self.task, self.training_settings = str(pack.meta.training.get("task")), dict(pack.meta.training)
        self.upstream = pack.meta.backbone
        labels = list(pack.meta.labels)
        self.slots = TASKS[self.task].slots if self.task in TASKS else ("label",)
        self.classes = [labels]
        if len(self.slots) > 1:
            pairs = [label.split(" ", 1) for label in labels]
            self.classes = [[pair[-1] for pair in pairs if pair[0] == slot] for slot in self.slots]
            if [f"{slot} {v}" for slot, c in zip(self.slots, self.classes, strict=True) for v in c] != labels:
                raise PackError(f"route {pack.route!r}: its labels are not those of {', '.join(self.slots)}")

    def forward(self, hidden: Sequence[Tensor], frames: Tensor) -> Tensor:
        features = self.features(hidden)
        valid = (torch.arange(features.size(1), device=frames.device) < frames[:, None]).to(features)
        means = torch.einsum("btc,bt->bc", features, valid) / frames[:, None]
        return F.linear(means, self.weight, self.bias).float()

    def of_each(self, outputs: Tensor, frames: Sequence[int]) -> list[Tensor]:
        return list(outputs)


def route_head(pack: MaskPack) -> RouteHead:
    """The head that a pack describes.

    Raises:
        PackError: it has neither tokens nor labels; and as `RouteHead`.
    """
    if pack.tokens is None and pack.meta.labels is None:
        raise PackError(f"route {pack.route!r}: its pack has neither tokens nor class labels; pack it again")
    return ClassHead(pack) if pack.tokens is None else CTCHead(pack)


def dev_figures(meta: PackMeta) -> tuple[float | None, float | None]:
    """Usual confidence and error rate (of phones or characters, else words) on the validation set, as far as known."""
    dev = validation_metrics(meta)
    return dev.get("confidence"), next((dev[name] for name in ("per", "cer", "wer") if name in dev), None)


def validation_metrics(meta: PackMeta) -> dict[str, Any]:
    """The pack's metrics on its validation set; those of a set ``dev`` where it says none of them."""
    return dict(meta.metrics.get("dev", {})) | dict(meta.metrics.get(validation_set(meta), {}))


def with_confidence(pack: MaskPack, value: float) -> MaskPack:
    """The pack with this usual confidence among the metrics of its validation set."""
    metrics = {name: dict(values) for name, values in pack.meta.metrics.items()}
    metrics.setdefault(validation_set(pack.meta), {})["confidence"] = value
    return dataclasses.replace(pack, meta=dataclasses.replace(pack.meta, metrics=metrics))


def validation_set(meta: PackMeta) -> str:
    """The name of its validation set among the pack's metrics: ``dev`` where it does not say another."""
    return str(meta.training.get("valid_set", "dev"))
