"""``s3router completion``: the script completes commands, options, values and paths in a real bash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from s3router import cli
from s3router.cli import completion

pytest.importorskip("shtab")

DRIVER = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_shtab_s3router
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    import shtab

    path = tmp_path_factory.mktemp("completion") / "s3router"
    path.write_text(shtab.complete(completion.whole_parser(), "bash"))
    return path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tra"], ["train", "transcribe", "transfer"]),
        (["transcribe", "--lang"], ["--lang", "--langid"]),
        (["upstream", "fe"], ["fetch"]),
        (["upstream", "fetch", "--format", "ct"], ["ctranslate2"]),
        (["shrink", "--on"], ["--onnx"]),
        (["seq2seq-train", "--spars"], ["--sparsity"]),
        (["train", "--mask_c"], ["--mask_conf"]),
        (["completion", "z"], ["zsh"]),
        (["inspect", "a"], ["a.pack"]),
        (["doctor", "--packs", "a"], ["a_folder"]),
    ],
    ids=" ".join,
)
def test_bash(words: list[str], found: list[str], script: Path, tmp_path: Path):
    (tmp_path / "a.pack").touch()
    (tmp_path / "a_folder").mkdir()
    if words[0] == "inspect":
        (tmp_path / "a_folder").rmdir()
    command = ["bash", "-c", DRIVER, "bash", str(script), "s3router", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert sorted(done.stdout.split()) == found


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_takes_the_script(tmp_path: Path, capsys):
    assert cli.main(["completion", "zsh"]) == 0
    path = tmp_path / "_s3router"
    path.write_text(capsys.readouterr().out)
    assert path.read_text().startswith("#compdef s3router")
    subprocess.run(["zsh", "-n", str(path)], check=True)


def test_every_command_has_its_options():
    commands = completion.whole_parser()._subparsers._group_actions[0].choices
    assert set(commands) == set(cli.COMMANDS)
    assert [name for name, parser in commands.items() if len(parser._actions) < 2] == []


def test_a_command_whose_packages_are_missing_has_a_name(monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", {"far": ("a_package_that_is_not_there.far", "far away")})
    commands = completion.whole_parser()._subparsers._group_actions[0].choices
    assert list(commands) == ["far"]


def test_without_shtab_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setattr(completion.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["completion", "bash"]) == 1
    assert "pip install 's3router[completion]'" in capsys.readouterr().err
