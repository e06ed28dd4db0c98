"""The stage script on two machines (two processes here, without GPUs), as docs/scale.md says it is started."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from s3router.training.checkpoints import read_states

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"


@pytest.fixture
def recipe(tmp_path):
    """A recipe over the five utterances, in a folder of its own: options -> the command."""
    for name in ("train", "dev"):
        (tmp_path / "my" / name).mkdir(parents=True)
        for file in ("text", "utt2spk", "spk2utt"):
            (tmp_path / "my" / name / file).write_bytes((FIVE / file).read_bytes())
        scp = (FIVE / "wav.scp").read_text().replace("tests/fixtures/five", str(FIVE))
        (tmp_path / "my" / name / "wav.scp").write_text(scp)
    (tmp_path / "run.sh").write_text(f'set -euo pipefail\ncd "{tmp_path}"\n. "{ROOT}/egs/TEMPLATE/asr1/asr.sh" "$@"\n')
    config = ROOT / "egs/asterisk/asr1/conf/train_router.yaml"
    sets = ["--train-set", "my/train", "--valid-set", "my/dev", "--test-sets", ""]
    plain = "--head_dropout 0 --upstream_dropout 0 --feature_masking time_prob=0 --feature_masking channel_prob=0"
    fixed = ["--skip-data-prep", *sets, "--config", str(config), "--max-updates", "3", "--train-args", plain]
    return lambda *options: ["bash", str(tmp_path / "run.sh"), *fixed, *options]


def test_two_machines_train_one_model(recipe, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    subprocess.run(recipe("--stop-stage", "2"), check=True, capture_output=True, text=True)
    command = recipe("--stage", "4", "--stop-stage", "4", "--num-nodes", "2", "--tag", "both")
    processes = []
    for rank in ("0", "1"):
        env = os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "RANK": rank, "OMP_NUM_THREADS": "1"}
        with (tmp_path / f"said.{rank}").open("w") as said:
            processes.append(subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.STDOUT))
    said = [(process.wait(timeout=600), (tmp_path / f"said.{i}").read_text()) for i, process in enumerate(processes)]
    assert [status for status, _ in said] == [0, 0], said
    figures = [re.findall(r"validated: loss ([\d.]+)\s+CER ([\d.]+)", text) for _, text in said]
    assert len(figures[0]) == 1
    assert figures[0] == figures[1]  # both report on all of the validation set, with the same weights
    states = read_states(tmp_path / "exp" / "both" / "checkpoint.pth")
    assert states["optimizers"][0]["state"][0]["step"] == 3
    assert any(name.endswith("scores") for name in states["model"])
    assert (tmp_path / "exp/both/valid.cer_ctc.best.pth").exists()
    assert sorted(path.name for path in (tmp_path / "exp/both").glob("console*.log")) == [
        "console.0.log",
        "console.1.log",
    ]
    assert not list((tmp_path / "exp/both").glob(".settings*"))
