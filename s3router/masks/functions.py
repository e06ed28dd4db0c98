"""Autograd functions for masked and for frozen weights: torch's own results, in less memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from s3router.masks.binarize import Selection, Whole, row_blocks, rows_of


class Masked(torch.autograd.Function):
    """Hand out the masked weight that is kept already; send its gradient to the scores (and to the weight)."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        scores: Tensor | None,
        masked: Tensor,
        selection: Selection,
        estimator: str,
        dropout: float = 0.0,
    ) -> Tensor:
        ctx.save_for_backward(weight, scores)
        ctx.selection, ctx.estimator, ctx.dropout = selection, estimator, dropout
        # An alias: the kept tensor itself must not become part of a graph.
        return masked.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, scores = ctx.saved_tensors
        weight_grad = ctx.selection.apply(grad, scores, weight.dtype) if ctx.needs_input_grad[0] else None
        score_grad = None
        if ctx.needs_input_grad[1]:
            score_grad = _score_gradient(grad, weight, scores, ctx.estimator, ctx.dropout)
        return weight_grad, score_grad, None, None, None, None


class MaskedLinear(torch.autograd.Function):
    """A linear layer that makes its masked weight anew in the backward pass instead of keeping it."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        bias: Tensor | None,
        weight: Tensor,
        scores: Tensor | None,
        selection: Selection,
        estimator: str,
        dropout: float = 0.0,
    ) -> Tensor:
        trained = weight.requires_grad or (scores is not None and scores.requires_grad)
        ctx.save_for_backward(input if trained else None, weight, scores)
        ctx.selection, ctx.estimator, ctx.dropout = selection, estimator, dropout
        return F.linear(input, selection.apply(weight, scores, input.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, scores = ctx.saved_tensors
        input_grad = bias_grad = weight_grad = score_grad = None
        # The dtypes were settled in the forward pass, whatever context the backward pass is called from.
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                input_grad = grad @ ctx.selection.apply(weight, scores, grad.dtype)
            rows = grad.reshape(-1, grad.shape[-1])
            if ctx.needs_input_grad[1]:
                bias_grad = rows.sum(0)
            if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
                masked_grad = rows.t() @ input.reshape(-1, input.shape[-1])
            if ctx.needs_input_grad[2]:
                weight_grad = ctx.selection.apply(masked_grad, scores, weight.dtype)
            if ctx.needs_input_grad[3]:
                score_grad = _score_gradient(masked_grad, weight, scores, ctx.estimator, ctx.dropout)
        return input_grad, bias_grad, weight_grad, score_grad, None, None, None


class Gate(torch.autograd.Function):
    """Hand out 0 or 1 for each unit (1, units); send the gradient straight through to the scores (1, units)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, gate: Tensor, estimator: str, dropout: float = 0.0) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.estimator, ctx.dropout = estimator, dropout
        return gate.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (scores,) = ctx.saved_tensors
        out = grad.to(scores.dtype, copy=True)
        _through_magnitude(out, scores, ctx.estimator)
        return F.dropout(out, ctx.dropout, inplace=True) if ctx.dropout else out, None, None, None


def _score_gradient(grad: Tensor, weight: Tensor, scores: Tensor, estimator: str, dropout: float = 0.0) -> Tensor:
    """d loss/d scores from d loss/d(masked weight), (rows, columns), in any float dtype; a share of it dropped out."""
    if scores.shape == weight.shape:
        out = torch.empty_like(scores)
        for rows in row_blocks(weight):
            _through_magnitude(out[rows].copy_(grad[rows]).mul_(weight[rows]), scores[rows], estimator)
        return F.dropout(out, dropout, inplace=True) if dropout else out
    out = torch.zeros_like(scores)  # structured: a score's gradient is the sum over the weights it stands for
    for rows in row_blocks(weight):
        part, product = rows_of(out, rows), grad[rows].to(weight.dtype) * weight[rows]
        part += product.sum(0 if scores.shape[0] == 1 else 1, keepdim=True)
    _through_magnitude(out, scores, estimator)
    return F.dropout(out, dropout, inplace=True) if dropout else out


def _through_magnitude(grad: Tensor, scores: Tensor, estimator: str) -> None:
    """From the gradient of the mask to that of the scores, in place."""
    grad.mul_(torch.copysign(scores.new_ones(()), scores))
    if estimator == "sigmoid":
        slope = torch.sigmoid(scores.abs())
        grad.mul_(slope * (1 - slope))


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The dtype that products with `weight` are computed in."""
    device = weight.device.type
    if weight.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype


class FrozenLinear(nn.Linear):
    """A linear layer whose weight does not train, as :func:`~s3router.masks.attach` makes of the plain ones.

    Under autocast torch's own keeps a copy of the weight in the lower dtype for the backward pass; this one casts anew.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(…, columns) -> (…, rows)"""
        return frozen_linear(input, self.weight, self.bias)


def frozen_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` as `FrozenLinear` has it: (…, columns) -> (…, rows)."""
    casts = torch.is_autocast_enabled(input.device.type) and torch.is_grad_enabled() and input.requires_grad
    if not casts or weight.requires_grad:
        return F.linear(input, weight, bias)
    dtype = compute_dtype(weight)
    return MaskedLinear.apply(input.to(dtype), None if bias is None else bias.to(dtype), weight, None, Whole(), "")
