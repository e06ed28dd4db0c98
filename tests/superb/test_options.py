"""Options of superb-train: one precedence, masks of every kind, and what a recorded configuration means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3router.errors import ConfigError, DataError
from s3router.masks.config import DEFAULT_SPARSITY
from s3router.superb.labels import read_classes
from s3router.superb.options import complete, extra_conf, read_options, read_recorded, recorded
from s3router.superb.tasks import TASKS

NEEDED = ["--task", "cls", "--train-dir", "a", "--valid-dir", "b", "--output-dir", "c"]


def test_the_command_line_goes_before_the_file_and_that_before_the_default(tmp_path: Path):
    file = tmp_path / "train.yaml"
    file.write_text(
        "task: cls\ntrain_dir: a\nvalid_dir: b\noutput-dir: c\ntest_dirs: [d, e]\nmethod: router\n"
        "lr: 1e-2\nseed: 3\nmask_conf: {granularity: output}\nclasses: null\n"
    )
    options = read_options(["--config", str(file), "--seed", "4"])
    complete(options)
    assert (options.seed, options.lr, options.batch_size) == (4, 1e-2, 16)
    assert (options.method, options.mask_conf, options.test_dirs) == (
        *("router", {"granularity": "output"}),
        [Path("d"), Path("e")],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [b", "not YAML"),
        ("just text", "expected options, as 'name: value' lines"),
        ("lerning_rate: 3\nhelp: 1", "unknown lerning_rate, help"),
    ],
)
def test_configuration_files_that_are_refused(tmp_path: Path, content: str, message: str):
    file = tmp_path / "train.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_options([*NEEDED, "--config", str(file)])


def test_a_wrong_command_line_is_one_line(capsys):
    with pytest.raises(SystemExit) as raised:
        read_options([*NEEDED, "--lerning-rate", "3"])
    assert raised.value.code == 2
    assert capsys.readouterr().err == (
        "s3router superb-train: error: unrecognized arguments: --lerning-rate 3 (--help lists the options)\n"
    )


@pytest.mark.parametrize(
    ("given", "sparsity", "granularity"),
    [
        ([], DEFAULT_SPARSITY, "unstructured"),
        (["--mask-conf", '{"sparsity": 0.3}'], 0.3, "unstructured"),
        (["--mask-conf", '{"sparsity": 0.3}', "--sparsity", "0.2"], 0.2, "unstructured"),
        (["--mask-conf", '{"granularity": "2:4"}'], 0.5, "2:4"),
        (["--mask-conf", "granularity=2:4"], 0.5, "2:4"),
        (["--mask-conf", "granularity=output", "--mask-conf", "sparsity=0.3"], 0.3, "output"),
    ],
)
def test_masks(given: list[str], sparsity: float, granularity: str):
    options = read_options([*NEEDED, "--mode", "router", *given])  # the former name of --method
    complete(options)
    mask = extra_conf(options)["mask"]
    assert (options.sparsity, mask["sparsity"], mask["granularity"]) == (sparsity, sparsity, granularity)
    complete(options)  # what is recorded means the same
    assert extra_conf(options)["mask"] == mask


@pytest.mark.parametrize(
    ("file", "given", "sparsity", "granularity"),
    [
        ("sparsity: 0.05", [], 0.05, "unstructured"),
        ("sparsity: 0.05", ["--mask-conf", "sparsity=0.2"], 0.2, "unstructured"),
        ("sparsity: 0.05", ["--mask-conf", '{"granularity": "2:4"}'], 0.5, "2:4"),
        ("mask_conf: {sparsity: 0.05, granularity: output}", ["--mask-conf", "granularity=2:4"], 0.5, "2:4"),
        ("mask_conf: {granularity: output}", ["--mask-conf", "sparsity=0.2"], 0.2, "output"),
        ("mask_conf: {sparsity: 0.05}", ["--sparsity", "0.2"], 0.2, "unstructured"),
    ],
)
def test_masks_that_are_typed_go_before_those_of_the_file(tmp_path: Path, file, given, sparsity, granularity):
    (tmp_path / "train.yaml").write_text(f"method: router\n{file}\n")
    options = read_options([*NEEDED, "--config", str(tmp_path / "train.yaml"), *given])
    complete(options)
    mask = extra_conf(options)["mask"]
    assert (mask["sparsity"], mask["granularity"]) == (sparsity, granularity)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--method", "router", "--sparsity", "0.1", "--mask-conf", '{"granularity": "2:4"}'],
            "sparsity: 0.1 contradicts granularity 2:4",
        ),
        (["--method", "router", "--mask-conf", "[1]"], "--mask-conf: .* is not an object"),
        (["--method", "router", "--mask-conf", "2:4"], "--mask-conf: '2:4' is not an object"),
        (["--method", "router", "--mask-conf", "{a: ]"], "--mask-conf: .* is not an object"),
        (["--method", "scratch", "--feature-cache", "x"], "with --method scratch the feature extractor trains"),
        (["--method", "weight", "--mask-conf", '{"targets": "ffn"}'], "for methods with masks, not weight"),
    ],
)
def test_options_that_contradict_each_other(given: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        complete(read_options([*NEEDED, *given]))


def test_recorded_options_are_read_back_and_so_are_those_of_before():
    options = read_options([*NEEDED, "--method", "weight", "--test-dirs", "d"])
    complete(options)
    found = json.loads(json.dumps(recorded(options)))
    assert (found["method"], found["test_dirs"], found["train_dir"]) == ("weight", ["d"], "a")
    assert read_recorded(found) == found
    old = {name: value for name, value in found.items() if name not in ("method", "pool_ahead", "test_dirs")}
    assert read_recorded({**old, "mode": "weight"}) == {**found, "test_dirs": []}


def test_slots_of_a_list_of_classes_stand_in_any_order(tmp_path: Path):
    (tmp_path / "classes").write_text("location none\naction bring\nobject lamp\naction decrease\n")
    assert read_classes(tmp_path / "classes", TASKS["ic"].slots) == [["bring", "decrease"], ["lamp"], ["none"]]
    (tmp_path / "classes").write_text("where none\naction bring\nobject lamp\n")
    with pytest.raises(DataError, match=r"3 slots \(where, action, object\), expected 3 \(action, object, location\)"):
        read_classes(tmp_path / "classes", TASKS["ic"].slots)
