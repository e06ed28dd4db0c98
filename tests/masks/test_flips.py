"""Mask entries that change sides."""

import pytest
import torch
from torch import nn

from s3router.masks import MaskConfig, attach, iterate
from s3router.masks.flips import Flips


def masked(sparsity=0.25):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4))
    attach(module, MaskConfig(sparsity=sparsity, targets=["0.weight", "2.weight"]))
    return module


def test_counts_what_changes_sides():
    module = masked()
    flips = Flips(module)
    assert flips
    assert flips.share() == 0.0
    mask = dict(iterate(module))["0.weight"]
    kept, removed = mask.keep().nonzero()[0], (~mask.keep()).nonzero()[0]
    with torch.no_grad():
        scores = mask.scores
        one, other = scores[tuple(kept)].clone(), scores[tuple(removed)].clone()
        scores[tuple(kept)], scores[tuple(removed)] = other, one
    assert flips.share() == pytest.approx(2 / (24 + 16))
    flips.restart()
    assert flips.share() == 0.0


def test_scores_that_move_without_crossing_the_threshold_do_not_count():
    module = masked()
    flips = Flips(module)
    with torch.no_grad():
        for _, mask in iterate(module):
            mask.scores.mul_(2.0)
    assert flips.share() == 0.0


def test_fixed_masks_and_plain_models_have_nothing_to_count():
    module = masked()
    for _, mask in iterate(module):
        mask.fix()
    assert not Flips(module)
    assert not Flips(nn.Linear(2, 2))
    assert Flips(nn.Linear(2, 2)).share() == 0.0
