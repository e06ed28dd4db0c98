"""Runs that are killed at the worst moments and go on as if nothing had happened."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from s3router.training.checkpoints import read_states

OPTIONS = (
    *("--method", "router", "--sparsity", "0.2", "--mask_conf", "train=[mask_embedding]", "--head_first", "0.5"),
    *("--upstream_dropout", "hidden=0.1,attention=0.1,layerdrop=0.3"),
)


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory) -> Path:
    """The run that nothing interrupts; dropout, LayerDrop and feature masking are on, and the mask embedding trains."""
    exp = zygote.run(tmp_path_factory.mktemp("resume") / "whole", *OPTIONS).exp
    assert any(name.endswith("masked_spec_embed") for name in read_states(exp / "checkpoint.pth")["model"])
    return exp


def assert_same(one: Path, two: Path) -> None:
    """Same final state, same history, same best model, no litter."""
    first, second = (read_states(exp / "checkpoint.pth") for exp in (one, two))
    assert first["model"].keys() == second["model"].keys()
    for name, tensor in first["model"].items():
        assert torch.equal(tensor, second["model"][name]), name
    for index, state in first["optimizers"][0]["state"].items():
        for key, value in state.items():
            assert torch.equal(value, second["optimizers"][0]["state"][index][key]), (index, key)
    assert first["schedulers"] == second["schedulers"]
    assert figures(first) == figures(second)
    assert {p.name: os.readlink(p) for p in one.glob("*.pth") if p.is_symlink()} == {
        p.name: os.readlink(p) for p in two.glob("*.pth") if p.is_symlink()
    }
    assert sorted(p.name for p in one.glob("*.pth")) == sorted(p.name for p in two.glob("*.pth"))
    assert not list(two.glob(".*"))
    for path in two.glob("*.pth"):
        read_states(path)


def figures(states: dict) -> dict:
    """What the reporter says, without the clock."""
    return {
        (epoch, phase, key): value
        for epoch, phases in states["reporter"]["stats"].items()
        for phase, stats in phases.items()
        for key, value in stats.items()
        if "time" not in key
    }


def test_killed_in_mid_epoch(zygote, whole, tmp_path):
    run = zygote.start(tmp_path / "exp", *OPTIONS)
    deadline = time.monotonic() + 60
    while "update 3/6" not in run.screen:  # one update into the second epoch
        assert time.monotonic() < deadline, run.screen
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert read_states(tmp_path / "exp" / "checkpoint.pth")["reporter"]["epoch"] < 3
    again = zygote.run(tmp_path / "exp", *OPTIONS)
    assert "resuming at update" in again.screen
    assert_same(whole, tmp_path / "exp")


@pytest.mark.parametrize(
    ("where", "name", "nth", "epochs_kept"),
    [
        ("save", "1epoch.pth", 1, None),
        ("save", "checkpoint.pth", 1, None),
        ("save", "2epoch.pth", 1, 1),
        ("save", "checkpoint.pth", 3, 2),
        ("link", "latest.pth", 2, 1),
        ("link", "valid.cer_ctc.ave_1best.pth", 1, 2),
        ("move", "1epoch.pth", 1, None),
        ("move", "checkpoint.pth", 2, 1),
        ("move", "latest.pth", 3, 3),
    ],
)
def test_killed_in_mid_save(zygote, whole, tmp_path, where, name, nth, epochs_kept):
    exp = tmp_path / "exp"
    zygote.run(exp, *OPTIONS, kill={"in": where, "of": name, "nth": nth}, status=-signal.SIGKILL)
    checkpoint = exp / "checkpoint.pth"
    if epochs_kept is None:
        assert not checkpoint.exists()
    else:
        assert read_states(checkpoint)["reporter"]["epoch"] == epochs_kept
        read_states(exp / f"{epochs_kept}epoch.pth")  # a checkpoint's epoch is always there, and whole
    zygote.run(exp, *OPTIONS)
    assert_same(whole, exp)


def test_what_takes_the_place_of_a_run_never_goes_on_with_it(zygote, tmp_path):
    options, exp = ("--method", "frozen", "--max_updates", "2"), tmp_path / "exp"
    zygote.run(exp, *options)
    (exp / "mine.pth").touch()
    run = zygote.run(exp, *options, "--resume", "false", "--init_param", f"{exp}/1epoch.pth:ctc:ctc", status=1)
    assert "--resume false removes it" in run.screen
    assert (exp / "1epoch.pth").exists()
    kill = {"in": "save", "of": "1epoch.pth", "nth": 1}
    zygote.run(exp, *options, "--seed", "1", "--resume", "false", kill=kill, status=-signal.SIGKILL)
    assert [path.name for path in exp.glob("*.pth")] == ["mine.pth"]
    assert "resuming" not in zygote.run(exp, *options).screen  # with the first run's seed


PRUNING = {
    "imp": ("rounds=2", "schedule=cubic"),
    "parp": ("every=2",),
    "router_p": (),
}
STEPS = {"imp": [3, 5], "parp": [0, 4, 6], "router_p": [4]}
"""When weights are removed, or rest, in six updates the first two of which are the head's."""


