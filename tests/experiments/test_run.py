"""``s3router experiment run`` with real processes: programs of a few lines, forked children, and one real training."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from s3router.cli import main
from s3router.experiments.executors import LocalExecutor
from s3router.experiments.forked import ForkExecutor
from s3router.experiments.grid import Grid, Overrides
from s3router.experiments.grid_launch import Resources, executor, launch, make_here
from s3router.experiments.grid_work import Choice, GridWork
from s3router.experiments.job_state import JobFolder
from s3router.experiments.one_run import read_run

ROOT = Path(__file__).parents[2]
PROGRAM = """#!/usr/bin/env bash
set -eu
echo "$*" >>calls
while [ $# -gt 0 ]; do
    case $1 in --tag) tag=$2 ;; --method) method=$2 ;; --lr) lr=$2 ;; --seed) seed=$2 ;; esac
    shift
done
[ ! -e "hold_${method}" ] || { touch "held_${method}"; until [ ! -e "hold_${method}" ]; do sleep 0.05; done; }
[ ! -e "fail_${method}" ] || { echo "no good"; exit 3; }
mkdir -p "exp/${tag}/selected" "exp/${tag}/predict_test"
better=0.5
[ "${lr}" != 0.001 ] || better=0.8
echo "{\\"accuracy\\": ${better}, \\"loss\\": 1, \\"update\\": 5}" >"exp/${tag}/selected/best.json"
options="{\\"method\\": \\"${method}\\", \\"lr\\": ${lr}, \\"max_updates\\": 9}"
echo "{\\"options\\": ${options}, \\"settings\\": {}, \\"classes\\": [], \\"fingerprint\\": \\"\\"}" \\
    >"exp/${tag}/selected/config.json"
echo "{\\"accuracy\\": 0.8, \\"balanced_accuracy\\": 0.7, \\"n_utts\\": 4}" >"exp/${tag}/predict_test/result.json"
"""
GRID = {
    "kind": "command",
    "command": "./program.sh --tag {name} {options}",
    "experiment": {"folder": "exp/{name}"},
    "upstream": "stub",
    "select": "accuracy",
    "seeds": [0, 1],
    "repeat": "all",
    "methods": {"frozen": {"lr": ["1e-1", "1e-3"]}, "weight": {"lr": "1e-2"}},
    "sweep": {},
    "cells": [{"methods": ["frozen", "weight"]}],
    "jobs": 2,
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A recipe of one program; its grid is table.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("program.sh").write_text(PROGRAM)
    Path("program.sh").chmod(0o755)
    Path("table.yaml").write_text(yaml.safe_dump(GRID, sort_keys=False))
    return tmp_path


def run(*options: str) -> int:
    return main(["experiment", "run", "table.yaml", *options])


def calls() -> list[str]:
    return Path("calls").read_text().splitlines() if Path("calls").exists() else []


def wait_for(condition, what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {what} within 60 s")


def begin(*options: str) -> subprocess.Popen:
    """The command as a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with Path("said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "s3router", "experiment", "run", "table.yaml", *options], stdout=said, env=env
        )


def test_a_grid_of_programs_from_sweep_to_page(folder, capsys):
    assert run() == 0
    said = capsys.readouterr().out
    # the sweep is two runs, of which the better is a row; with a second seed, and weight finetuning twice
    assert len(calls()) == 2 + 1 + 2
    assert "5 of 5 runs done, 0 running, 0 failed" in said
    assert "test accuracy 80.0 recall 70.0" in said
    result = json.loads(next(Path("results").glob("stub_frozen_seed1_*.json")).read_text())
    assert (result["lrs"], result["dev"]["accuracy"], result["best_update"]) == ({"lr": 0.001}, 0.8, 5)
    assert result["command"].startswith("./program.sh --tag stub_frozen_seed1_")
    page = Path("RESULTS.md").read_text()
    assert re.search(r"\| frozen \(head only\) +\| +80.0 ± 0.0 \|", page)
    assert "**0.001: 80.0** · 0.1: 50.0" in page
    assert run() == 0
    assert "5 of 5 jobs were done before" in capsys.readouterr().out
    assert len(calls()) == 5


