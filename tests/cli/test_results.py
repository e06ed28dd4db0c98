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


def test_models_of_phones_have_a_per(exp: Path):
    path = exp / "decode_test/result.json"
    path.write_text(json.dumps({"wer": 0.2, "cer": 0.9, "per": 0.2, "n_utts": 7, "times_real_time": 99.6}))
    assert results.table([exp], ["test"])[2:] == ["| exp | test | 7 | 20.00 | 100 |"]
    assert "| PER % |" in results.table([exp], ["test"])[0]
    rows = results.table([exp])
    assert "| WER % | CER % | PER % |" in rows[0]
    assert rows[2:] == ["| exp | dev | 7 | 50.00 | 12.50 | – | 100 |", "| exp | test | 7 | – | – | 20.00 | 100 |"]


def test_what_is_missing_or_damaged_is_named(exp: Path, tmp_path: Path, capsys):
    assert cli.main(["results", str(exp), "--sets", "other"]) == 1
    assert "decode_other/result.json is missing; decode the set" in capsys.readouterr().err
    (exp / "decode_dev/result.json").write_text('{"wer": ')
    with pytest.raises(DataError, match=r"decode_dev/result\.json is damaged"):
        results.table([exp])
    with pytest.raises(DataError, match="no decode_"):
        results.table([tmp_path / "empty"])


def test_a_column_without_diacritics_on_demand(exp: Path, capsys):
    path = exp / "decode_dev" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cer_plain": 0.06}))
    assert cli.main(["results", str(exp), "--plain"]) == 0
    head, _, dev, test = capsys.readouterr().out.splitlines()
    assert "CER without diacritics %" in head
    assert dev == "| exp | dev | 7 | 50.00 | 12.50 | 6.00 | 100 |"
    assert test == "| exp | test | 7 | 125.00 | 31.25 | – | 100 |"  # decoded by an older version
