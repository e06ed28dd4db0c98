"""Targets by role, by pattern and by layer; what matches nothing says what was seen."""

from __future__ import annotations

import pytest
from torch import nn

from s3router.errors import ConfigError
from s3router.masks import MaskConfig, attach, find_targets


def names(module: nn.Module, **config) -> list[str]:
    return [target.name for target in find_targets(module, MaskConfig(**config))]


def test_roles_layers_and_patterns(encoder):
    assert names(encoder) == [f"layers.{i}.fc{j}.weight" for i in (0, 1) for j in (1, 2)]
    assert names(encoder, targets=("projection",)) == ["post_extract_proj.weight"]
    attention = [f"layers.1.self_attn.{name}_proj.weight" for name in ("q", "k", "v", "out")]
    assert names(encoder, targets=("attention",), layers=(1,)) == attention
    assert names(encoder, targets=("layers.*.fc2", "post_extract_proj.weight")) == [
        "post_extract_proj.weight",
        "layers.0.fc2.weight",
        "layers.1.fc2.weight",
    ]
    # The projection belongs to no layer, so `layers` leaves it in.
    assert names(encoder, targets=("projection", "ffn"), layers=(0,))[0] == "post_extract_proj.weight"
    target = find_targets(encoder, MaskConfig())[2]
    assert (target.role, target.layer, target.shape, target.module) == ("ffn", 1, (16, 8), "layers.1.fc1")


def test_also_in_a_model_that_is_masked_already(encoder):
    before = find_targets(encoder, MaskConfig())
    attach(encoder, MaskConfig())
    assert find_targets(encoder, MaskConfig()) == before


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"targets": ("layers.*.fc3",)}, "pattern 'layers.*.fc3' matches nothing"),
        ({"layers": (0, 7)}, "no target in layer 7 (there are: [0, 1])"),
        ({"layer_sparsity": {5: 0.2}}, "'5' has no target"),
        ({"role_sparsity": {"attention": 0.2}}, "'attention' has no target"),
        ({"granularity": "1:3", "targets": ("ffn",)}, "layers.0.fc1.weight has 8 inputs, not a multiple of 3"),
    ],
)
def test_what_fits_nothing_lists_what_was_seen(encoder, config, part):
    with pytest.raises(ConfigError) as caught:
        find_targets(encoder, MaskConfig(**config))
    assert part in str(caught.value)
    assert "layers.0.fc1.weight [16, 8]" in str(caught.value)


def test_no_linears_at_all():
    with pytest.raises(ConfigError, match="Linear weights seen: none"):
        find_targets(nn.Conv1d(2, 2, 1), MaskConfig())


def test_a_decoder_is_not_part_of_the_roles(encoder):
    model = nn.ModuleDict({"encoder": encoder, "decoder": encoder.layers[0]})
    del encoder.layers[0]
    assert names(model) == ["encoder.layers.0.fc1.weight", "encoder.layers.0.fc2.weight"]
    assert names(model, targets=("decoder.fc1",)) == ["decoder.fc1.weight"]


def test_torch_transformer():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    assert len(names(model)) == 4
    assert names(model, targets=("attention",))[:2] == [
        "layers.0.self_attn.in_proj_weight",
        "layers.0.self_attn.out_proj.weight",
    ]
