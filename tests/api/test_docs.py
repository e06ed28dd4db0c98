"""What docs/python.md and docs/packs.md tell to type runs as it stands; small models take the place of large ones."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

import s3router
from s3router import cli
from tests.sharing.conftest import hub  # noqa: F401

ROOT = Path(__file__).parents[2]
AUDIO = sorted((ROOT / "tests" / "fixtures" / "five" / "audio").iterdir())
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def desk(hub, hand_made, tmp_path, monkeypatch) -> Path:  # noqa: F811
    """The folder in which a reader of the page works."""
    for pack in hand_made.values():
        shutil.copy(pack, tmp_path)
    shutil.copytree(AUDIO[0].parent, tmp_path / "recordings")
    shutil.copy(AUDIO[0], tmp_path / "a.wav")
    monkeypatch.setenv("S3ROUTER_TINY", str(hand_made["es"].parent / "tiny"))
    monkeypatch.chdir(ROOT)  # the fixture's paths are relative
    s3router.convert("tests/fixtures/five", tmp_path / "train.jsonl")
    monkeypatch.chdir(tmp_path)
    s3router.push("user/prompts", [hand_made["es"], hand_made["fr"]])
    return tmp_path


def commands(page: str, section: str) -> list[str]:
    """The s3router commands in the shell blocks of a section."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("s3router ")]


def test_snippets_were_found():
    assert len(SNIPPETS) >= 4


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.split("\n")[2][:30])
def test_snippet(desk, snippet, capsys):
    small = snippet.replace("whisper_base", "tiny").replace("max_updates=60", "max_updates=2")
    exec(compile(small, "docs/python.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "section", "count"), [("python.md", "Other forms of data", 4), ("packs.md", "Packs travel", 3)]
)
def test_commands(desk, hub, page, section, count):  # noqa: F811
    if section == "Other forms of data":
        pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
        pytest.importorskip("lhotse", reason="tools/setup.sh --with-data")
    found = commands(page, section)
    assert len(found) == count
    for line in found:
        commit = hub.repositories["user/prompts"].refs["main"]
        assert cli.main(shlex.split(line.replace("COMMIT", commit), comments=True)[1:]) == 0, line
