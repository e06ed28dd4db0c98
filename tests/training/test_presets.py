"""Training configurations composed of sections."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from s3router import cli
from s3router.errors import ConfigError
from s3router.training import presets

TEXT = """
all: {max_updates: 10, head_lr: 1.0e-3, feature_masking: {time_prob: 0.5, channel_prob: 0.1}}
methods:
  router: {head_lr: 2.0e-3}
subsets:
  1h: {max_updates: 20, feature_masking: {channel_prob: 0.3}}
upstreams:
  tiny: {max_updates: 5}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "presets.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "presets.yaml"


@pytest.mark.parametrize(
    ("method", "subset", "upstream", "expected"),
    [
        ("weight", "all", "other", (10, 1e-3, {"time_prob": 0.5, "channel_prob": 0.1})),
        ("router", "all", "other", (10, 2e-3, {"time_prob": 0.5, "channel_prob": 0.1})),
        ("router", "1h", "other", (20, 2e-3, {"time_prob": 0.5, "channel_prob": 0.3})),
        ("weight", "1h", "tiny", (5, 1e-3, {"time_prob": 0.5, "channel_prob": 0.3})),
    ],
)
def test_later_sections_win(path: Path, method: str, subset: str, upstream: str, expected: tuple):
    found = presets.compose(presets.read_presets(path), method=method, subset=subset, upstream=upstream)
    assert (found["max_updates"], found["head_lr"], found["feature_masking"]) == expected


def test_command_writes_it_and_leaves_the_same_alone(path: Path, tmp_path: Path):
    out = tmp_path / "exp/a.yaml"
    command = ["presets", str(path), "--method", "router", "--subset", "1h", "--upstream", "tiny", "--output", str(out)]
    assert cli.main(command) == 0
    assert yaml.safe_load(out.read_text())["max_updates"] == 5
    before = out.stat().st_mtime_ns
    assert cli.main(command) == 0
    assert out.stat().st_mtime_ns == before
    assert cli.main([*command[:5], "all", *command[6:]]) == 0
    assert yaml.safe_load(out.read_text())["feature_masking"]["channel_prob"] == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: {router: {}}", "expected the sections all, methods, subsets, upstreams"),
        ("- a", "expected options"),
        ("all: 3", "all: expected options"),
        ("subsets: {1h: 3}", "subsets: expected options"),
        ("all: {", "not YAML"),
    ],
)
def test_refusals(path: Path, text: str, message: str, capsys):
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        presets.read_presets(path)
    out = path.with_name("out.yaml")
    command = ["presets", str(path), "--method", "router", "--subset", "1h", "--upstream", "tiny", "--output", str(out)]
    assert cli.main(command) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys):
    words = ["--method", "router", "--subset", "1h", "--upstream", "tiny", "--output", str(tmp_path / "out.yaml")]
    assert cli.main(["presets", str(tmp_path / "none.yaml"), *words]) == 1
    assert "none.yaml: no such file" in capsys.readouterr().err
