"""Training options: which of command line, configuration file and default counts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3router.asr import options
from s3router.asr.train import routed_task, train
from s3router.errors import ConfigError
from s3router.masks import MaskConfig

NEEDED = [word for name in ("output_dir", "token_list", "train_dir", "valid_dir") for word in (f"--{name}", "x")]


@pytest.fixture
def parse(tmp_path: Path):
    """(content of a configuration file, *words of the command line) -> the options, checked."""

    def parse(file: str, *words: str):
        config = tmp_path / "config.yaml"
        config.write_text(file)
        args = routed_task().get_parser().parse_args([*NEEDED, "--config", str(config), *words])
        options.check(args)
        options.translate(args)
        return args

    return parse


@pytest.mark.parametrize(
    ("file", "words", "sparsity"),
    [
        ("{seed: 1}", [], 0.1),
        ("{sparsity: 0.2}", [], 0.2),
        ("{mask_conf: {sparsity: 0.2}}", [], 0.2),
        ("{sparsity: 0.2}", ["--sparsity", "0.3"], 0.3),
        ("{mask_conf: {sparsity: 0.2}}", ["--sparsity", "0.3"], 0.3),
        ("{sparsity: 0.2}", ["--mask_conf", "sparsity=0.3"], 0.3),
        ("{sparsity: 0.2}", ["--mask_conf", "{sparsity: 0.3}"], 0.3),
        ("{sparsity: 0.2}", ["--mask_conf", "granularity=2:4"], 0.5),
        ("{sparsity: 0.2}", ["--mask_conf", "granularity='1:4'"], 0.75),
        ("{mask_conf: {sparsity: 0.2}}", ["--mask_conf", "granularity=2:4"], 0.5),
        ("{mask_conf: {granularity: '2:4'}}", [], 0.5),
        ("{mask_conf: {granularity: 2:4}}", [], 0.5),
    ],
)
def test_the_command_line_goes_before_the_file_and_the_file_before_the_default(parse, file, words, sparsity):
    conf = parse(file, *words).frontend_conf["frontend_conf"]["extra_conf"]["mask"]
    assert MaskConfig.from_dict(conf).sparsity == sparsity


@pytest.mark.parametrize("words", [["--sparsity", "0.3"], ["--mask_conf", "sparsity=0.3"]])
def test_a_sparsity_that_contradicts_the_granularity_is_refused(parse, words):
    with pytest.raises(ConfigError, match="contradicts granularity 2:4"):
        parse("{seed: 1}", *words, "--mask_conf", "granularity=2:4")


def test_learning_rates_without_a_point_are_numbers(parse):
    assert parse("score_lr: 1e-2").score_lr == 0.01


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--upstream_dropout", "0.2"], 0.2),
        (["--upstream_dropout", "hidden=0.1,layerdrop=0.05"], {"hidden": 0.1, "layerdrop": 0.05}),
        ([], {"activation": 0.1}),
    ],
)
def test_dropouts_are_one_number_or_several(parse, words, expected):
    args = parse("upstream_dropout: {activation: 0.1}", *words)
    assert args.frontend_conf["frontend_conf"]["extra_conf"]["dropout"] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--upstream_dropout", "layerdrp=0.1"], "unknown layerdrp"),
        (["--upstream_dropout", "layerdrop=1"], "dropout layerdrop must be at least 0 and below 1"),
        (["--upstream_dropout", "much"], "expected a number, or hidden=0.1,layerdrop=0.05; found 'much'"),
        (["--seed", "-1"], r"--seed must be a whole number from 0 up to 2\^31, found -1"),
        (["--seed", str(2**32)], "--seed must be a whole number"),
        (["--init_param", "a.pth", "--ignore_init_mismatch", "true"], "--ignore_init_mismatch: weights under masks"),
    ],
)
def test_what_cannot_work_is_refused(parse, words, message):
    with pytest.raises(ConfigError, match=message):
        parse("{seed: 1}", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_epoch", "3"], "--max_epoch: s3router train sets it; give --max_updates instead"),
        (["--num_iters_per_epoch", "3"], "give --valid_interval"),
        (["--frontend_conf", "{normalize: true}"], "--frontend_conf: .* --normalize_features instead"),
        (["--train_shape_file", "x"], "give --train_dir"),
        (
            ["--model_conf", "head_dropout=0.3"],
            "--model_conf head_dropout: s3router train sets it; give --head_dropout",
        ),
    ],
)
def test_what_would_be_overwritten_is_refused(tmp_path, words, message):
    config = tmp_path / "config.yaml"
    config.write_text("{max_epoch: 40}")  # ESPnet's default, as --print_config writes it
    with pytest.raises(ConfigError, match=message) as caught:
        train([*NEEDED, "--config", str(config), *words])
    assert str(caught.value).count("sets it") == 1


def test_arithmetic_of_a_resumed_run_is_kept(parse):
    args = parse("{seed: 1}")
    assert args.amp_dtype == "auto"
    options.translate(args, "bfloat16")
    assert args.amp_dtype == args.model_conf["amp_dtype"] == "bfloat16"
    args = parse("{seed: 1}", "--amp_dtype", "float32")
    options.translate(args, "bfloat16")
    assert args.amp_dtype == "float32"  # the check of the same run refuses it
