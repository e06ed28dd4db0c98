"""Options of training a whole recogniser: fields of mappings, and what goes before what."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3router.errors import ConfigError
from s3router.seq2seq.methods import apply_method, mask_config
from s3router.seq2seq.options import read_options
from tests.upstreams.whisper_files import small_whisper

NEEDED = ["--train_dir", "a", "--valid_dir", "b", "--output_dir", "c"]


def test_fields_are_merged_whatever_their_form():
    given = ["--method_conf", "rounds=7", "--method_conf", '{"schedule": "cubic"}', "--mask_conf", "targets=[ffn]"]
    options = read_options([*NEEDED, "--method", "imp", *given, "--spec_augment", "mask_time_prob=5e-2"])
    assert options.method_conf == {"rounds": 7, "schedule": "cubic"}
    assert options.mask_conf == {"targets": ["ffn"]}
    assert options.spec_augment == {"mask_time_prob": 0.05}


@pytest.mark.parametrize(
    ("given", "sparsity"),
    [
        ([], 0.05),
        (["--mask_conf", '{"sparsity": 0.2}'], 0.2),
        (["--mask_conf", "sparsity=0.2", "--sparsity", "0.3"], 0.3),
        (["--mask_conf", "granularity=2:4"], 0.5),
    ],
)
def test_masks_that_are_typed_go_before_the_preset(tmp_path: Path, given, sparsity):
    (tmp_path / "preset.yaml").write_text("sparsity: 0.05\n")
    options = read_options([*NEEDED, "--config", str(tmp_path / "preset.yaml"), *given])
    assert options.sparsity == mask_config(vars(options), 0).sparsity == sparsity


def test_what_is_no_mapping_is_refused():
    with pytest.raises(ConfigError, match=r"--mask_conf must be an object of names and values, found 'ffn'"):
        read_options([*NEEDED, "--mask_conf", "ffn"])


@pytest.mark.parametrize(("method", "conf"), [("router", {}), ("lora", {"method_conf": {"targets": ["*proj_out*"]}})])
def test_weights_that_are_shared_are_no_targets(method, conf):
    """`proj_out` is the token embedding as well: a pack could not bring the one without the other."""
    model = small_whisper()
    options = {"method": method, "seed": 0, "mask_conf": {"targets": ["*"]} if method == "router" else None, **conf}
    with pytest.raises(ConfigError, match="fits proj_out, which shares its weights with the token embedding"):
        apply_method(model, options)


def test_a_word_that_yaml_takes_for_false_is_refused(tmp_path):
    (tmp_path / "conf.yaml").write_text("language: no\n")
    with pytest.raises(ConfigError, match="language: YAML reads yes, no, on and off as true or false; quote the word"):
        read_options([*NEEDED, "--config", str(tmp_path / "conf.yaml")])
    (tmp_path / "conf.yaml").write_text("language: 'no'\n")
    assert read_options([*NEEDED, "--config", str(tmp_path / "conf.yaml")]).language == "no"
