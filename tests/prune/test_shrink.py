"""Units taken out of plain models: fewer rows and columns, the same outputs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from s3router.errors import ConfigError
from s3router.masks import MaskConfig, attach, bake, masks_of
from s3router.prune.shrink import fit_config, layers_in_words, shrink
from tests.upstreams.conftest import hf_model
from tests.upstreams.whisper_files import small_whisper

WAVE = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))


def masked(model: nn.Module, **mask) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The model with zeros in it, and its masks."""
    given = {"targets": ("ffn", "attention"), "granularity": "group", "sparsity": 0.5, "score_init": "normal"}
    attach(model, MaskConfig(**(given | mask)))
    masks = masks_of(model)
    return bake(model).eval(), masks


def hubert() -> nn.Module:
    return hf_model("hf_hubert_custom", layerdrop=0.0)


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(WAVE).last_hidden_state


def test_outputs_stay_and_rows_go():
    model, masks = masked(hubert())
    small = copy.deepcopy(model)
    shrunk = shrink(small, masks)
    torch.testing.assert_close(output(small), output(model), atol=1e-5, rtol=1e-4)
    assert (
        layers_in_words(shrunk)
        == "3 feed-forward layers with 96 of 192 hidden units and 3 attention layers with 6 of 12 heads"
    )
    layer = small.encoder.layers[2]
    assert layer.feed_forward.intermediate_dense.weight.shape == (32, 32)
    assert layer.attention.v_proj.weight.shape == (16, 32)
    assert layer.attention.out_proj.weight.shape == (32, 16)
    heads, ffn = 4 * 32 * 32 + 3 * 32, 2 * 32 * 64 + 64
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, small)]
    assert sizes[0] - sizes[1] == 3 * (heads + ffn) // 2
    assert not fit_config(small)
    small(WAVE).last_hidden_state.sum().backward()  # it trains on
    assert layer.attention.q_proj.weight.grad.shape == (16, 32)


@pytest.mark.parametrize(("scope", "fits"), [("tensor", True), ("global", False)])
def test_feed_forward_layers_of_one_size_are_plain_models_of_transformers(scope, fits):
    model, masks = masked(hubert(), targets=("ffn",), scope=scope)
    small = copy.deepcopy(model)
    shrink(small, masks)
    torch.testing.assert_close(output(small), output(model), atol=1e-5, rtol=1e-4)
    assert fit_config(small) == fits
    if fits:
        again = type(small)(small.config).eval()
        again.load_state_dict(small.state_dict())
        torch.testing.assert_close(output(again), output(model), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("targets", [("model.*.fc1", "model.*.fc2"), ("model.*_attn.?_proj", "model.*_attn.out_proj")])
def test_whole_recognisers(targets):
    whisper = small_whisper(encoder_attention_heads=4, decoder_attention_heads=4)
    model, masks = masked(whisper, targets=targets)
    small = copy.deepcopy(model)
    shrunk = shrink(small, masks)
    assert len(shrunk) == (4 if "fc1" in targets[0] else 6)
    features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(6)[None]
    with torch.no_grad():
        first, second = (m(features, decoder_input_ids=tokens).logits for m in (model, small))
    torch.testing.assert_close(second, first, atol=1e-4, rtol=1e-4)
    kept = [m.generate(features, max_new_tokens=5, do_sample=False) for m in (model, small)]  # with cached keys
    assert torch.equal(*kept)
    assert fit_config(small) == ("fc1" in targets[0])
    if "fc1" in targets[0]:
        assert (small.config.encoder_ffn_dim, small.config.decoder_ffn_dim) == (48, 16)


def test_single_weights_are_not_taken_out():
    model, masks = masked(hubert(), granularity="unstructured")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match="no hidden unit and no attention head is removed as a whole"):
        shrink(model, masks)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_layer_with_nothing_left_keeps_one_unit():
    model, masks = masked(hubert())
    name = "encoder.layers.2.attention.out_proj"
    masks[f"{name}.weight"][:] = False
    model.get_submodule(name).weight.data.zero_()
    small = copy.deepcopy(model)
    shrink(small, masks)
    assert small.encoder.layers[2].attention.num_heads == 1
    torch.testing.assert_close(output(small), output(model), atol=1e-5, rtol=1e-4)


def test_attention_with_more_than_its_projections_keeps_its_heads():
    model, masks = masked(hf_model("hf_wavlm_custom", layerdrop=0.0))
    heads = {name: mask for name, mask in masks.items() if "attention" in name}
    with pytest.raises(ConfigError, match=r"WavLMAttention\) has .*gru_rel_pos.* besides its projections"):
        shrink(model, heads)
    small = copy.deepcopy(model)
    assert [each.group.role for each in shrink(small, masks)] == ["ffn"] * 3
    assert fit_config(small)
    torch.testing.assert_close(output(small), output(model), atol=1e-5, rtol=1e-4)
