"""Means over an axis in a grid's page, from results that a hand can add up."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from s3router.experiments.averages import averages
from s3router.experiments.grid import Grid
from s3router.experiments.planning import Plan
from s3router.experiments.results import Known
from s3router.scoring.stats import bootstrap_counts, bootstrap_means

GRID = {
    "kind": "asr",
    "upstream": "tiny",
    "select": "cer",
    "axes": {"lang": {"fr": "French", "it": "Italian"}, "subset": {"2min": "2 minutes", "5min": "5 minutes"}},
    "seeds": [0],
    "data": dict.fromkeys(("train", "dev", "test", "tokens"), "{lang}"),
    "train": {"max_updates": 9},
    "methods": {"router": {}, "weight": {}},
    "table": {"average": "lang", "against": "router"},
    "cells": [{"lang": ["fr", "it"], "subset": ["2min", "5min"], "methods": ["router", "weight"], "sparsities": [0.1]}],
}
WRONG = {("fr", "router"): 1, ("it", "router"): 4, ("fr", "weight"): 2, ("it", "weight"): 6}  # of ten characters each


@pytest.fixture
def plan(tmp_path) -> Plan:
    """All runs but Italian weight finetuning with two minutes."""
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(GRID))
    grid = Grid.read(Path(tmp_path / "table.yaml"))
    plan = Plan(grid, Known({}))
    results = {}
    for run in plan.everything():
        lang, subset = (value for _, value in run.at)
        if (lang, subset, run.method) == ("it", "2min", "weight"):
            continue
        wrong = WRONG[lang, run.method]
        counts = [1, 1, 10, wrong]  # words and characters: all of them, wrong ones
        rates = {"wer": 1.0, "cer": wrong / 10}
        results[run.key] = {"dev": rates, "test": rates | {"utts": {f"{lang}{n}": counts for n in range(5)}}}
    return Plan(grid, Known(results))


def rows(plan: Plan) -> dict[str, list[str]]:
    """Heading and rows of each table, by their first cell; later tables with a number behind it."""
    found: dict[str, list[str]] = {}
    for line in averages(plan, "lang"):
        if line.startswith("| "):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            found[first if first not in found else f"{first} 2"] = others
    return found


def test_every_language_counts_as_much_as_another(plan):
    found = rows(plan)
    assert found["5 minutes"][:2] == ["test WER", "test CER"]
    assert found["S3-Router, 10 % removed 2"] == ["100.0", "25.0", "", "", "2"]
    # equal errors in every utterance: the interval has no width
    assert found["weight finetuning"] == ["100.0", "40.0", "+0.0 (+0.0 to +0.0)", "+15.0 (+15.0 to +15.0)", "2"]


def test_differences_are_from_the_sparsity_that_dev_picks_in_each_place(tmp_path):
    cells = [{"lang": ["fr", "it"], "subset": "5min", "methods": ["router", "weight"], "sparsities": [0.1, 0.3]}]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({**GRID, "cells": cells}))
    grid = Grid.read(Path(tmp_path / "table.yaml"))
    wrong = {("fr", 0.1): 5, ("fr", 0.3): 1, ("it", 0.1): 2, ("it", 0.3): 5}  # dev picks 0.3 of one, 0.1 of the other
    results = {}
    for run in Plan(grid, Known({})).everything():
        count = wrong.get((dict(run.at)["lang"], run.sparsity), 3)
        rates = {"wer": 1.0, "cer": count / 10}
        results[run.key] = {"dev": rates, "test": rates | {"utts": {f"u{n}": [1, 1, 10, count] for n in range(5)}}}
    found = rows(Plan(grid, Known(results)))
    assert found["weight finetuning"][3] == "+15.0 (+15.0 to +15.0)"  # 30 minus the mean of 10 and 20
    assert found["S3-Router, 10 % removed"][3] == "+20.0 (+20.0 to +20.0)"
    assert found["S3-Router, 30 % removed"][3] == "+15.0 (+15.0 to +15.0)"


def test_no_mean_without_every_language(plan):
    found = rows(plan)
    assert found["S3-Router, 10 % removed"][1] == "25.0"
    assert "weight finetuning 2" not in found
    [said] = [line for line in averages(plan, "lang") if line.startswith("Not run yet")]
    assert said == "Not run yet for all of these (2 minutes): weight finetuning."


def test_a_mean_of_sets_is_steadier_than_one_of_them():
    a = [float(n % 3) for n in range(60)]
    one = (a, [1.0] * 60, [4.0] * 60)
    alone, many = bootstrap_counts(*one), bootstrap_means([one] * 4)
    assert many.difference == pytest.approx(alone.difference)
    assert many.high - many.low == pytest.approx((alone.high - alone.low) / 2, rel=0.05)
