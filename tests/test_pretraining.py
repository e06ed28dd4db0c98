"""The pretraining recipe on five utterances: two rounds, resumed, and loaded by transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / "egs" / "asterisk" / "ssl1" / "local"


def pretrain(config: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """One call of the pretraining command on the fixture, from the repository's root."""
    data = "tests/fixtures/five"
    command = [sys.executable, LOCAL / "pretrain.py", "--config", config, "--train", data, "--dev", data, "--out", out]
    return subprocess.run(
        [*map(str, command), "--threads", "1", *more], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def settings() -> dict:
    settings = yaml.safe_load((LOCAL.parent / "conf" / "tiny.yaml").read_text())
    settings["model"] |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    settings["model"] |= {"conv_dim": [16, 16], "num_conv_pos_embedding_groups": 2}
    settings["training"] |= {"warmup": 1, "batch_seconds": 4.0}
    settings["rounds"] = [
        {"features": "mfcc", "clusters": [4, 6], "steps": 3},
        {"features": "layer", "layer": 1, "clusters": [5], "steps": 2},
    ]
    return settings


def test_rounds_export_and_resume(settings, tmp_path):
    config, out = tmp_path / "conf.yaml", tmp_path / "out"
    settings["rounds"][1]["steps"] = 2
    config.write_text(yaml.safe_dump(settings))
    first = pretrain(config, out)
    assert first.returncode == 0, first.stderr[-2000:]
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(e["round"], e["step"]) for e in entries] == [(1, 3), (2, 2)]
    assert all(0 <= e[k] <= 1 for e in entries for k in e if "acc" in k)

    settings["rounds"][1]["steps"] = 4  # goes on from the checkpoint: two more steps, round 1 not again
    config.write_text(yaml.safe_dump(settings))
    assert pretrain(config, out).returncode == 0
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(e["round"], e["step"]) for e in entries] == [(1, 3), (2, 2), (2, 4)]

    import torch
    from transformers import HubertModel

    model, info = HubertModel.from_pretrained(out / "export_round2", output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    hidden = model(torch.randn(1, 16000)).last_hidden_state
    assert hidden.shape == (1, 48, 32)  # a frame every 20 ms


def test_init_goes_with_first_round(settings, tmp_path):
    config = tmp_path / "conf.yaml"
    config.write_text(yaml.safe_dump(settings))
    refused = pretrain(config, tmp_path / "out", "--init", str(tmp_path))
    assert refused.returncode == 2
    assert "--first-round" in refused.stderr
    assert not (tmp_path / "out").exists()
