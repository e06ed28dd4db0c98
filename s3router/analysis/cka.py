"""Linear CKA of representations, unbiased and in mini-batches.

Centred kernel alignment compares what two networks make of the same inputs, whatever the rotation and scale of their
features (Kornblith et al., Similarity of neural network representations revisited, ICML 2019). HSIC is estimated
without bias (Song et al., Feature selection via dependence maximization, JMLR 13, 2012) in each mini-batch, and means
over mini-batches stand in the quotient (Nguyen, Raghu and Kornblith, ICLR 2021): the result does not depend on the size
of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s3router.errors import ConfigError


def unbiased_hsic(first: Tensor, second: Tensor) -> Tensor:
    """Of Gram matrices (…, n, n), float64, n ≥ 4; their diagonals do not count. Returns (…,)."""
    n = first.shape[-1]
    if n < 4:
        raise ConfigError(f"{n} frames are too few for CKA: at least 4 are needed")
    first, second = (_without_diagonal(gram) for gram in (first, second))
    a, b = first.sum(-1), second.sum(-1)
    together = (first * second).sum((-1, -2))
    sums = a.sum(-1) * b.sum(-1) / ((n - 1) * (n - 2))
    return (together + sums - 2 / (n - 2) * (a * b).sum(-1)) / (n * (n - 3))


def _without_diagonal(gram: Tensor) -> Tensor:
    gram = gram.clone()
    gram.diagonal(dim1=-2, dim2=-1).zero_()
    return gram


class MinibatchCKA:
    """CKA between all pairs of several representations, layer by layer.

    Args:
        models, layers: how many.

    `add` one mini-batch after the other; `value` is the result so far.
    """

    def __init__(self, models: int, layers: int):
        self._hsic = torch.zeros(layers, models, models, dtype=torch.float64)
        self.batches = 0

    def add(self, features: list[list[Tensor]]) -> None:
        """A mini-batch: for each model and layer, frames (n, C) of the same inputs; C may differ."""
        for layer, of_models in enumerate(zip(*features, strict=True)):
            grams = [x @ x.T for x in (_centred(frames) for frames in of_models)]
            for one, first in enumerate(grams):
                for other in range(one, len(grams)):
                    self._hsic[layer, one, other] += unbiased_hsic(first, grams[other])
        self.batches += 1

    @property
    def value(self) -> Tensor:
        """float64 (layers, models, models), symmetric; NaN where a representation is constant."""
        upper = self._hsic.triu()
        hsic = upper + upper.triu(1).mT
        own = hsic.diagonal(dim1=-2, dim2=-1)
        return hsic / (own[:, :, None] * own[:, None, :]).clamp_min(0).sqrt()


def _centred(frames: Tensor) -> Tensor:
    """In float64. The estimate is the same without it, but sums of large numbers would lose digits."""
    frames = frames.double()
    return frames - frames.mean(0)
