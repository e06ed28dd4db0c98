"""Every `s3router` command in README.md and docs/ is one that its parser takes, with options that are there."""

from __future__ import annotations

import argparse
import functools
import importlib
import re
import shlex
from pathlib import Path

import pytest

from s3router.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
_COMMAND = re.compile(r"(?:^|&& |; |\|\| )(?:\w+=\S+ )*s3router (?!COMMAND)([^|&;]*)")
MORE = "…"  # what a page leaves out


def commands() -> list[str]:
    """The arguments of each, comments and redirections left out."""
    blocks = [block for page in PAGES for block in _BLOCK.findall(page.read_text(encoding="utf-8"))]
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    found = [match for line in lines for match in _COMMAND.findall(line.split(" #")[0].split(" > ")[0])]
    return list(dict.fromkeys(" ".join(each.split()) for each in found))


@functools.cache
def parser_of(name: str) -> argparse.ArgumentParser:
    return importlib.import_module(COMMANDS[name][0]).parser()


def test_commands_were_found():
    assert len(commands()) > 70


@pytest.mark.parametrize("command", commands())
def test_the_parser_takes_it(command: str, capsys):
    name, *arguments = shlex.split(command.split(" -- ")[0])  # what follows is another command
    assert name in COMMANDS
    if name == "train":
        pytest.importorskip("espnet2", reason="the options are ESPnet's")
    parser = parser_of(name)
    if MORE in command.split():  # the rest may be what is required
        known = {option for action in parser._actions for option in action.option_strings}
        assert [each for each in arguments if each.startswith("-") and each.split("=")[0] not in known] == []
        return
    status = 0
    try:
        parser.parse_args(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 0, capsys.readouterr().err  # 0: --help
