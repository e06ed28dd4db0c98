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


def synthetic(folder: Path) -> Path:
    """The fixture once more, as if synthetic: with a phone for every frame."""
    import numpy as np

    from s3router.data.audio import read_audio

    folder.mkdir()
    phones = {}
    lines = (ROOT / "tests/fixtures/five/wav.scp").read_text().splitlines()
    with open(folder / "wav.scp", "w") as scp:
        for line in lines:
            utt, source = line.split(maxsplit=1)
            path = ROOT / source
            scp.write(f"espeak-{utt} {path}\n")
            frames = (len(read_audio(path)) - 720) // 320 + 1
            phones[f"espeak-{utt}"] = (np.arange(frames) % 3).astype(np.int16)
    np.savez(folder / "phones.npz", **phones)
    (folder / "phones.txt").write_text("(none)\na\nb\n")
    return folder


def test_phones_of_synthetic_speech_are_targets(settings, tmp_path):
    settings = settings | {"rounds": [{"features": "mfcc", "clusters": [4], "phones": True, "steps": 3}]}
    config, out = tmp_path / "conf.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(settings))
    refused = pretrain(config, out)
    assert refused.returncode == 2
    assert "--synthetic" in refused.stderr
    done = pretrain(config, out, "--synthetic", str(synthetic(tmp_path / "synthetic")))
    assert done.returncode == 0, done.stderr[-2000:]
    entry = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"masked_acc_4", "masked_acc_3"} <= entry.keys()
    assert "dev_masked_acc_3" not in entry  # real speech has no phones
    assert json.loads((out / "data.json").read_text())["synthetic"]["phones"] == 3


def test_targets_at_other_speeds_follow_the_recording():
    import numpy as np

    sys.path.insert(0, str(LOCAL))
    try:
        from pretrain import at_other_speeds
        from speech import frames_of
    finally:
        sys.path.remove(str(LOCAL))
    samples = 32000
    speech = {("a", speed): np.zeros(round(samples / speed), np.int16) for speed in (0.5, 1.0, 2.0)}
    own = np.arange(frames_of(samples, [400, 3], [160, 2]))[:, None]
    found = at_other_speeds({("a", 1.0): own}, speech, lambda n: frames_of(n, [400, 3], [160, 2]))
    assert (found["a", 1.0] == own).all()
    assert abs(found["a", 2.0][20, 0] - 41) <= 1  # half as long: frame 20's centre was at 41
    assert abs(found["a", 0.5][40, 0] - 19) <= 1
