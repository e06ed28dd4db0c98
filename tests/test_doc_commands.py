"""Every `s3router` command in README.md and docs/ is one that its parser takes, and that runs, on miniatures.

No command needs another one's output: all that they take is in the workspace. Nothing is downloaded: fetched upstreams
are there already, the hub and Slurm are stand-ins, and a server ends with its first answer.
"""

from __future__ import annotations

import argparse
import functools
import glob
import importlib
import itertools
import logging
import os
import re
import shlex
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3router.cli import COMMANDS, main
from tests.api.conftest import hand_made, make_upstream  # noqa: F401
from tests.experiments.test_launch import fake_slurm  # noqa: F401
from tests.sharing.conftest import hub  # noqa: F401

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
_COMMAND = re.compile(r"(?:^|&& |; |\|\| )(?:\w+=\S+ )*s3router (?!COMMAND)([^|&;]*)")
MORE = "…"  # what a page leaves out

LEFT_OUT = {  # what stands on the pages -> what takes its place here
    "es=data/es/train …": "es=data/es/train en=data/en/train",
    "es=data/es/dev …": "es=data/es/dev en=data/en/dev",
    "es=data/es/test …": "es=data/es/test en=data/en/test",
    "…/": "",
    "FOLDER/": "exp/heard/",
    "corpus: DIR": "corpus: data",
    "layerdrop=0.05 …": "layerdrop=0.05 --upstream whisper_base --method weight --train_dir data/es/train --valid_dir "
    "data/es/dev --token_list tokens.txt --output_dir exp/dropout --max_updates 2 --valid_interval 2",
}
ADDED = {  # further options: fewer updates, and a port that is free
    "seq2seq-train": "--max_updates 2 --valid_interval 2 --batch_size 2 --max_valid_utts 1",
    "serve": "--port 0",
    "transfer": "--max-updates 5 --batch-seconds 4",
}
ELSEWHERE: dict[str, dict[str, str | None]] = {  # page or command -> name there -> what has it here, if anything
    "README.md": {"exp/es": "exp/fr", "exp/routes": "exp/whole_routes"},
    "packs.md": {"langid.pack": None},
    "ml-superb-write": {"data/es": "own/es", "data/en": "own/en", "own": None},  # every id in one place
    "experiment routes": {"exp/packs": "exp/two_packs", "langid.pack": "langid/es_yo.pack"},
    "superb.md": {"conf/table.yaml": "conf/superb.yaml"},
    "experiment run conf/ablation.yaml": {"conf/ablation.yaml": "conf/superb.yaml"},
    "analyze exp/packs/*.pack -o analysis --speech": {  # enough of it to be clustered
        f"dump/{lang}/dev": "dump/long" for lang in ("es", "it", "asr_yo")
    },
    "experiment run conf/table.yaml --jobs 20": {"conf/table.yaml": "conf/superb.yaml"},
    "experiment table": {"conf/table.yaml": "conf/finished.yaml"},
    "experiment plot": {"conf/table.yaml": "conf/finished.yaml"},
}
NEEDS = {  # part of a command -> package that an extra brings
    "completion": "shtab",
    "serve": "fastapi",
    "--onnx": "onnxruntime",
    "jsonl.gz": "lhotse",
    "dataset": "datasets",
    "--slurm": "submitit",
}


def on_pages() -> list[tuple[str, str]]:
    """Page and arguments of each, comments and redirections left out."""
    found = []
    for page in PAGES:
        blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
        lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
        given = [match for line in lines for match in _COMMAND.findall(line.split(" #")[0].split(" > ")[0])]
        found += [(page.name, " ".join(each.split())) for each in given]
    return list(dict.fromkeys(found))


def commands() -> list[str]:
    """The same without pages."""
    return list(dict.fromkeys(command for _, command in on_pages()))


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


# --- and runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [*LEFT_OUT, *ADDED, *ELSEWHERE, *NEEDS])
def test_what_is_said_of_commands_is_of_one_that_is_there(entry: str):
    pages = {page for page, _ in on_pages()}
    assert entry in pages or any(entry in command for command in commands())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Iterator[Path]:
    """The folder of `tests.fixtures.doc_workspace`, which tests copy."""
    pytest.importorskip("espnet2", reason="trains what the commands take")
    import torch

    from s3router.upstreams import public
    from tests.fixtures.doc_workspace import make_workspace, small_catalogue

    folder, threads = tmp_path_factory.mktemp("workspace"), torch.get_num_threads()
    torch.set_num_threads(1)  # grids fork: threads of this process would be missing in their children
    small = small_catalogue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(public, "catalogue", lambda: small)
        patch.setenv("S3ROUTER_UPSTREAMS", str(folder / "upstreams"))
        patch.setenv("S3ROUTER_TINY", str(folder / "my-model"))
        with pytest.MonkeyPatch.context() as there:
            there.chdir(folder)
            make_workspace()
        before = states(folder)
        yield folder
        assert states(folder) == before
    torch.set_num_threads(threads)


