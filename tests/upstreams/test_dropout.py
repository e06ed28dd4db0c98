"""Dropouts by what they act on, in the naming of every vendor."""

from __future__ import annotations

import itertools

import pytest
import torch

from s3router.upstreams import hub
from s3router.upstreams.dropout import DropoutConfig, set_dropout

MODELS = (
    "hf_hubert_custom",
    "hf_wavlm_custom",
    "hf_data2vec_custom",
    "hubert_custom",
    "wav2vec2_custom",
    "wavlm_local",
)


@pytest.fixture
def build(hf_folder, s3prl_file):
    def make(name: str, **options):
        path = hf_folder(name) if name.startswith("hf_") else s3prl_file(name)
        return hub.build(str(path), upstream=name, **options)

    return make


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["hidden", "attention", "activation", "input"])
def test_each_kind_alone_acts(build, name, kind, wavs):
    none = {"hidden": 0, "attention": 0, "activation": 0, "input": 0}
    still, noisy = build(name, dropout=none).train(), build(name, dropout=none | {kind: 0.5}).train()
    with torch.no_grad():
        first, second = (still(wavs)["hidden_states"] for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        first, second = (noisy(wavs)["hidden_states"] for _ in range(2))
    assert torch.equal(first[0], second[0]) == (kind in ("attention", "activation"))  # what enters the first layer
    assert not torch.equal(first[1], second[1])


@pytest.mark.parametrize("name", MODELS)
def test_layerdrop_hands_on_the_input_of_a_layer(build, name, wavs):
    """Pre-LN models, so that the hidden states are what goes from layer to layer."""
    upstream = build(name, dropout={"hidden": 0, "attention": 0, "activation": 0, "input": 0, "layerdrop": 0.5}).train()
    plain = build(name, dropout=0.0).eval()
    torch.manual_seed(0)
    skipped = 0
    for _ in range(8):
        with torch.no_grad():
            hidden = upstream(wavs)["hidden_states"]
        assert len(hidden) == 4
        skipped += sum(torch.equal(a, b) for a, b in itertools.pairwise(hidden[:3]))
    assert 0 < skipped < 16
    with torch.no_grad():
        for found, expected in zip(upstream.eval()(wavs)["hidden_states"], plain(wavs)["hidden_states"], strict=True):
            assert torch.equal(found, expected)


def test_a_skipped_layer_gets_gradients_of_zero(build, wavs):
    upstream = build("hf_hubert_custom", dropout={"layerdrop": 0.999999}).train()
    upstream(wavs)["last_hidden_state"].sum().backward()
    assert len(upstream.anatomy.layers) == 3
    for name in upstream.anatomy.layers:
        parameters = upstream.backbone.get_submodule(name).parameters()
        assert all(p.grad is not None and not p.grad.any() for p in parameters)


def test_what_is_not_named_stays_as_the_checkpoint_says(build):
    backbone = build("hf_hubert_custom", dropout={"activation": 0.25}).backbone
    layer = backbone.encoder.layers[0]
    assert layer.feed_forward.intermediate_dropout.p == 0.25
    assert layer.feed_forward.output_dropout.p == layer.dropout.p == backbone.config.hidden_dropout == 0.1
    assert layer.attention.dropout == backbone.config.attention_dropout == 0.1
    set_dropout(backbone, DropoutConfig.of(0.4))
    assert layer.attention.dropout == layer.feed_forward.intermediate_dropout.p == layer.dropout.p == 0.4
    assert type(layer).__name__ == "HubertEncoderLayerStableLayerNorm"
