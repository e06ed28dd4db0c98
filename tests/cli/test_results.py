"""The table of trained models is made of what decoding left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3router import cli
from s3router.cli import results
from s3router.errors import DataError


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    for name, wer in (("dev", 0.5), ("test", 1.25)):
        folder = tmp_path / "exp" / f"decode_{name}"
        folder.mkdir(parents=True)
        content = {"wer": wer, "cer": wer / 4, "n_utts": 7, "times_real_time": 99.6}
        (folder / "result.json").write_text(json.dumps(content))
    return tmp_path / "exp"


def test_rows_are_in_percent_and_in_the_order_asked_for(exp: Path, tmp_path: Path, capsys):
    assert cli.main(["results", str(exp), "--sets", "test", "dev", "--output", str(tmp_path / "R.md")]) == 0
    lines = (tmp_path / "R.md").read_text().splitlines()
    assert lines[2:] == ["| exp | test | 7 | 125.00 | 31.25 | 100 |", "| exp | dev | 7 | 50.00 | 12.50 | 100 |"]
    assert capsys.readouterr().out.splitlines() == lines


def test_all_sets_by_default(exp: Path):
    assert [line.split(" | ")[1] for line in results.table([exp])[2:]] == ["dev", "test"]


def test_what_is_missing_or_damaged_is_named(exp: Path, tmp_path: Path, capsys):
    assert cli.main(["results", str(exp), "--sets", "other"]) == 1
    assert "decode_other/result.json is missing; decode first" in capsys.readouterr().err
    (exp / "decode_dev/result.json").write_text('{"wer": ')
    with pytest.raises(DataError, match=r"decode_dev/result\.json is damaged"):
        results.table([exp])
    with pytest.raises(DataError, match="no decode_"):
        results.table([tmp_path / "empty"])
