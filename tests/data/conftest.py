"""The five-utterance directory under absolute paths, and ways to break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s3router.data.kaldi import DataDir

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture
def five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tests/fixtures/five that a test may change; its audio stays where it is."""
    root = FIXTURES.parents[1]
    monkeypatch.chdir(root)  # its wav.scp is relative to the repository
    data = DataDir.read(FIXTURES / "five")
    here = [replace(u, source=str(root / u.source)) for u in data.utts]
    return DataDir(data.path, here).write(tmp_path / "five").path


@pytest.fixture
def change(five: Path):
    """change("text", old, new): replace once in a file of the copy; the old text must be there."""

    def edit(name: str, old: str, new: str) -> Path:
        content = (five / name).read_text(encoding="utf-8")
        assert old in content
        (five / name).write_text(content.replace(old, new, 1), encoding="utf-8")
        return five

    return edit
