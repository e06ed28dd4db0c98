"""Initial scores: the definition, the spread, and fixed numbers for a fixed seed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from s3router.masks import MaskConfig, attach
from s3router.masks.binarize import select
from s3router.masks.scores import SCORE_INITS, generator_for, initial_scores, ranked_by_removals

SHAPE = (48, 96)


def weight(shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def init(name: str, w: torch.Tensor, **changes) -> torch.Tensor:
    settings = {"init": name, "init_scale": 1.0, "granularity": "unstructured", "sparsity": 0.25, "seed": 0}
    return initial_scores(w, "layers.0.fc1.weight", **(settings | changes))


def test_ori_is_kaiming_uniform_in_the_order_of_the_weights():
    w = weight()
    scores = init("ori", w)
    # The same draws, by the slow way: the i-th smallest magnitude goes where the i-th smallest weight is.
    draws = torch.empty(SHAPE)
    torch.nn.init.kaiming_uniform_(draws, a=math.sqrt(5), generator=generator_for(0, "layers.0.fc1.weight"))
    by_size = sorted(draws.flatten().tolist(), key=abs)
    order = sorted(range(w.numel()), key=lambda i: abs(w.flatten()[i].item()))
    expected = torch.empty(w.numel())
    for draw, position in zip(by_size, order, strict=True):
        expected[position] = draw
    assert torch.allclose(scores, expected.view(SHAPE), atol=1e-7)
    assert torch.equal(scores.abs().flatten().argsort(), w.abs().flatten().argsort())


def test_ori_starts_from_magnitude_pruning_even_where_many_draws_are_equal():
    w = weight((1024, 1024))
    scores = init("ori", w)
    assert scores.abs().unique().numel() == scores.numel()
    for sparsity in (0.1, 0.5):
        k = int(sparsity * w.numel())
        kept = select([scores], k)[0].keep(scores)
        assert torch.equal(kept, select([w], k)[0].keep(w))


def test_ori_with_equal_weights_ranks_by_position():
    scores = init("ori", torch.ones(4, 8))
    magnitudes = scores.abs().flatten()
    assert torch.equal(magnitudes, magnitudes.sort().values)


def test_golden_numbers():
    """Fixed seeds, fixed numbers: results of earlier runs stay reproducible."""
    scores = init("ori", weight())
    assert scores[0, :4].tolist() == pytest.approx([0.0063434, 0.0286273, -0.0580928, -0.0056634], abs=1e-6)
    assert float(init("normal", weight()).sum()) == pytest.approx(-26.7312, abs=1e-2)


@pytest.mark.parametrize(
    ("name", "std", "bound"),
    [
        ("kaiming_uniform", 1 / math.sqrt(3 * 96), 1 / math.sqrt(96)),
        ("kaiming_normal", 1 / math.sqrt(3 * 96), math.inf),
        ("xavier_uniform", math.sqrt(2 / 144), math.sqrt(6 / 144)),
        ("xavier_normal", math.sqrt(2 / 144), math.inf),
        ("normal", 1.0, math.inf),
        ("ori", 1 / math.sqrt(3 * 96), 1 / math.sqrt(96)),
    ],
)
def test_spread(name, std, bound):
    scores = init(name, weight())
    assert scores.std().item() == pytest.approx(std, rel=0.05)
    assert scores.abs().max() <= bound * (1 + 1e-6)


def test_plain_ones():
    w = weight()
    assert torch.equal(init("zero", w), torch.zeros(SHAPE))
    assert torch.equal(init("one", w), torch.ones(SHAPE))
    assert torch.equal(init("weight", w, init_scale=4.0), w / 4)
    assert 0 <= init("uniform", w).min() < init("uniform", w).max() < 1


def test_binarised_magnitudes():
    w = torch.tensor([[0.1, -4.0, 3.0, -0.2], [1.0, 2.0, -0.3, 0.4]])
    assert init("binary_magnitude", w).tolist() == [[0, 1, 1, 0], [1, 1, 1, 1]]
    assert init("binary_negative_magnitude", w).tolist() == [[1, 0, 0, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("name", SCORE_INITS)
@pytest.mark.parametrize(("granularity", "shape"), [("unstructured", (4, 8)), ("output", (4, 1)), ("input", (1, 8))])
def test_shapes_and_seeds(name, granularity, shape):
    w = weight((4, 8))
    scores = init(name, w, granularity=granularity)
    assert scores.shape == shape
    assert scores.dtype == torch.float32
    assert torch.equal(scores, init(name, w, granularity=granularity))
    drawn = name not in {"zero", "one", "weight", "binary_magnitude", "binary_negative_magnitude"}
    assert torch.equal(scores, init(name, w, granularity=granularity, seed=1)) is not drawn


def test_structured_scores_rank_mean_magnitudes():
    w = weight((6, 8))
    rows = init("ori", w, granularity="output").abs().flatten().argsort()
    columns = init("weight", w, granularity="input")
    assert torch.equal(rows, w.abs().mean(1).argsort())
    assert torch.allclose(columns, w.abs().mean(0, keepdim=True))


@pytest.mark.parametrize("name", ["weight", "binary_magnitude"])
@pytest.mark.parametrize("granularity", ["unstructured", "2:4"])
def test_a_weight_that_is_a_transposed_view(name, granularity):
    linear = nn.Linear(8, 12)
    linear.weight = nn.Parameter(weight((8, 12)).round().t())  # with ties
    [mask] = attach(linear, MaskConfig(sparsity=0.5, targets=("weight*",), granularity=granularity, score_init=name))
    linear(torch.ones(2, 8)).sum().backward()
    assert int(mask.keep().sum()) == 48


def test_draws_depend_on_seed_and_name_alone():
    first = torch.rand(3, generator=generator_for(0, "a"))
    torch.manual_seed(99)
    assert torch.equal(first, torch.rand(3, generator=generator_for(0, "a")))
    assert not torch.equal(first, torch.rand(3, generator=generator_for(0, "b")))
    assert not torch.equal(first, torch.rand(3, generator=generator_for(1, "a")))


def test_masks_of_others_go_before_magnitudes():
    w = weight().mul(2).round() / 2  # many are equal
    removals = torch.randint(0, 4, SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.int16)
    scores = init("ori", w, values=ranked_by_removals(w, removals))
    flat, counts = w.flatten().tolist(), removals.flatten().tolist()
    slow = sorted(range(w.numel()), key=lambda i: (-counts[i], abs(flat[i]), i))
    assert scores.abs().flatten().argsort().tolist() == slow
    plain = init("ori", w)
    assert torch.equal(scores.flatten().sort().values, plain.flatten().sort().values)  # the spacing stays
    nobody = init("ori", w, values=ranked_by_removals(w, torch.zeros(SHAPE, dtype=torch.int16)))
    assert torch.equal(nobody, plain)
