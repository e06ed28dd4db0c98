"""Upstream, weighted layer sum and head: s3prl's parts, put together with masks and low-precision arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.superb.tasks import Settings, TaskSpec
from s3router.training.parameters import apply_method
from s3router.upstreams import hub
from s3router.upstreams.s3prl_engine import load, problem

_NN = load("s3prl.nn.upstream")

MODES = {
    "frozen": "the head alone (the benchmark's constrained track)",
    "weight": "the upstream's weights but for its feature extractor, and the head",
    "router": "scores of weight masks on a frozen upstream (S3-Router), and the head",
}
"""Mode -> what it trains. The head is the featurizer's layer weights and the benchmark's head."""


class BenchmarkModel(_NN.UpstreamDownstreamModel):
    """As s3prl's, (wav (B, samples), lengths (B,)) -> what the head gives; but

    - no graph is built where none is wanted (s3prl builds the upstream's in validation, too);
    - ``autocast`` runs the upstream in bfloat16; featurizer, head and loss are float32 always.
    """

    UPSTREAM = "upstream"

    def __init__(self, upstream, featurizer, downstream, upstream_trainable: bool, autocast: bool):
        super().__init__(upstream, featurizer, downstream, upstream_trainable)
        self.autocast = autocast

    def forward(self, wav: Tensor, wav_len: Tensor, *args: Any, **kwargs: Any) -> Any:
        """``wav`` may be (B, layers, width) instead: one frame of every layer (`s3router.superb.pooled`)."""
        if wav.dim() == 3:
            hidden, lengths = list(wav.unsqueeze(2).unbind(1)), [wav_len] * wav.size(1)
        else:
            hidden, lengths = self.hidden(wav, wav_len)
        return self.downstream(*self.featurizer(hidden, lengths), *args, **kwargs)

    def hidden(self, wav: Tensor, wav_len: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The upstream's layers, float32 (B, T, C) each, and their valid frames (B,)."""
        with torch.set_grad_enabled(self.upstream_trainable and torch.is_grad_enabled()):
            if not self.upstream_trainable:
                self.upstream.eval()
            with torch.autocast(wav.device.type, torch.bfloat16, enabled=self.autocast):
                hidden, lengths = self.upstream(wav, wav_len)
            return [h.float() for h in hidden], lengths

    @property
    def routed(self) -> nn.Module:
        """The `s3router.upstreams.routed.RoutedUpstream` inside."""
        return self.upstream.upstream

    @property
    def receptive_field(self) -> int:
        """Samples that the upstream needs for one frame; 1 where it has no convolutions to read it off."""
        return self.routed.anatomy.receptive_field


class FrameModel(BenchmarkModel):
    """Of heads that give logits (B, T, units) and valid frames (B,); frames behind an utterance's end say blank.

    s3prl predicts one utterance at a time and takes the best unit of every frame; in a batch, frames of padding would
    speak, too. The loss does not see them.
    """

    BLANK = 0

    def forward(self, wav: Tensor, wav_len: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """(B, samples), (B,) -> float32 (B, T, units), int64 (B,)."""
        logits, lengths = super().forward(wav, wav_len, *args, **kwargs)
        behind = torch.arange(logits.size(1), device=logits.device) >= lengths.to(logits.device)[:, None]
        blank = torch.full((logits.size(2),), torch.finfo(logits.dtype).min / 2, device=logits.device)
        blank[self.BLANK] = 0
        return torch.where(behind[:, :, None], blank, logits), lengths


def build_task(
    spec: TaskSpec,
    settings: Settings,
    classes: list[list[str]],
    mode: str,
    extra_conf: dict[str, Any],
    upstream_ckpt: str | None = None,
    bfloat16: bool = False,
) -> nn.Module:
    """s3prl's Task (loss, predictions, metric) around a `BenchmarkModel`, with ``requires_grad`` set by the mode.

    Args:
        classes: of each slot.
        mode: see `MODES`; ``extra_conf`` holds a mask for router, and for no other.
        extra_conf: of the s3prl upstream ``s3router`` (`s3router.upstreams.hub.build`).

    Raises:
        ConfigError: unknown mode, or one that does not fit the upstream.
    """
    if mode not in MODES:
        raise ConfigError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    if (mode == "router") != ("mask" in extra_conf):
        raise ConfigError("a mask belongs to mode router, and to no other")
    hub.register()
    upstream = _NN.S3PRLUpstream("s3router", upstream_ckpt, extra_conf=extra_conf)
    featurizer = _NN.Featurizer(upstream)
    encoder = spec.of_kind().encoder(classes, spec)
    theirs = problem(spec.problem)
    head = theirs.build_downstream(settings.head, featurizer.output_size, len(encoder), featurizer.downsample_rate)
    model = (FrameModel if spec.kind == "sequences" else BenchmarkModel)(
        *(upstream, featurizer, head, mode != "frozen", bfloat16)
    )
    apply_method(model, mode)
    kind = spec.of_kind()
    return kind.build(theirs, model, encoder) if hasattr(kind, "build") else theirs.build_task({}, model, encoder)
