"""The model of a task: s3prl's upstream, featurizer and head, with masks and low-precision arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.superb.kind import Kind, Settings
from s3router.training.parameters import apply_method
from s3router.tuners import METHODS
from s3router.upstreams import hub
from s3router.upstreams.s3prl_engine import load, problem

_NN = load("s3prl.nn.upstream")


class BenchmarkModel(_NN.UpstreamDownstreamModel):
    """s3prl's: (wav (B, samples), lengths (B,)) -> the head's output. Two differences:

    - no graph is built where none is needed (s3prl builds the upstream's in validation, too);
    - ``autocast`` runs the upstream in bfloat16; featurizer, head and loss are always float32.
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
    """A model with a CTC head: logits (B, T, units) and valid frames (B,); frames past an utterance's end are blank.

    s3prl predicts one utterance at a time and takes the best unit of every frame; in a batch, frames of padding would
    speak, too. The loss does not see them.
    """

    BLANK = 0

    def forward(self, wav: Tensor, wav_len: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """(B, samples), (B,) -> float32 (B, T, units), int64 (B,)."""
        logits, lengths = super().forward(wav, wav_len, *args, **kwargs)
        padding = torch.arange(logits.size(1), device=logits.device) >= lengths.to(logits.device)[:, None]
        blank = torch.full((logits.size(2),), torch.finfo(logits.dtype).min / 2, device=logits.device)
        blank[self.BLANK] = 0
        return torch.where(padding[:, :, None], blank, logits), lengths


def build_task(
    kind: Kind,
    settings: Settings,
    classes: list[list[str]],
    method: str,
    extra_conf: dict[str, Any],
    upstream_ckpt: str | None = None,
    autocast: bool = False,
) -> nn.Module:
    """s3prl's Task (loss, predictions) around a `BenchmarkModel`, with ``requires_grad`` set by the method.

    Args:
        kind: the task.
        classes: of each slot, or units.
        method: one of `s3router.tuners.METHODS`; ``extra_conf`` holds a mask for those with masks, and for no others.
        extra_conf: of the s3prl upstream ``s3router`` (`s3router.upstreams.hub.build`).
        autocast: whether the upstream runs in bfloat16.

    Returns:
        The Task; its ``model`` is the `BenchmarkModel`, and its ``encoder`` the kind's encoder.

    Raises:
        ConfigError: unknown method, or one that does not fit the upstream.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if METHODS[method].masks != ("mask" in extra_conf):
        raise ConfigError("a mask belongs to methods with masks, and to no others")
    hub.register()
    upstream = _NN.S3PRLUpstream("s3router", upstream_ckpt, extra_conf=extra_conf)
    featurizer = _NN.Featurizer(upstream)
    encoder = kind.encoder(classes)
    head = problem(kind.problem).build_downstream(
        settings.head, featurizer.output_size, len(encoder), featurizer.downsample_rate
    )
    wrapper = FrameModel if kind.ctc else BenchmarkModel
    model = wrapper(upstream, featurizer, head, METHODS[method].rate is not None, autocast)
    apply_method(model, method)
    task = kind.build(model, encoder)
    task.encoder = encoder
    return task
