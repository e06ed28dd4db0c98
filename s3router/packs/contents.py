"""Mask packs in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

FORMAT_VERSION = 2  # the newest that is read: 1 has masks and further tensors, 2 adapters and the codec gaps besides
WHOLE = "seq2seq"  # ``kind`` among the preprocessing of packs of whole recognisers
CODECS = ("bits", "coded", "gaps")
"""One bit per weight; range coding; Huffman-coded gaps. The last two need the backbone."""
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_.].*)?")


@dataclass(frozen=True)
class PackMeta:
    """Metadata of a pack: plain (JSON) data.

    Attributes:
        backbone: the upstream's name: ``tiny``, ``hf_hubert_custom``, or a name of s3prl's hub.
        fingerprint: `s3router.upstreams.fingerprint` of the backbone that the masks were trained on.
        checkpoint: name of the backbone's checkpoint (no directories); None for names that bring their own.
        mask: fields of `s3router.masks.MaskConfig`.
        preprocessing: ``sample_rate``, ``features`` (``weighted`` or ``last``), ``normalize_features`` (layer
            norm over each hidden state before they are weighted), ``token_type`` (``char``, ``phn``, ``bpe``). Of a
            whole recogniser, encoder and decoder: ``kind`` (`WHOLE`), ``sample_rate``, ``language`` (its token),
            ``max_tokens_per_second``, ``normalize`` and ``text_language`` (the form of its text).
        labels: names of the classes, for classification; None for CTC, which has a token list.
        corpus: what the masks were trained on.
        metrics: set (``dev``, ``test``) -> metric (``wer``, ``cer``) -> value, as shares (0.05 for 5 %).
        training: settings of the training: ``method``, ``score_lr``, ``head_lr``, ``max_updates``, ``seed`` ...;
            ``valid_set``: which set among the metrics is the validation set (``dev`` if it is missing).
        versions: library -> version, where it was packed.
        licence: of the pack.
        date: when it was packed, ISO 8601.
        adapter: ``method`` and its settings (`s3router.packs.adapters`); empty where the pack has no adapter.
    """

    backbone: str
    fingerprint: str
    checkpoint: str | None = None
    mask: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    corpus: str = ""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    date: str = ""
    adapter: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the masks are for a whole recogniser, which has no head; for an encoder otherwise."""
        return self.preprocessing.get("kind") == WHOLE


def language_of(route: str, meta: PackMeta) -> str | None:
    """The code of the language that a route writes: by its settings, or the route's name if that looks like a code.

    None where neither tells, and for routes that classify.
    """
    if meta.labels is not None:
        return None
    given = meta.preprocessing
    match = _LANGUAGE.fullmatch(str(given.get("text_language") or given.get("language") or route))
    return match[1] if match else None


@dataclass(frozen=True)
class MaskPack:
    """One route on a shared backbone.

    Attributes:
        route: the language's or task's name.
        masks: weight's name in the bare backbone (``encoder.layers.0.….weight``) -> bool, the weight's shape, True =
            kept; of a pack that was read `s3router.packs.bits.BitMasks`, which keeps bits and makes masks on demand.
        delta: further backbone parameters that trained and take the place of its own: biases, layer norms, or all
            weights where a method trains these.
        featurizer: the featurizer's state dict (``weights``: one per layer); may be empty.
        head: the output layer: ``weight`` (tokens, dim), ``bias`` (tokens,).
        tokens: the CTC token list, in order; None for classification, whose ``meta.labels`` are set, and for whole
            recognisers (``meta.whole``), which have neither, nor a head.
        meta: see `PackMeta`.
        bpe_model: the sentencepiece model's bytes, where ``token_type`` is ``bpe``.
        adapter: ``{target}.{part}`` -> tensor, by ``meta.adapter``: what makes other weights of the backbone's, or
            layers behind them (`s3router.packs.adapters`). It applies after ``delta`` and before masks.
    """

    route: str
    masks: Mapping[str, Tensor]
    delta: dict[str, Tensor]
    featurizer: dict[str, Tensor]
    head: dict[str, Tensor]
    tokens: tuple[str, ...] | None
    meta: PackMeta
    bpe_model: bytes | None = None
    adapter: dict[str, Tensor] = field(default_factory=dict)
