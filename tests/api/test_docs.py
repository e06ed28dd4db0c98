"""The Python in docs/python.md runs as it stands there; small models take the place of large ones."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import s3router
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
    monkeypatch.chdir(tmp_path)
    s3router.push("user/prompts", [hand_made["es"], hand_made["fr"]])
    return tmp_path


def test_snippets_were_found():
    assert len(SNIPPETS) >= 2


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.split("\n")[2][:30])
def test_snippet(desk, snippet, capsys):
    exec(compile(snippet.replace("whisper_base", "tiny"), "docs/python.md", "exec"), {})
    assert capsys.readouterr().out
