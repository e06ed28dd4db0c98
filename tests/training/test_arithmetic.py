"""The choice between float32 and bfloat16."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from s3router.training import arithmetic
from s3router.training.arithmetic import choose_arithmetic, gflops


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [(160.0, 86.0, "float32"), (100.0, 105.0, "float32"), (100.0, 111.0, "bfloat16"), (60.0, 500.0, "bfloat16")],
)
def test_bfloat16_must_win_clearly(float32, bfloat16, chosen, caplog):
    caplog.set_level(logging.INFO)
    asked = []

    def measure(hidden, ffn):
        asked.append((hidden, ffn))
        return {"float32": float32, "bfloat16": bfloat16}

    assert choose_arithmetic("cpu", 384, 1536, measure) == choose_arithmetic(0, 384, 1536, measure) == chosen
    assert asked == [(384, 1536)] * 2
    assert f"arithmetic: {chosen}" in caplog.text
    assert f"{float32:.0f} GFLOP/s in float32 and {bfloat16:.0f} in bfloat16" in caplog.text


def test_a_gpu_is_asked_what_it_can(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    for able, chosen in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        for device in ("cuda", "cuda:1", 2):
            assert choose_arithmetic(device, measure=lambda *_: pytest.fail("a CPU was measured")) == chosen


@pytest.mark.parametrize("hidden", [32, 384, 100])
def test_both_are_measured_and_nothing_else_changes(hidden):
    before = torch.get_rng_state()
    speeds = gflops(hidden, 4 * hidden, frames=8, seconds=0)
    assert set(speeds) == {"float32", "bfloat16"}
    assert all(speed > 0 for speed in speeds.values())
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("slower", "times"), [(3, 2 + 3), (10, 2)])
def test_what_is_hopeless_is_not_measured_on_all_frames(slower, times, monkeypatch):
    """On a clock that counts frames, of which bfloat16 takes so many times as long for each."""
    clock, seen = [0.0], []

    class Layer(torch.nn.TransformerEncoderLayer):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                seen.append(inputs.shape[0] * inputs.shape[1])
            clock[0] += inputs.shape[0] * inputs.shape[1] * (slower if torch.is_autocast_enabled("cpu") else 1)
            return super().forward(inputs)

    monkeypatch.setattr(torch.nn, "TransformerEncoderLayer", Layer)
    monkeypatch.setattr(arithmetic.time, "process_time", lambda: clock[0])
    speeds = gflops(32, 128, frames=64, seconds=0)
    assert len(seen) == times
    assert max(seen) == (64 if times > 2 else 4)
    assert choose_arithmetic("cpu", 32, 128, lambda *_: speeds) == "float32"


RANK = """
import sys, torch
from s3router.training.arithmetic import choose_arithmetic
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
speeds = {"float32": 1.0, "bfloat16": 2.0 - 1.5 * rank}  # alone, the second would choose float32
print(choose_arithmetic("cpu", measure=lambda hidden, ffn: speeds))
torch.distributed.destroy_process_group()
"""


def test_rank_0_chooses_for_all(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RANK]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "group")], stdout=-1, text=True, env=environment)
        for rank in range(2)
    ]
    assert [process.communicate(timeout=120)[0] for process in running] == ["bfloat16\n"] * 2
