"""The s3router command: finds its subcommands, answers quickly, and turns errors into one line."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3router import cli
from s3router.cli import targets
from s3router.errors import DataError
from s3router.masks import Target

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_module(name: str):
    assert importlib.util.find_spec(cli.COMMANDS[name][0]) is not None


def test_help_needs_no_torch():
    code = "import sys; from s3router.cli import main; sys.exit(main(['--help']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert "decode" in done.stdout


def test_unknown_command_lists_the_known(capsys):
    assert cli.main(["trian"]) == 2
    message = capsys.readouterr().err
    assert "did you mean train?" in message
    assert "decode" in message


def test_no_command_is_an_error(capsys):
    assert cli.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_error_is_one_line(monkeypatch, capsys):
    def fail(argv):
        raise DataError("text is missing")

    monkeypatch.setattr(targets, "main", fail)
    assert cli.main(["targets"]) == 1
    assert capsys.readouterr().err == "s3router targets: text is missing\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_had_enough(unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "s3router", "--help"]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_report_counts_by_role():
    found = [Target("a.fc1", "weight", "ffn", 0, (8, 4)), Target("a.fc2", "weight", "ffn", 0, (4, 8))]
    lines = targets.report([*found, Target("b", "weight", None, None, (3, 5))], sparsity=0.1, total=200).splitlines()
    assert lines[0].split()[:4] == ["ffn", "2", "tensors", "64"]
    assert lines[2].split()[:4] == ["together", "3", "tensors", "79"]
    assert "removes 7 weights" in lines[3]  # 3 of 32, 3 of 32 and 1 of 15