@pytest.mark.parametrize("method", PRUNING)
@pytest.mark.parametrize("at", [1, 3, 5])
def test_pruning_killed_in_mid_epoch(zygote, tmp_path_factory, tmp_path, method, at):
    conf = [word for field in PRUNING[method] for word in ("--method_conf", field)]
    options = ("--method", method, "--sparsity", "0.4", *conf, "--upstream_dropout", "hidden=0.1")
    options += ("--head_first", "0.34")
    whole = tmp_path_factory.getbasetemp() / f"pruned_{method}"
    if not whole.exists():
        screen = zygote.run(whole, *options).screen
        assert "pruned: " in screen
        steps = re.findall(r"update (\d+): (?:\S+ % of the weights are removed|so far the weights trained)", screen)
        assert [int(step) for step in steps] == STEPS[method]
    run = zygote.start(tmp_path / "exp", *options)
    deadline = time.monotonic() + 60
    while f"update {at}/6" not in run.screen:
        assert time.monotonic() < deadline, run.screen
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    zygote.run(tmp_path / "exp", *options)
    assert_same(whole, tmp_path / "exp")


def test_another_schedule_is_refused(zygote, tmp_path):
    options = ("--method", "parp", "--sparsity", "0.4", "--max_updates", "2")
    zygote.run(tmp_path / "exp", *options)
    run = zygote.run(tmp_path / "exp", *options, "--method_conf", "every=3", status=1)
    assert "--method_conf was {}, is {'every': 3}" in run.screen
    run = zygote.run(tmp_path / "exp", *options, "--sparsity", "0.5", status=1)
    assert "--sparsity was 0.4, is 0.5" in run.screen


def test_a_finished_run_is_left_as_it_is(zygote, whole):
    before = (whole / "checkpoint.pth").stat().st_mtime_ns
    zygote.run(whole, *OPTIONS)
    assert (whole / "checkpoint.pth").stat().st_mtime_ns == before


def test_other_options_are_refused(zygote, whole):
    run = zygote.run(whole, *OPTIONS, "--head_lr", "0.5", "--max_updates", "8", status=1)
    assert "--head_lr was 0.002, is 0.5" in run.screen
    assert "--max_updates was 6, is 8" in run.screen


@pytest.mark.parametrize(("name", "old", "new"), [("text", "è in uso", "è uso"), ("utt2dur", " 1.600", " 1.500")])
def test_other_data_in_the_same_folder_is_refused(zygote, tmp_path, name, old, new):
    data, exp = tmp_path / "data", tmp_path / "exp"
    shutil.copytree(Path(__file__).parents[1] / "fixtures/five", data)
    options = [*OPTIONS, "--train_dir", str(data), "--max_updates", "2"]
    zygote.run(exp, *options)
    content = (data / name).read_text(encoding="utf-8")
    assert old in content
    (data / name).write_text(content.replace(old, new), encoding="utf-8")
    run = zygote.run(exp, *options, status=1)
    assert "are not those of the run that is to go on" in run.screen


def test_another_upstream_is_refused(zygote, whole, tmp_path, make_upstream):
    exp = tmp_path / "exp"
    shutil.copytree(whole, exp, symlinks=True)
    other = make_upstream(tmp_path / "other", seed=1)
    run = zygote.run(exp, *OPTIONS, env={"S3ROUTER_TINY": str(other)}, status=1)
    assert "its weights are not those" in run.screen


def test_code_in_a_checkpoint_is_not_run(zygote, whole, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(whole, exp, symlinks=True)
    (exp / "checkpoint.pth").unlink()
    torch.save({"model": Evil(tmp_path / "ran")}, exp / "checkpoint.pth")
    run = zygote.run(exp, *OPTIONS, status=1)
    assert "error:" in run.screen
    assert "checkpoint.pth: refused" in run.screen
    assert not (tmp_path / "ran").exists()


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
