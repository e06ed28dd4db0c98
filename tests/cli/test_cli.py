"""The s3router command: finds its subcommands, answers quickly, and turns errors into one line."""

from __future__ import annotations

import errno
import importlib
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


@pytest.fixture
def failing(monkeypatch, capsys):
    """failing(error): status and stderr of a command in which it happens."""

    def run(error: BaseException) -> tuple[int, str]:
        def main(argv):
            raise error

        monkeypatch.setattr(targets, "main", main)
        return cli.main(["targets"]), capsys.readouterr().err

    return run


def test_an_error_of_ours_is_one_line(failing):
    assert failing(DataError("text is missing")) == (1, "s3router targets: error: text is missing\n")


def test_an_error_of_the_system_names_file_and_remedy(failing, tmp_path):
    with pytest.raises(OSError, match="a") as caught:
        (tmp_path / "a").read_text()
    assert failing(caught.value) == (
        1,
        f"s3router targets: error: {tmp_path}/a: no such file or directory; correct the path\n",
    )


def test_not_enough_memory(failing):
    status, message = failing(MemoryError())
    assert status == 1
    assert message.startswith("s3router targets: error: not enough memory; take smaller batches")


def test_interrupted(failing):
    assert failing(KeyboardInterrupt()) == (130, "s3router targets: error: interrupted\n")


def test_a_broken_pipe_that_is_not_the_output_is_an_error(failing):
    assert failing(BrokenPipeError(errno.EPIPE, "Broken pipe")) == (1, "s3router targets: error: broken pipe\n")


def test_a_fault_of_the_program_keeps_its_traceback(failing):
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_folder_of_another_user(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for folder in [theirs, *theirs.parents]:
        if folder.name.startswith(("pytest-", "popen-")) or folder.is_relative_to(tmp_path):
            folder.chmod(0o755)
    code = """
import os, sys
from s3router import cli
from s3router.cli import targets
from s3router.files import write_json
targets.main = lambda argv: write_json(sys.argv[1], 1)
os.setuid(65534)
sys.exit(cli.main(["targets"]))
"""
    command = [sys.executable, "-c", code, str(theirs / "new.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"s3router targets: error: {theirs / 'new.json'}: permission denied; {theirs} belongs to root: work in a clone "
        f"of your own, or ask for permission\n"
    )


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


@pytest.mark.parametrize("command", ["transcribe", "classify", "serve"])
def test_routes_may_be_named_one_by_one(command):
    parser = importlib.import_module(f"s3router.cli.{command}").parser()
    assert parser.parse_args(["--routes", "a", "b", "--routes", "c"]).routes == [Path("a"), Path("b"), Path("c")]
