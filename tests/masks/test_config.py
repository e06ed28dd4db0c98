"""MaskConfig: defaults, conversion, and every problem in one message."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from s3router.errors import ConfigError
from s3router.masks import SCORE_INITS, MaskConfig


def test_defaults():
    config = MaskConfig()
    assert (config.sparsity, config.targets, config.scope, config.score_init) == (0.1, ("ffn",), "tensor", "ori")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.sparsity = 0.2


def test_from_dict_takes_what_yaml_and_command_lines_hold():
    config = MaskConfig.from_dict(
        {
            "sparsity": "0.2",
            "targets": "ffn, attention",
            "layers": [0, "3"],
            "layer_sparsity": {"1": "0.3"},
            "seed": 7.0,
        }
    )
    assert config.sparsity == 0.2
    assert config.targets == ("ffn", "attention")
    assert config.layers == (0, 3)
    assert config.layer_sparsity == {1: 0.3}
    assert config.seed == 7
    assert MaskConfig.from_dict(config.to_dict()) == config


def test_all_problems_at_once():
    wrong = {
        "sparsity": 1.5,
        "targets": ["fnn"],
        "granularity": "rows",
        "scope": "world",
        "score_init": "kaiming",
        "estimator": "ste",
        "train": ["biases"],
        "layer_sparsity": {0: -0.1},
        "role_sparsity": {"fc": 0.1},
        "init_scale": 0,
        "sparcity": 0.1,
    }
    with pytest.raises(ConfigError) as caught:
        MaskConfig.from_dict(wrong)
    message = str(caught.value)
    for key in wrong:
        assert key in message, key
    for known in ("ffn, attention, projection", ", ".join(SCORE_INITS), "straight_through, sigmoid", "2:4"):
        assert known in message


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"sparsity": "much"}, "sparsity: expected a number, found 'much'"),
        ({"sparsity": 1.0}, "sparsity: 1.0 is out of range"),
        ({"sparsity": float("nan")}, "out of range"),
        ({"sparsity": True}, "sparsity: expected a number"),
        ({"seed": 0.5}, "seed: expected a whole number"),
        ({"seed": float("inf")}, "seed: expected a whole number"),
        ({"layers": [float("inf")]}, "layers: expected a list of layer numbers"),
        ({"layers": ["a"]}, "layers: expected"),
        ({"layers": []}, "layers: []"),
        ({"targets": []}, "targets: empty"),
        ({"layer_sparsity": 0.1}, "layer_sparsity: expected a mapping"),
        ({"granularity": "4:2"}, "keeps 4 of 2"),
        (
            {"granularity": "2:4", "sparsity": 0.1},
            "sparsity: 0.1 contradicts granularity 2:4, which removes 2 of 4 (0.5)",
        ),
        ({"granularity": 7}, "granularity: expected unstructured, output, input, group or N:M as in 2:4, found 7"),
        ({"granularity": "2:4", "scope": "global"}, "leave out scope 'global'"),
        ({"scope": "flops"}, "scope: flops is for granularity group, not unstructured"),
    ],
)
def test_bad_values(values, part):
    with pytest.raises(ConfigError) as caught:
        MaskConfig.from_dict(values)
    assert part in str(caught.value)


def test_not_a_mapping():
    with pytest.raises(ConfigError, match="expected a mapping"):
        MaskConfig.from_dict(["sparsity"])


def test_n_m_sets_the_sparsity():
    assert MaskConfig(granularity="1:4").sparsity == 0.75
    assert MaskConfig(granularity="2:4", sparsity=0.5).n_m == (2, 4)
    assert MaskConfig.from_dict({"granularity": "2:4", "sparsity": None}).sparsity == 0.5


def test_n_m_as_yaml_reads_it_without_quotes():
    """YAML 1.1 takes 2:4 for a number of base 60."""
    for text, n_m in (("2:4", (2, 4)), ("1:4", (1, 4)), ("4:8", (4, 8)), ("'2:4'", (2, 4)), ("10:16", (10, 16))):
        assert MaskConfig.from_dict(yaml.safe_load(f"granularity: {text}")).n_m == n_m


def test_sparsity_by_layer_goes_before_role():
    config = MaskConfig(sparsity=0.1, layer_sparsity={3: 0.3}, role_sparsity={"attention": 0.2})
    assert config.sparsity_of("attention", 3) == 0.3
    assert config.sparsity_of("attention", 2) == 0.2
    assert config.sparsity_of("ffn", 2) == 0.1
