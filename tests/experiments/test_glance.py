"""Results at a glance: rows of several grids in one page, from the stored results alone."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from s3router.cli import main
from s3router.experiments.glance import Glance

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs/asterisk/asr1"
ROW = {"title": "prompts", "grid": str(RECIPE / "conf/seq2seq.yaml"), "subset": "5min", "figure": "wer"}
MARKS = ["<!-- glance.yaml: begin -->", "<!-- glance.yaml: end -->"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes glance.yaml with these rows and a page with marks; the command's arguments."""
    monkeypatch.chdir(tmp_path)

    def made(*rows: dict, **more) -> list[str]:
        content = {"page": "PAGE.md", "columns": {"weights": "weight", "masks": "router"}, "rows": [*rows], **more}
        Path("glance.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        Path("PAGE.md").write_text("\n".join(["before", MARKS[0], "| old |", MARKS[1], "after", ""]))
        return ["experiment", "glance", "glance.yaml"]

    return made


def test_the_readme_shows_what_the_results_say(tmp_path):
    """Written again from the result files, README.md stays as it is."""
    glance = Glance(ROOT / "conf/glance.yaml")
    shown = glance.page.read_text(encoding="utf-8").splitlines()
    begin, end = map(shown.index, glance.marks)
    assert shown[begin + 1 : end] == glance.table(glance.lines())


def test_means_and_single_places(write, capsys):
    french = ROW | {"title": "French", "lang": "fr", "figure": "cer"}
    assert main(write(ROW, french, french | {"without": "masks"}, picture="dots.png")) == 0
    page = Path("PAGE.md").read_text().splitlines()
    assert page[:2] + page[-2:] == ["before", MARKS[0], MARKS[1], "after"]
    body = [[cell.strip() for cell in line.strip("|").split("|")] for line in page[4:-2]]
    glance = Glance(Path("glance.yaml"))
    mean, french = list(glance.lines())[:2]
    each = [next(Glance.lines(_one(glance, ROW | {"lang": lang}))) for lang in ("fr", "it", "ru", "es")]
    assert mean.values["masks"] == pytest.approx(sum(line.values["masks"] for line in each) / 4)
    assert french.values["masks"] < french.values["weights"]
    assert body[1][3] == f"**{french.values['masks']:.1f}**"
    assert body[2][3] == "–"
    assert Path("dots.png").read_bytes().startswith(b"\x89PNG")
    assert "dots.png is written" in capsys.readouterr().out


def test_equals_are_bold_together(write):
    """28.04 and 27.96 are written alike; 28.06 is not."""
    write(ROW)
    glance = Glance(Path("glance.yaml"))
    (line,) = glance.lines()
    both, one = (
        glance.table([replace(line, values={"weights": value, "masks": 27.96})])[-1] for value in (28.04, 28.06)
    )
    assert both.count("**28.0**") == 2
    assert one.count("**") == 2
    assert "28.1" in one


def test_the_highest_accuracy_is_bold(write):
    write(ROW)
    glance = Glance(Path("glance.yaml"))
    (line,) = glance.lines()
    values = {"weights": 90.0, "masks": 60.0}
    assert "**90.0**" in glance.table([replace(line, figure="accuracy", lower=False, values=values)])[-1]
    write({"title": "keywords", "grid": str(ROOT / "egs/asterisk/ks1/conf/table.yaml"), "figure": "accuracy"})
    assert [line.lower for line in Glance(Path("glance.yaml")).lines()] == [False]


def _one(glance: Glance, row: dict) -> Glance:
    glance = Glance(glance.path)
    glance.rows = [row]
    return glance


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"subset": "9min"}, r"row 1: .*seq2seq.yaml has no cell at .'subset': '9min'"),
        (ROW | {"figure": "eer"}, r"'eer' is none of the figures of .* \(wer, cer, kB\)"),
        ({"title": "x"}, "row 1: grid is missing; row 1: figure is missing"),
        (1, "row 1 must be a mapping, found 1"),
        (ROW | {"without": "weihgts"}, "row 1: without 'weihgts', which is no column"),
        (ROW | {"without": [["weights"]]}, r"row 1: without \['weights'\], which is no column"),
        (ROW | {"grid": None}, "row 1: grid must be a path, found None"),
    ],
)
def test_what_is_wrong_is_said(write, capsys, row, message):
    assert main(write(row)) == 1
    assert re.search(message, capsys.readouterr().err)
    assert "| old |" in Path("PAGE.md").read_text()


def test_a_column_that_no_grid_knows_is_no_row_of_dashes(write, capsys):
    assert main(write(ROW, columns={"LoRA": "lroa", "masks": "router"})) == 1
    assert "columns: no grid here has a method 'lroa'" in capsys.readouterr().err
    assert "| old |" in Path("PAGE.md").read_text()
    assert main(write(ROW, columns={"LoRA": ["lora"]})) == 1
    assert "columns: LoRA: ['lora'] is no name of a method" in capsys.readouterr().err
    assert main(write(ROW, columns=3)) == 1
    assert "columns must be a mapping" in capsys.readouterr().err
    assert main(write(ROW, picture=None)) == 1
    assert "picture must be a path, found None" in capsys.readouterr().err


def test_a_page_without_marks_stays_as_it_is(write, capsys):
    words = write(ROW)
    shutil.copy(__file__, "PAGE.md")
    assert main(words) == 1
    assert f"put the lines {' and '.join(MARKS)} where the table is to stand" in capsys.readouterr().err
    assert Path("PAGE.md").read_text() == Path(__file__).read_text()
