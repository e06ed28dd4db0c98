"""Unbiased HSIC against its definition over all quadruples, and CKA's closed form and invariances."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from s3router.analysis.cka import MinibatchCKA, unbiased_hsic
from s3router.errors import ConfigError


def grams(seed: int, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, width, generator=generator, dtype=torch.float64) for width in (3, 5))
    return x @ x.T, y @ y.T


def test_hsic_is_the_mean_over_all_quadruples():
    """h(i, j, q, r) = k_ij (l_ij + l_qr - 2 l_iq), over ordered quadruples of different items (Song et al., 2012)."""
    k, l = grams(0)  # noqa: E741
    slow = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)]
    assert float(unbiased_hsic(k, l)) == pytest.approx(float(torch.stack(slow).mean()))


def test_it_is_unbiased():
    """The mean over all halves of the items is the value on all of them; the usual estimate's is not."""
    k, l = grams(1, 7)  # noqa: E741
    parts = [unbiased_hsic(k[ix][:, ix], l[ix][:, ix]) for ix in map(list, itertools.combinations(range(7), 5))]
    assert float(torch.stack(parts).mean()) == pytest.approx(float(unbiased_hsic(k, l)))


def features(seed: int, n: int = 40, width: int = 6) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_one_batch_is_the_closed_form():
    x, y = features(0), features(0) @ features(1, 6, 4) + features(2, 40, 4)
    cka = MinibatchCKA(2, 1)
    cka.add([[x], [y]])
    k, l = x @ x.T, y @ y.T  # noqa: E741
    wanted = unbiased_hsic(k, l) / (unbiased_hsic(k, k) * unbiased_hsic(l, l)).sqrt()
    assert float(cka.value[0, 0, 1]) == pytest.approx(float(wanted))
    assert float(cka.value[0, 1, 0]) == pytest.approx(float(wanted))


def test_batches_are_averaged_before_the_quotient():
    several = [(features(n), features(n) + features(n + 10)) for n in range(3)]
    cka = MinibatchCKA(2, 1)
    for x, y in several:
        cka.add([[x], [y]])
    parts = [[unbiased_hsic(a @ a.T, b @ b.T) for x, y in several for a, b in [pair(x, y)]] for pair in PAIRS]
    kl, kk, ll = (torch.stack(part).mean() for part in parts)
    assert float(cka.value[0, 0, 1]) == pytest.approx(float(kl / (kk * ll).sqrt()))
    assert cka.batches == 3


PAIRS = (lambda x, y: (x, y), lambda x, y: (x, x), lambda x, y: (y, y))


def test_rotation_scale_and_shift_do_not_matter_and_noise_is_near_0():
    x = features(0, 400)
    rotation = torch.linalg.qr(features(3, 6))[0]
    cka = MinibatchCKA(3, 1)
    cka.add([[x], [3 * x @ rotation + 5], [features(9, 400)]])
    assert float(cka.value[0, 0, 1]) == pytest.approx(1)
    assert abs(float(cka.value[0, 0, 2])) < 0.02
    assert cka.value[0].diagonal().tolist() == pytest.approx([1, 1, 1])


def test_a_constant_has_none():
    cka = MinibatchCKA(2, 1)
    cka.add([[features(0)], [torch.ones(40, 3)]])
    assert math.isnan(cka.value[0, 0, 1])


def test_too_few_frames():
    with pytest.raises(ConfigError, match="3 frames are too few"):
        MinibatchCKA(1, 1).add([[features(0, 3)]])
