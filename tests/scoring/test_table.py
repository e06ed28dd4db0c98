"""The results table of the recipe: its grid, what results decide, the scheduler, the report."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import yaml

from s3router.errors import ConfigError, DataError

RECIPE = Path(__file__).parents[2] / "egs" / "asterisk" / "asr1"

GRID = {
    "upstream": "stub",
    "select": "cer",
    "seeds": [0, 1, 2],
    "repeat": ["weight", "router"],
    "data": {"train": {"5min": "dump/{lang}/train_5min"}, "dev": "d", "test": "t", "tokens": "k"},
    "train": {"max_updates": 100},
    "methods": {"frozen": {}, "weight": {"weight_lr": ["1e-4", 5e-4, 1e-3], "head_lr": [1e-3, 2e-3]}, "router": {}},
    "sweep": {"lang": "en", "subset": "5min", "sparsity": 0.1},
    "cells": [
        {"lang": "en", "subset": "5min", "methods": ["weight", "frozen", "router"], "sparsities": [0.1, 0.3]},
        {"lang": ["fr", "it"], "subset": "5min", "methods": ["router"], "sparsities": [0.1]},
    ],
}


@pytest.fixture
def table(monkeypatch):
    """The recipe's modules: grid, make, one_run, report."""
    monkeypatch.syspath_prepend(str(RECIPE / "local" / "table"))
    names = ("grid", "report", "one_run", "make", "plots")
    yield {name: __import__(name) for name in names[:-1]}
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def grid(table, tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(GRID))
    return table["grid"].Grid.read(path)


def result(run, dev_cer: float, test_cer: float | None = None) -> dict:
    """A result file's content; test is a little worse than dev."""
    test = dev_cer + 0.01 if test_cer is None else test_cer
    rates = {"cer": test, "wer": 2 * test, "n_utts": 4, "n_words": 40}
    utts = {f"u{k}": [10, round(20 * test), 100, round(100 * test) + k] for k in range(4)}
    return {
        **{"name": run.name, "key": run.key, "lang": run.lang, "subset": run.subset, "method": run.method},
        **{"sparsity": run.sparsity, "seed": run.seed, "lrs": run.rates, "updates": run.updates, "best_update": 50},
        **{"dev": {"cer": dev_cer, "wer": 2 * dev_cer}, "test": {**rates, "utts": utts}, "seconds": 60.0},
        **{"curve": [[50, 9.0, 9.0, dev_cer, 2 * dev_cer], [100, 5.0, 9.0, dev_cer + 0.1, 1.0]]},
        **{"peak_rss_mb": 900, "commit": "abc1234", "date": "2030-01-02", "versions": {"torch": "2"}},
        "command": f"python -m s3router.asr.train --method {run.method}",
    }


def known_of(table, pairs) -> object:
    return table["grid"].Known({run.key: result(run, *figures) for run, *figures in pairs})


def described(runs) -> list[tuple]:
    return [(run.lang, run.method, run.sparsity, run.seed, run.rates) for run in runs]


def test_sweeps_come_first_and_one_rate_after_the_other(grid, table):
    known = table["grid"].Known({})
    first = grid.plan(known)
    assert [run.rates for run in first[:3]] == [
        {"weight_lr": rate, "head_lr": 1e-3} for rate in (1e-4, 5e-4, 1e-3)
    ]  # "1e-4" is text to YAML
    assert [run.method for run in first[3:]] == ["frozen", "router", "router", "router", "router"]
    assert [run.lang for run in first[3:]] == ["en", "en", "en", "fr", "it"]
    known = known_of(table, zip(first[:3], (0.4, 0.2, 0.3), strict=True))
    second = grid.plan(known)
    assert [run.rates for run in second[:5]] == [
        *({"weight_lr": rate, "head_lr": 1e-3} for rate in (1e-4, 5e-4, 1e-3)),
        {"weight_lr": 5e-4, "head_lr": 2e-3},
        second[4].rates,
    ]
    assert not grid.decided("weight", known)
    known = known_of(table, [*zip(first[:3], (0.4, 0.2, 0.3), strict=True), (second[3], 0.1)])
    assert grid.decided("weight", known)
    assert grid.options("weight", known) == {"max_updates": 100, "weight_lr": 5e-4, "head_lr": 2e-3}
    assert ("en", "weight", None, 0, {"weight_lr": 5e-4, "head_lr": 2e-3}) in described(grid.plan(known))


def test_more_seeds_for_the_sparsity_that_dev_picks(grid, table):
    english = [run for run in grid.plan(table["grid"].Known({}), sweep=False) if run.lang == "en"]
    tenth, third = (next(run for run in english if run.sparsity == s) for s in (0.1, 0.3))
    known = known_of(table, [(tenth, 0.30, 0.1)])
    assert all(run.seed == 0 for run in grid.plan(known, sweep=False))  # 0.3 is not in yet
    known = known_of(table, [(tenth, 0.30, 0.1), (third, 0.25, 0.9)])
    repeats = [run for run in grid.plan(known, sweep=False) if run.seed > 0]
    assert [(r.lang, r.sparsity, r.seed) for r in repeats] == [("en", 0.3, 1), ("en", 0.3, 2)]  # by dev, not by test