def states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file, but for locks."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
    return {path: (state.st_size, state.st_mtime_ns) for path, state in found.items()}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A server logs to the stderr of its test, which no other test is to find closed."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def folder(workspace: Path, page: str, command: str, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A copy of it by links, for files are written anew and never changed, with what the command finds elsewhere."""
    place = tmp_path / "here"
    shutil.copytree(workspace, place, symlinks=True, copy_function=os.link)
    for where, others in ELSEWHERE.items():
        if where == page or command.startswith(where):
            for name, source in others.items():
                remove(place / name)
                if source:
                    copy = shutil.copytree if (place / source).is_dir() else shutil.copy
                    copy(place / source, place / name)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("S3ROUTER_UPSTREAMS", str(place / "upstreams"))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize(("page", "command"), on_pages(), ids=lambda text: text[:60])
def test_it_runs(page: str, command: str, folder: Path, request, monkeypatch, capsys):
    for part, package in NEEDS.items():
        if part in command:
            pytest.importorskip(package)
    if "user/prompts" in command:
        command = with_hub(command, request)
    if "--slurm" in command:
        request.getfixturevalue("fake_slurm")
    if command.startswith("serve"):
        answer_once(monkeypatch)
    if command.startswith("experiment routes"):
        all_in_this_process(monkeypatch)
    words = expanded(command)
    written = outputs(words)
    for path in written:
        remove(path)
    capsys.readouterr()
    try:
        status = main(words)
    except SystemExit as end:  # --help
        status = end.code
    said = capsys.readouterr()
    assert status in (0, None), said.err
    assert [path for path in written if not path.exists()] == []
    assert said.out.strip() or written


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def expanded(command: str) -> list[str]:
    """The words of a command, as a shell would give them, without anything left out."""
    for there, here in LEFT_OUT.items():
        command = command.replace(there, here)
    assert MORE not in command
    name, *words = shlex.split(command)
    words += shlex.split(ADDED.get(name, ""))
    found = [name]
    for word in map(os.path.expanduser, words):
        found += sorted(glob.glob(word)) if "*" in word else [word]
    return found


def outputs(words: list[str]) -> list[Path]:
    """What a command says that it writes."""
    options = {"-o", "--output", "--output-dir", "--output_dir", "--markdown", "--work"}
    if words[0] == "ml-superb-score":
        options.add("--json")
    found = [Path(value) for option, value in itertools.pairwise(words) if option in options]
    if words[0] == "convert":
        found.append(Path(words[2]))
    if words[:2] == ["upstream", "convert"]:
        found.append(Path(words[3]))
    return found


def with_hub(command: str, request) -> str:
    """The command where there is a hub, which has the repository unless it is pushed; with the commit's name."""
    there = request.getfixturevalue("hub")
    if command.startswith("push"):
        return command
    assert main(["push", "user/prompts", "es.pack", "fr.pack"]) == 0
    return command.replace("COMMIT", there.repositories["user/prompts"].refs["main"])


def answer_once(monkeypatch) -> None:
    """A server that starts ends when it has said which models it has."""
    from s3router.server.serve import Server

    run = Server.run

    def briefly(server: Server) -> None:
        monkeypatch.setattr(Server, "run", run)
        with server.in_thread() as url, urllib.request.urlopen(f"{url}/v1/models") as answer:
            assert b'"es"' in answer.read()

    monkeypatch.setattr(Server, "run", briefly)


def all_in_this_process(monkeypatch) -> None:
    """Commands that start others, which would know nothing of the catalogue here, call them."""
    from s3router.experiments import memory, packs_page

    def call(*words: str) -> None:
        assert main(list(words)) == 0

    monkeypatch.setattr(packs_page, "_call", call)
    monkeypatch.setattr(packs_page, "measure_packs", lambda packs, _: memory._measure_packs(packs, None, None))