def test_data_of_each_seed_are_prepared_by_jobs_of_their_own(folder):
    entries = {"axes": {"lang": ["en"]}, "sweep": {"lang": "en"}, "cells": [{"lang": "en", "methods": "weight"}]}
    for words, count in (("--seed {seed} --lang {lang}", 2), ("--lang {lang} {local}", 1)):
        content = {**GRID, **entries, "prepare": f"./prepare.sh {words}"}
        Path("table.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        jobs = GridWork(Grid.read(Path("table.yaml"))).jobs()
        prepared = {job.name: job.command for job in jobs if job.name.startswith("prepare_lang=en")}
        assert len(prepared) == len(set(prepared.values())) == count
        assert all(job.needs[0] in prepared for job in jobs if job.name not in prepared)
    assert list(prepared) == ["prepare_lang=en"]


def test_a_pattern_that_matches_no_run_is_said(folder, capsys):
    for verb in ("run", "status"):
        assert main(["experiment", verb, "table.yaml", "--only", "wieght"]) == 1
        assert "--only 'wieght' matches none of the 5 runs of table.yaml" in capsys.readouterr().err
    assert not calls()


def test_figures_that_the_grid_does_not_select_by_fail_a_run(folder, capsys):
    Path("program.sh").write_text(PROGRAM.replace('{\\"accuracy\\": ${better}', '{\\"eer\\": ${better}'))
    assert run("--only", "weight_seed0") == 1
    assert "its result has no accuracy on dev, which the grid selects by" in capsys.readouterr().out


def test_the_command_that_resumes_a_run_can_be_typed(folder, capsys):
    Path("fail_weight").touch()
    assert main(["experiment", "run", "./table.yaml", "--seeds", "0", "--jobs", "1"]) == 1
    assert "to resume it: s3router experiment run table.yaml --seeds 0 --jobs 1 --only" in capsys.readouterr().out


def test_a_failed_run_is_named_and_tried_again(folder, capsys):
    Path("fail_weight").touch()
    assert run() == 1
    said = capsys.readouterr().out
    assert "FAILED stub_weight_seed0" in said
    assert "    no good" in said
    name = re.search(r"FAILED (stub_weight_seed0_\w+)", said)[1]
    assert f"s3router experiment run table.yaml --only '^{name}$'" in said
    assert "3 of 5 runs done, 0 running, 2 failed" in said
    assert main(["experiment", "status", "table.yaml"]) == 0
    assert f"failed   {name}" in capsys.readouterr().out
    assert "2 runs failed" in Path("RESULTS.md").read_text()
    Path("fail_weight").unlink()
    assert run("--only", "_weight_") == 0
    assert len(calls()) == 3 + 2 + 2
    assert "runs failed" not in Path("RESULTS.md").read_text()


def test_a_program_that_leaves_no_figures_has_failed(folder, capsys):
    Path("program.sh").write_text("#!/bin/sh\nexit 0\n")
    assert run("--only", "_weight_seed0") == 1
    said = capsys.readouterr().out
    assert "no trained model here; the run has not come to its end" in said
    assert not list(Path("results").glob("*.json"))


def test_dry_run_starts_nothing(folder, capsys):
    assert run("--dry-run") == 0
    said = capsys.readouterr().out
    assert said.count("to do") >= 4
    assert "later" in said
    assert not calls()
    assert not Path("exp").exists()


def test_what_is_asked_for_only(folder, capsys):
    assert run("--no-sweep", "--seeds", "7", "--no-report") == 0
    assert [re.search(r"--seed (\d)", line)[1] for line in calls()] == ["7", "7"]
    assert not Path("RESULTS.md").exists()
    assert run("--only", "(") == 1
    assert "is not a regular expression" in capsys.readouterr().err
    assert run("--jobs", "0") == 1
    assert "jobs must be a whole number above 0" in capsys.readouterr().err
    assert run("--set", "nonsense") == 1
    assert "expected NAME=YAML" in capsys.readouterr().err
    assert run("--set", "select=speed") == 1
    assert "select 'speed' is none of" in capsys.readouterr().err
    assert run("--max-updates", "3", "--no-sweep", "--seeds", "0") == 0
    assert all("--max-updates 3" in line for line in calls()[2:])
    assert Path("exp/trial/RESULTS.md").exists()
    assert len(list(Path("results").glob("*.json"))) == 2


def test_preparation_comes_once_and_first(folder, capsys):
    grid = {**GRID, "prepare": "./prepare.sh", "seeds": [0]}
    Path("table.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    Path("prepare.sh").write_text("#!/bin/sh\n[ -e allowed ] || exit 9\necho prepared >>calls\n")
    Path("prepare.sh").chmod(0o755)
    assert run() == 1
    said = capsys.readouterr().out
    assert "FAILED prepare: exit status 9" in said
    assert "which needs prepare" in said
    assert not calls()
    Path("allowed").touch()
    assert run() == 0
    assert calls()[0] == "prepared"
    assert len(calls()) == 1 + 3
    assert run() == 0
    assert calls().count("prepared") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_grid_ends_its_runs_and_goes_on_later(folder, number):
    Path("hold_frozen").touch()
    launcher = begin("--seeds", "0")
    wait_for(Path("held_frozen").exists, "run")
    launcher.send_signal(number)
    assert launcher.wait(timeout=60) == 128 + number
    assert "the same command goes on with what is not done" in Path("said").read_text()
    Path("hold_frozen").unlink()
    assert run("--seeds", "0") == 0
    assert len(list(Path("results").glob("*.json"))) == 3


def test_a_killed_grid_leaves_its_run_and_the_next_one_takes_its_result(folder):
    Path("hold_weight").touch()
    launcher = begin("--seeds", "0", "--only", "_weight_")
    wait_for(Path("held_weight").exists, "run")
    launcher.kill()
    launcher.wait()
    second = begin("--seeds", "0", "--only", "_weight_")
    wait_for(lambda: "goes on, from an earlier launch" in Path("said").read_text(), "adoption")
    Path("hold_weight").unlink()
    assert second.wait(timeout=60) == 0
    assert len(calls()) == 1
    assert len(list(Path("results").glob("*.json"))) == 1


@pytest.mark.parametrize("cluster", ["debug", "local"])
def test_submitit_makes_the_same_runs(folder, capsys, cluster):
    assert run("--cluster", cluster, "--seeds", "0") == 0
    assert "3 of 3 runs done" in capsys.readouterr().out


# --- forked children --------------------------------------------------------------------------------------------------

TASK = {
    **{name: value for name, value in GRID.items() if name not in ("command", "experiment", "methods", "sweep")},
    "kind": "task",
    "task": "cls",
    "select": "accuracy",
    "seeds": [0],
    "data": {"train": "data/train", "dev": "data/dev", "test": "data/test"},
    "train": {"max_updates": 4},
    "methods": {"frozen": {"lr": 0.1}, "weight": {"lr": 0.1}},
}


def fake(argv: list[str]) -> int:
    """Stands in for the ``s3router`` command: leaves what training and prediction leave; fails or waits if told to."""
    given = dict(zip(argv[1::2], argv[2::2], strict=True))
    print(f"{argv[0]} in {os.getpid()}")
    folder = Path(given["--output-dir"])
    if argv[0] == "superb-predict":
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text(json.dumps({"accuracy": 0.5, "balanced_accuracy": 0.5, "n_utts": 2}))
        return 0
    (folder / "begun").touch()
    if Path(f"fail_{given['--method']}").exists():
        print("no good")
        return 1
    while Path(f"hold_{given['--method']}").exists():
        time.sleep(0.05)
    (folder / "best.json").write_text(json.dumps({"accuracy": 0.6, "loss": 1.0, "update": 2}))
    options = {"method": given["--method"], "lr": 0.1, "upstream_lr": None, "max_updates": 4}
    config = {"options": options, "settings": {}, "classes": [], "fingerprint": ""}
    (folder / "config.json").write_text(json.dumps(config))
    return 0


@pytest.fixture
def task(tmp_path, monkeypatch) -> Grid:
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev", "test"):
        Path("data", name).mkdir(parents=True)
    Path("task.yaml").write_text(yaml.safe_dump(TASK, sort_keys=False))
    return Grid.read(Path("task.yaml"))


@pytest.mark.parametrize(
    ("content", "gpus", "forked"),
    [
        ({}, (), True),
        ({}, ("0", "1"), False),
        ({"local": {"device": "cuda"}}, (), False),
        ({"local": {"device": "cpu", "ngpu": 0}}, (), True),
        ({"methods": {"frozen": {"lr": 0.1, "ngpu": 1}}, "cells": [{"methods": ["frozen"]}]}, (), False),
    ],
)
def test_what_computes_on_gpus_is_not_forked(task, content, gpus, forked):
    """Importing ESPnet asks CUDA for things, and a child that is forked after that cannot use it."""
    Path("task.yaml").write_text(yaml.safe_dump(TASK | content, sort_keys=False))
    grid = Grid.read(Path("task.yaml"))
    found = executor(grid, GridWork(grid, Choice()), Resources(2, gpus), fake)
    assert type(found) is (ForkExecutor if forked else LocalExecutor)


def test_forked_runs_write_logs_and_results(task, capsys):
    assert launch(task, Choice(), Resources(2), fake) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    logs = [path.read_text() for path in Path("exp/task").glob("*/log")]
    assert len({re.search(r"superb-train in (\d+)", log)[1] for log in logs} - {str(os.getpid())}) == 2
    result = json.loads(next(Path("results").glob("*frozen*.json")).read_text())
    assert result["command"].startswith("s3router superb-train --task cls --method frozen")
    assert result["seconds"] >= 0
    assert read_run(next(Path("exp/task").glob("*frozen*"))).key == result["key"]


def test_a_forked_run_that_fails_is_tried_again_by_the_next_call(task, capsys):
    Path("fail_weight").touch()
    assert launch(task, Choice(), Resources(2), fake) == 1
    said = capsys.readouterr().out
    assert "FAILED stub_weight_seed0" in said
    assert "    error: s3router superb-train ended with status 1: see above" in said
    Path("fail_weight").unlink()
    assert launch(task, Choice(), Resources(2), fake) == 0


def test_a_stopped_parent_ends_its_forked_children(task):
    """The parent is a fork of this process, as its children are of it."""
    Path("hold_frozen").touch()
    parent = os.fork()
    if parent == 0:
        os._exit(launch(task, Choice(only=re.compile("frozen")), Resources(1), fake))
    begun = lambda: list(Path("exp/task").glob("*frozen*/begun"))  # noqa: E731
    wait_for(begun, "run")
    child = json.loads((begun()[0].parent / "status.json").read_text())["pid"]
    os.kill(parent, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{child}").exists()
    assert json.loads((begun()[0].parent / "status.json").read_text())["state"] == "stopped"


def test_a_forked_run_outlives_its_killed_parent_and_is_not_made_twice(task, capsys):
    Path("hold_frozen").touch()
    parent = os.fork()
    if parent == 0:
        os._exit(launch(task, Choice(only=re.compile("frozen")), Resources(1), fake))
    begun = lambda: list(Path("exp/task").glob("*frozen*/begun"))  # noqa: E731
    wait_for(begun, "run")
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    Path("hold_frozen").unlink()
    assert launch(task, Choice(only=re.compile("frozen")), Resources(1), fake) == 0
    assert next(Path("exp/task").glob("*frozen*/log")).read_text().count("superb-train in") == 1
    assert len(list(Path("results").glob("*.json"))) == 1


def test_a_result_without_its_model_is_made_once_more(task):
    assert launch(task, Choice(), Resources(2), fake) == 0  # leaves no model
    work = GridWork(task, Choice(models=True))
    assert all(map(work.lacks, work.plan().runs()))
    assert launch(task, Choice(models=True), Resources(2), fake) == 0  # no model again: not tried for ever
    logs = [path.read_text() for path in Path("exp/task").glob("*/log")]
    assert [log.count("superb-train in") for log in logs] == [2, 2]
    for folder in Path("exp/task").glob("stub_*"):
        (folder / "best.pth").touch()
    assert not any(map(GridWork(task, Choice(models=True)).lacks, work.plan().runs()))


def test_data_that_nothing_makes(task, capsys):
    Path("data/test").rmdir()
    Path("task.yaml").write_text(yaml.safe_dump({**TASK, "prepare": "true"}, sort_keys=False))
    assert launch(Grid.read(Path("task.yaml")), Choice(), Resources(2), fake) == 1
    assert "FAILED prepare: it has not made data/test" in capsys.readouterr().out


def test_one_run_in_a_process_of_its_own(task, tmp_path, monkeypatch, capsys):
    """What a job on a cluster does: the launcher writes the run down, a process anywhere makes it."""
    work = GridWork(task)
    job = work.jobs()[0]
    assert main(["experiment", "one", "task.yaml", job.name]) == 1  # nobody has begun it
    assert "run.json is missing" in capsys.readouterr().err
    folder = JobFolder(task.runs, job.name)
    folder.prepare(job)
    work.prepare(job, folder)
    assert job.command[1:6] == ("-m", "s3router", "experiment", "one", str(tmp_path / "task.yaml"))
    make_here(task, job.name, fake)
    assert json.loads((folder.path / "result.json").read_text())["name"] == job.name
    assert work.ended(job, failed=False) is None
    assert work.done(job)


def test_a_grid_is_run_from_anywhere(folder, monkeypatch, capsys):
    (folder / "recipe/conf").mkdir(parents=True)
    for name in ("program.sh", "table.yaml"):
        shutil.move(name, {"table.yaml": "recipe/conf"}.get(name, "recipe"))
    grid = {**GRID, "cwd": ".."}
    Path("recipe/conf/table.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    Path("recipe/fail_weight").touch()
    command = ["experiment", "run", "recipe/conf/table.yaml", "--seeds", "0"]
    assert main(command) == 1
    assert "s3router experiment run recipe/conf/table.yaml --seeds 0 --only" in capsys.readouterr().out
    Path("recipe/fail_weight").unlink()
    assert main([*command, "--cluster", "debug", "--output", "page.md"]) == 0
    assert Path("page.md").read_text().startswith("# Results")
    assert "`s3router experiment table conf/table.yaml`" in Path("page.md").read_text()
    assert len(list(Path("recipe/results").glob("*.json"))) == 3


# --- the real thing ---------------------------------------------------------------------------------------------------


def run_alone() -> None:
    """The command as users call it: here torch may have computed, and then its threads are lost to forked children."""
    command = [sys.executable, "-m", "s3router", "experiment", "run", "table.yaml", "--jobs", "2"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_classification_for_real(tmp_path, monkeypatch):
    """Two trainings of two classes, swept, forked, predicted and put into a table with an interval."""
    monkeypatch.chdir(tmp_path)
    five = ROOT / "tests/fixtures/five"
    shutil.copytree(five, "five")
    Path("five/wav.scp").write_text((five / "wav.scp").read_text().replace(" tests/", f" {ROOT}/tests/"))
    utts = [line.split()[0] for line in (five / "wav.scp").read_text().splitlines()]
    Path("five/utt2label").write_text("".join(f"{utt} {'ab'[k % 2]}\n" for k, utt in enumerate(utts)))
    grid = {
        **TASK,
        **{"upstream": "tiny", "data": dict.fromkeys(("train", "dev", "test"), "five"), "feature_cache": "cache"},
        "train": {"max_updates": 2, "batch_size": 2, "valid_interval": 2},
        "methods": {"frozen": {"lr": [0.1, 0.001]}, "router": {"lr": 0.01, "upstream_lr": 0.01}},
        "sweep": {"sparsity": 0.1, "search": "all"},
        "cells": [{"methods": ["frozen", "router"], "sparsities": [0.1]}],
    }
    Path("table.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    run_alone()
    result = json.loads(next(Path("results").glob("tiny_router_s0.10_*.json")).read_text())
    assert result["test"]["utts"].keys() == set(utts)
    assert sum(wrong for _, wrong in result["test"]["utts"].values()) == round(5 * (1 - result["test"]["accuracy"]))
    assert result["lrs"] == {"lr": 0.01, "upstream_lr": 0.01}
    assert re.search(
        r"S3-Router, 10 % removed ← dev +\| +\d+\.\d \(\d+\.\d to \d+\.\d\)", Path("RESULTS.md").read_text()
    )


def test_speech_recognition_for_real(tmp_path, monkeypatch, capsys):
    """Two trainings on five prompts, forked, decoded and put into a table."""
    monkeypatch.chdir(tmp_path)
    five = ROOT / "tests/fixtures/five"
    shutil.copytree(five, "five")
    Path("five/wav.scp").write_text((five / "wav.scp").read_text().replace(" tests/", f" {ROOT}/tests/"))
    texts = [line.split(maxsplit=1)[1] for line in (five / "text").read_text().splitlines()]
    letters = sorted({letter for text in texts for letter in text.strip() if letter != " "})
    Path("tokens.txt").write_text("\n".join(["<blank>", "<unk>", "<space>", *letters, "<sos/eos>"]) + "\n")
    grid = {
        **{"kind": "asr", "upstream": "tiny", "select": "cer", "seeds": [0], "repeat": []},
        "data": {**dict.fromkeys(("train", "dev", "test"), "five"), "tokens": "tokens.txt"},
        "train": {"max_updates": 2, "valid_interval": 1, "batch_seconds": 4.0},
        "methods": {"frozen": {}, "router": {}},
        "cells": [{"methods": ["frozen", "router"], "sparsities": [0.1]}],
    }
    Path("table.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    run_alone()
    result = json.loads(next(Path("results").glob("tiny_router_s0.10_*.json")).read_text())
    assert len(result["test"]["utts"]) == 5
    assert [point[0] for point in result["curve"]] == [1, 2]
    assert (result["targets"], result["lrs"].keys()) == (["ffn"], {"score_lr", "head_lr"})
    assert result["peak_rss_mb"] > 100
    assert result["pack_bytes"]["masks"] > result["pack_bytes"]["delta"] == 0
    page = Path("RESULTS.md").read_text()
    assert "| S3-Router, 10 % removed ← dev |" in page
    assert {path.name for path in Path("results").glob("*.png")} == {
        "learning_curves.png"
    }  # one sparsity makes no curve
    # nothing is left to do; and a shortened trial is kept apart
    assert Overrides(3).words() == ["--max-updates", "3"]
    assert main(["experiment", "status", "table.yaml"]) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