def test_a_cell_may_have_seeds_of_its_own(table, tmp_path):
    cells = [{**GRID["cells"][1], "seeds": [0]}, {**GRID["cells"][1], "lang": "ru"}]
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump({**GRID, "methods": {"router": {}}, "cells": cells}))
    grid, empty = table["grid"].Grid.read(path), table["grid"].Known({})
    runs = [(run.lang, run.seed) for run in grid.everything(empty)]
    assert sorted(runs) == [("fr", 0), ("it", 0), ("ru", 0), ("ru", 1), ("ru", 2)]
    asked = table["grid"].Grid.read(path, seeds=(3,))  # --seeds goes before both
    assert {run.seed for run in asked.everything(empty)} == {3}


def test_failed_runs_do_not_hold_up_the_others(grid, table):
    first = grid.plan(table["grid"].Known({}))
    results = {run.key: result(run, 0.2 + k / 10) for k, run in enumerate(first[:2])}
    known = table["grid"].Known(results, frozenset([first[2].key]))
    assert grid.sweeps("weight", known)[0].best == 1e-4
    english = [run for run in first if run.lang == "en" and run.method == "router"]
    known = table["grid"].Known({english[0].key: result(english[0], 0.5)}, frozenset([english[1].key]))
    assert [run.sparsity for run in grid.plan(known) if run.seed == 1] == [0.1]
    assert not [run for run in grid.plan(known) if run.method == "frozen" and run.seed]


def test_whole_table_is_counted_beforehand(grid, table):
    # weight: 3 + 1 in sweeps, of which one is a row, + 2 seeds; frozen; router 2 + 2 seeds, and twice 1 + 2
    assert len(grid.everything(table["grid"].Known({}))) == 4 + 2 + 1 + 4 + 6


def test_other_settings_are_other_runs(grid, table, tmp_path):
    run = grid.plan(table["grid"].Known({}))[0]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({**GRID, "train": {"max_updates": 200}}))
    other = table["grid"].Grid.read(tmp_path / "table.yaml").plan(table["grid"].Known({}))[0]
    assert run.key != other.key
    assert run.name.startswith("en_5min_stub_weight_seed0_")
    assert table["grid"].Grid.read(tmp_path / "table.yaml", max_updates=100).plan(table["grid"].Known({}))[0] == run


def test_upstream_is_part_of_a_run(table, tmp_path):
    upstream_id = table["grid"].upstream_id
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("one")
    first = upstream_id("tiny", str(tmp_path))
    (tmp_path / "model.safetensors").write_text("two")
    assert upstream_id("tiny", str(tmp_path)) != first
    (tmp_path / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json missing"):
        upstream_id("tiny", str(tmp_path))


def test_bad_grids_are_refused_with_all_problems(table, tmp_path):
    cells = [{"lang": "en", "subset": "9min", "methods": ["router", "magic"], "sparsites": [0.1]}]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**GRID, "select": "loss", "cells": cells}))
    with pytest.raises(ConfigError) as caught:
        table["grid"].Grid.read(path)
    for part in ("'loss'", "subset '9min'", "method 'magic'", "unknown entry sparsites", "router needs sparsities"):
        assert part in str(caught.value)
    path.write_text(yaml.safe_dump({**GRID, "methods": {"weight": {}, "frozen": {}, "router": {}}, "train": {}}))
    with pytest.raises(ConfigError, match="has no max_updates"):
        table["grid"].Grid.read(path)


