"""Groups that are removed together: hidden units and attention heads."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from s3router.errors import ConfigError
from s3router.masks import MaskConfig, attach, bake, detach, load_masks, masks_of
from s3router.masks.groups import find_groups, group_magnitudes, hidden_axis
from tests.upstreams.conftest import hf_model
from tests.upstreams.whisper_files import small_whisper

WAVE = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
BOTH = {"targets": ("ffn", "attention"), "granularity": "group"}


def hubert() -> nn.Module:
    return hf_model("hf_hubert_custom", layerdrop=0.0).eval()


def output(model: nn.Module) -> torch.Tensor:
    return model(WAVE).last_hidden_state


def test_they_are_found():
    model = hubert()
    groups = find_groups(model)
    layer = "encoder.layers.1."
    assert len(groups) == 2 * len(model.encoder.layers)
    ffn = next(g for g in groups if g.output == f"{layer}feed_forward.output_dense")
    assert (ffn.role, ffn.inputs, ffn.units, ffn.size) == ("ffn", (f"{layer}feed_forward.intermediate_dense",), 64, 1)
    heads = next(g for g in groups if g.output == f"{layer}attention.out_proj")
    names = tuple(f"{layer}attention.{name}_proj" for name in "qkv")
    assert (heads.role, heads.inputs, heads.units, heads.size) == ("attention", names, 4, 8)
    whisper = find_groups(small_whisper().model)
    assert {g.output.rsplit(".", 2)[-2] for g in whisper} >= {"self_attn", "encoder_attn"}


def test_names_tell_the_axis_of_hidden_units():
    for group in (*find_groups(hubert()), *find_groups(small_whisper().model)):
        if group.role == "ffn":
            assert [hidden_axis(f"{name}.weight") for name in (*group.inputs, group.output)] == [0, 1]
    names = ("layers.0.ffn1.w_1", "layers.0.cgmlp.channel_proj2", "layer.0.intermediate.dense", "post_extract_proj")
    assert [hidden_axis(f"{name}.weight") for name in names] == [0, 1, 0, None]


def test_magnitudes_are_means_over_all_weights_of_a_unit():
    model = hubert()
    for group in find_groups(model):
        found = group_magnitudes(model, group)
        for unit in (0, group.units - 1):
            mine = slice(unit * group.size, (unit + 1) * group.size)
            parts = [model.get_submodule(name).weight[mine] for name in group.inputs]
            parts.append(model.get_submodule(group.output).weight[:, mine])
            every = torch.cat([part.flatten() for part in parts])
            torch.testing.assert_close(found[0, unit], every.abs().mean())


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_the_share_is_of_units_and_whole_ones_go(scope):
    model = hubert()
    attach(model, MaskConfig(sparsity=0.3, scope=scope, **BOTH))
    removed = 0
    for name, mask in masks_of(model).items():
        size = 8 if name.endswith("out_proj.weight") else 1
        units = mask[0].view(-1, size)
        assert torch.equal(mask, mask[:1].expand_as(mask))
        assert torch.equal(units, units[:, :1].expand_as(units))
        gone = int((~units[:, 0]).sum())
        assert scope == "global" or gone == int(0.3 * len(units))
        removed += gone
    assert scope == "tensor" or removed == int(0.3 * 3 * (64 + 4))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_budget_of_multiplications_counts_a_head_for_what_it_takes(share):
    model = hubert()
    attach(model, MaskConfig(sparsity=share, scope="flops", score_init="uniform", **BOTH))
    groups, masks = find_groups(model), masks_of(model)
    every, total = [], 0  # (score, position, cost, kept) of each unit
    for group in groups:
        cost = sum(model.get_submodule(name).weight[: group.size].numel() for name in group.inputs)
        cost += model.get_submodule(group.output).weight[:, : group.size].numel()
        scores = model.get_submodule(group.output).parametrizations.weight[0].scores.detach().abs().flatten()
        for unit, kept in enumerate(masks[group.weight][0].view(group.units, group.size)[:, 0].tolist()):
            every.append((float(scores[unit]), len(every), cost, kept))
        total += cost * group.units
    spent = 0
    for _, _, cost, kept in sorted(every):
        fits = spent + cost <= share * total
        assert kept != fits
        if not fits:
            share = 0  # nothing after it
        spent += cost * fits
    assert {cost for _, _, cost, _ in every} == {64, 1024}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("estimator", ["straight_through", "sigmoid"])
def test_outputs_and_gradients_are_those_of_masks_by_hand(autocast, estimator):
    model, plain = hubert(), hubert()
    attach(model, MaskConfig(sparsity=0.5, estimator=estimator, **BOTH))
    by_hand = {}
    for group in find_groups(plain):
        linear = plain.get_submodule(group.output)
        chain = model.get_submodule(group.output).parametrizations.weight[0]
        scores = chain.scores.detach().clone().requires_grad_()
        order = scores.detach().abs().flatten().argsort()
        gate = torch.ones(group.units)
        gate[order[: group.units // 2]] = 0
        magnitude = scores.abs() if estimator == "straight_through" else scores.abs().sigmoid()
        through = (gate + magnitude - magnitude.detach()).flatten().repeat_interleave(group.size)
        by_hand[group.output] = scores, chain
        weight = linear.weight.detach()
        del linear.weight
        linear.weight = weight * through
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        first, second = output(model), output(plain)
    tolerance = 0.05 if autocast else 1e-5
    torch.testing.assert_close(first, second, atol=tolerance, rtol=tolerance)
    for found in (first, second):
        found.float().square().mean().backward()
    for scores, chain in by_hand.values():
        scale = float(scores.grad.abs().max())
        torch.testing.assert_close(chain.scores.grad / scale, scores.grad / scale, atol=4 * tolerance, rtol=0)


def test_layers_that_read_the_weight_themselves_get_the_masked_one():
    model = hubert()
    attach(model, MaskConfig(sparsity=0.5, **BOTH))
    linear = model.encoder.layers[0].attention.out_proj
    x = torch.randn(3, 32)
    torch.testing.assert_close(nn.functional.linear(x, linear.weight, linear.bias), linear(x))
    linear.weight.square().sum().backward()
    assert linear.parametrizations.weight[0].scores.grad.abs().sum() > 0


def test_taking_off_baking_loading_and_copies():
    plain = hubert()
    model = hubert()
    attach(model, MaskConfig(sparsity=0.5, score_init="normal", **BOTH))
    wanted, masks = output(model), masks_of(model)
    torch.testing.assert_close(output(copy.deepcopy(model)), wanted)
    again = hubert()
    attach(again, MaskConfig(sparsity=0.5, seed=9, score_init="normal", **BOTH))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(output(again), wanted)
    load_masks(again, masks)
    torch.testing.assert_close(output(again), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output(bake(again)), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output(detach(model)), output(plain))


def test_masks_that_are_held_stay_as_they_are():
    model = hubert()
    masks = attach(model, MaskConfig(sparsity=0.5, score_init="weight", **BOTH))
    wanted, before = output(model), masks_of(model)
    for mask in masks:
        mask.fix()
    torch.testing.assert_close(output(model), wanted, atol=1e-6, rtol=1e-5)
    assert all(torch.equal(mask, before[name]) for name, mask in masks_of(model).items())


def test_what_has_no_units():
    model = hubert()
    with pytest.raises(ConfigError, match=r"granularity group: feature_projection.projection.weight belong to no"):
        attach(model, MaskConfig(targets=("projection",), granularity="group"))
    with pytest.raises(ConfigError, match=r"out_proj.weight belong to no feed-forward or attention layer of separate"):
        attach(
            nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1),
            MaskConfig(targets=("*",), granularity="group"),
        )
    with pytest.raises(ConfigError, match="row_scale does not go with granularity group"):
        MaskConfig(granularity="group", train=("row_scale",))