def test_the_recipes_own_grid(table, monkeypatch, tmp_path):
    """It holds what the table must show, and every option in it is one of the training command."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("x")
    monkeypatch.setenv("S3ROUTER_TINY", str(tmp_path))
    monkeypatch.chdir(RECIPE)
    grid = table["grid"].Grid.read(Path("conf/table.yaml"))
    cells = {(cell.lang, cell.subset): cell for cell in grid.cells if not cell.variant}
    assert set(cells) >= {("en", "5min"), ("en", "2min"), ("en", "all")} | {
        (k, "5min") for k in ("es", "fr", "it", "ru")
    }
    assert set(cells["en", "5min"].sparsities) >= {0.02, 0.06, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert set(cells["en", "5min"].methods) == {"scratch", "frozen", "weight", "router"}
    assert all({"frozen", "weight", "router"} <= set(c.methods) and len(c.sparsities) >= 3 for c in cells.values())
    assert len(grid.seeds) >= 3
    import argparse

    from s3router.asr import options

    parser = argparse.ArgumentParser()
    options.add_arguments(parser, argparse.Action)
    ours = {action.dest for action in parser._actions}
    for run in grid.everything(table["grid"].Known({})):
        assert {name for name, _ in run.options} <= ours, run.name


def test_report(grid, table, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    report = tmp_path / "RESULTS.md"
    table["report"].write_report(grid, folder, report)
    assert "0 of about 17 runs are in" in report.read_text()
    assert not list(folder.glob("*.png"))
    known = table["grid"].Known({})
    for _ in range(3):  # sweeps, rows, seeds
        for run in grid.plan(known):
            rate = (
                {"frozen": 0.4, "weight": 0.3, "router": 0.25}[run.method] + 0.01 * run.seed + (run.sparsity or 0) / 10
            )
            (folder / f"{run.name}.json").write_text(json.dumps(result(run, rate)))
        known = table["grid"].Known.read(folder)
    (folder / "notes.md").write_text("Seen: masks win.\n")
    (folder / "failed.txt").write_text("en_5min_stub_weight_seed9_01234567\n")
    table["report"].write_report(grid, folder, report)
    text = report.read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert ["English, 5 minutes", "82.0", "64.0 ± 2.0", "**56.0 ± 2.0**"] in [row[:4] for row in rows]
    assert ["S3-Router, 10 % removed ← dev", "56.0 ± 2.0", "28.0 ± 1.0"] in [row[:3] for row in rows]
    assert "Seen: masks win." in text
    assert "17 of about 17 runs are in" in text
    assert "abc1234 (17)" in text
    assert "**0.0001: 30.0**" in text
    assert "1 runs failed" in text
    assert text.count("![") == 2
    assert {path.stem for path in folder.glob("*.png")} == {"sparsity_curve", "learning_curves"}
    (folder / "broken.json").write_text("{}")
    with pytest.raises(DataError, match=r"broken\.json: not a result file"):
        table["report"].write_report(grid, folder, report)


def finishes(run, grid, place, commit_hash) -> None:
    """Stands in for a run: writes its log and result; one fails, one is slow."""
    folder = place.folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.log").write_text("first line\nno good\n")
    if run.method == "frozen":
        sys.exit(3)
    time.sleep(0.05)
    place.results.mkdir(exist_ok=True)
    (place.results / f"{run.name}.json").write_text(json.dumps(result(run, 0.3)))


def test_scheduler_goes_on_past_failures_and_resumes(grid, table, tmp_path, monkeypatch, capsys):
    import re

    make = table["make"]
    monkeypatch.setattr(make, "run_one", finishes)
    for plot in ("sparsity_curve", "learning_curves"):  # drawn after every run: they have a test of their own
        monkeypatch.setattr(f"plots.{plot}", lambda *_: False)
    place = table["one_run"].Place(tmp_path / "runs", tmp_path / "results")
    options = make.Options(place, tmp_path / "RESULTS.md", 3, re.compile(""), True)
    assert make.Table(grid, options).make() == 1
    out = capsys.readouterr().out
    assert "FAILED en_5min_stub_frozen_seed0" in out
    assert "    no good" in out
    assert "--only '^en_5min_stub_frozen_seed0_" in out
    assert "16 of 17 runs done, 0 running, 1 failed" in out
    assert (tmp_path / "results" / "failed.txt").read_text().startswith("en_5min_stub_frozen_seed0_")
    assert "16 of about 17" in (tmp_path / "RESULTS.md").read_text()
    # the second call finds the rest finished, and tries the failed one again
    again = make.Table(grid, options)
    assert [run.method for run in again.todo()] == ["frozen"]
    again.options = make.Options(place, tmp_path / "RESULTS.md", 3, re.compile("_router_"), True)
    assert again.todo() == []
    make.dry_run(make.Table(grid, options))
    assert capsys.readouterr().out.count("\ndone ") + 1 >= 16


def test_training_command(grid, table, tmp_path):
    cell = grid.cells[0]
    options = {"max_updates": 7, "head_lr": 0.001, "mask_conf": {"targets": ["ffn", "attention"]}}
    run = grid.run(cell, "router", 0.3, 2, options)
    argv = table["one_run"].train_argv(grid, run, tmp_path)
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    assert given["--train_dir"] == "dump/en/train_5min"
    assert (given["--sparsity"], given["--seed"], given["--max_updates"]) == ("0.3", "2", "7")
    assert json.loads(given["--mask_conf"]) == {"targets": ["ffn", "attention"]}
    assert table["one_run"].targets(run) == ["ffn", "attention"]
    argv = table["one_run"].train_argv(grid, grid.run(cell, "weight", None, 0, options), tmp_path)
    assert "--sparsity" not in argv
    assert "--mask_conf" not in argv


def test_commit_is_named(table):
    assert table["one_run"].commit().rstrip("+").isalnum()
