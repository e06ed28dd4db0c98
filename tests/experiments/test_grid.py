"""A grid of runs: reading and checking it, what results decide, the page, and the table of the Asterisk recipe."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml

from s3router.cli import main
from s3router.errors import ConfigError, DataError
from s3router.experiments.glance import _rows
from s3router.experiments.grid import Grid, Overrides
from s3router.experiments.grid_launch import Resources, launch, write_table
from s3router.experiments.grid_work import Choice, GridWork
from s3router.experiments.kinds import kind_of, targets
from s3router.experiments.one_run import commit
from s3router.experiments.planning import Plan
from s3router.experiments.plots import _with_the_rest, start_of, write_plots
from s3router.experiments.report import write_report
from s3router.experiments.results import Known
from s3router.experiments.upstream_files import upstream_id

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs/asterisk/asr1"
EMPTY = Known({})
GRID = {
    "kind": "asr",
    "upstream": "stub",
    "select": "cer",
    "seeds": [0, 1, 2],
    "repeat": ["weight", "router"],
    "axes": {
        "lang": {"en": "English", "fr": "French", "it": "Italian", "ru": "Russian"},
        "subset": {"5min": "5 minutes"},
    },
    "data": {"train": {"5min": "dump/{lang}/train_5min"}, "dev": "d", "test": "{lang}/t", "tokens": "k"},
    "train": {"max_updates": 100},
    "methods": {"frozen": {}, "weight": {"weight_lr": ["1e-4", 5e-4, 1e-3], "head_lr": [1e-3, 2e-3]}, "router": {}},
    "sweep": {"lang": "en", "subset": "5min", "sparsity": 0.1},
    "cells": [
        {"lang": "en", "subset": "5min", "methods": ["weight", "frozen", "router"], "sparsities": [0.1, 0.3]},
        {"lang": ["fr", "it"], "subset": "5min", "methods": ["router"], "sparsities": [0.1]},
    ],
}


def grid_of(folder: Path, overrides: Overrides | None = None, **changes) -> Grid:
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump({**GRID, **changes}, sort_keys=False))
    return Grid.read(path, overrides or Overrides())


@pytest.fixture
def grid(tmp_path, monkeypatch) -> Grid:
    monkeypatch.chdir(tmp_path)
    return grid_of(tmp_path)


def result(run, dev_cer: float, test_cer: float | None = None) -> dict:
    """A result file's content; test is a little worse than dev."""
    test = dev_cer + 0.01 if test_cer is None else test_cer
    rates = {"cer": test, "wer": 2 * test, "n_utts": 4, "n_words": 40}
    utts = {f"u{k}": [10, round(20 * test), 100, round(100 * test) + k] for k in range(4)}
    lrs = {name: value for name, value in run.options if name.endswith("lr")}
    return {
        **{"name": run.name, "key": run.key, **dict(run.at), "method": run.method, "seed": run.seed, "lrs": lrs},
        **{"sparsity": run.sparsity, "updates": run.updates, "best_update": 50, "seconds": 60.0},
        **{"dev": {"cer": dev_cer, "wer": 2 * dev_cer}, "test": {**rates, "utts": utts}},
        **{"curve": [[50, 9.0, 9.0, dev_cer, 2 * dev_cer], [100, 5.0, 9.0, dev_cer + 0.1, 1.0]]},
        **{"peak_rss_mb": 900, "commit": "abc1234", "date": "2030-01-02", "versions": {"torch": "2"}},
        "command": f"s3router train --method {run.base}",
    }


def known_of(pairs) -> Known:
    return Known({run.key: result(run, *figures) for run, *figures in pairs})


def rates(run) -> dict[str, float]:
    return run.values(("weight_lr", "head_lr"))


def described(runs) -> list[tuple]:
    return [(dict(run.at)["lang"], run.method, run.sparsity, run.seed, rates(run)) for run in runs]


# --- what results decide ----------------------------------------------------------------------------------------------


def test_sweeps_come_first_and_one_rate_after_the_other(grid):
    first = Plan(grid, EMPTY).runs()
    tried = [{"weight_lr": rate, "head_lr": 1e-3} for rate in (1e-4, 5e-4, 1e-3)]  # "1e-4" is text to YAML
    assert [rates(run) for run in first[:3]] == tried
    assert [run.method for run in first[3:]] == ["frozen", "router", "router", "router", "router"]
    assert [dict(run.at)["lang"] for run in first[3:]] == ["en", "en", "en", "fr", "it"]
    known = known_of(zip(first[:3], (0.4, 0.2, 0.3), strict=True))
    second = Plan(grid, known).runs()
    assert [rates(run) for run in second[:4]] == [*tried, {"weight_lr": 5e-4, "head_lr": 2e-3}]
    known = known_of([*zip(first[:3], (0.4, 0.2, 0.3), strict=True), (second[3], 0.1)])
    plan = Plan(grid, known)
    assert plan.decided("weight", grid.cells[0])
    assert plan.options("weight", grid.cells[0]) == {"max_updates": 100, "weight_lr": 5e-4, "head_lr": 2e-3}
    assert ("en", "weight", None, 0, {"weight_lr": 5e-4, "head_lr": 2e-3}) in described(plan.runs())


def test_all_combinations_may_be_swept_at_once(tmp_path):
    grid = grid_of(tmp_path, sweep={**GRID["sweep"], "search": "all"})
    (sweep,) = Plan(grid, EMPTY).sweeps("weight", grid.cells[0])
    assert len(sweep.runs) == 6
    known = known_of((run, 0.3 - 0.1 * (rates(run) == {"weight_lr": 5e-4, "head_lr": 2e-3})) for run in sweep.runs)
    assert Plan(grid, known).sweeps("weight", grid.cells[0])[0].best == {"weight_lr": 5e-4, "head_lr": 2e-3}


def test_a_sweep_in_each_place(tmp_path):
    cells = [{"lang": ["en", "fr"], "subset": "5min", "methods": ["weight"]}]
    grid = grid_of(tmp_path, sweep={**GRID["sweep"], "lang": "each"}, cells=cells)
    swept = [run for run in Plan(grid, EMPTY).runs() if run.method == "weight"]
    assert [dict(run.at)["lang"] for run in swept] == ["en"] * 3 + ["fr"] * 3
    english = known_of(zip(swept[:3], (0.1, 0.2, 0.3), strict=True))
    plan = Plan(grid, english)
    assert plan.options("weight", grid.cells[0])["weight_lr"] == 1e-4
    assert plan.sweeps("weight", grid.cells[1])[0].best is None


def test_more_is_better_for_accuracies_and_the_loss_decides_among_equals(tmp_path):
    grid = grid_of(tmp_path, kind="task", task="cls", select="accuracy", sweep={**GRID["sweep"], "search": "all"})
    (sweep,) = Plan(grid, EMPTY).sweeps("weight", grid.cells[0])
    dev = [(0.5, 1.0), (0.9, 2.0), (0.9, 1.5), (0.1, 0.1), (0.2, 0.1), (0.3, 0.1)]
    results = {run.key: {"dev": {"accuracy": a, "loss": loss}} for run, (a, loss) in zip(sweep.runs, dev, strict=True)}
    assert Plan(grid, Known(results)).sweeps("weight", grid.cells[0])[0].best == sweep.runs[2].values(sweep.names)


def test_more_seeds_for_the_sparsity_that_dev_picks(grid):
    english = [run for run in Plan(grid, EMPTY, sweep=False).runs() if dict(run.at)["lang"] == "en"]
    tenth, third = (next(run for run in english if run.sparsity == s) for s in (0.1, 0.3))
    known = known_of([(tenth, 0.30, 0.1)])
    assert all(run.seed == 0 for run in Plan(grid, known, sweep=False).runs())  # 0.3 is not in yet
    known = known_of([(tenth, 0.30, 0.1), (third, 0.25, 0.9)])
    repeats = [run for run in Plan(grid, known, sweep=False).runs() if run.seed > 0]
    assert [(dict(r.at)["lang"], r.sparsity, r.seed) for r in repeats] == [("en", 0.3, 1), ("en", 0.3, 2)]  # by dev


def test_more_seeds_at_a_sparsity_of_ones_own(tmp_path):
    grid = grid_of(tmp_path, repeat={"weight": None, "router": 0.1})
    runs = [run for run in Plan(grid, EMPTY, sweep=False).everything() if dict(run.at)["lang"] == "en" and run.seed]
    assert [(run.method, run.sparsity, run.seed) for run in runs] == [
        ("weight", None, 1),
        ("weight", None, 2),
        ("router", 0.1, 1),  # dev would pick 0.3
        ("router", 0.1, 2),
    ]
    grid = grid_of(tmp_path, repeat={"router": [0.1, 0.3]})
    runs = [run for run in Plan(grid, EMPTY, sweep=False).everything() if dict(run.at)["lang"] == "en" and run.seed]
    assert [(run.sparsity, run.seed) for run in runs] == [(0.1, 1), (0.1, 2), (0.3, 1), (0.3, 2)]


def test_all_rows_may_be_repeated(tmp_path):
    grid = grid_of(tmp_path, repeat="all")
    runs = Plan(grid, EMPTY, sweep=False).runs()
    assert len(runs) == 3 * 6


def test_a_cell_may_have_seeds_of_its_own(tmp_path):
    cells = [{**GRID["cells"][1], "seeds": [0]}, {**GRID["cells"][1], "lang": "ru"}]
    grid = grid_of(tmp_path, methods={"router": {}}, repeat=["router"], cells=cells)
    runs = [(dict(run.at)["lang"], run.seed) for run in Plan(grid, EMPTY).everything()]
    assert sorted(runs) == [("fr", 0), ("it", 0), ("ru", 0), ("ru", 1), ("ru", 2)]
    asked = Grid.read(grid.path, Overrides(seeds=(3,)))  # --seeds goes before both
    assert {run.seed for run in Plan(asked, EMPTY).everything()} == {3}


def test_failed_runs_do_not_hold_up_the_others(grid):
    first = Plan(grid, EMPTY).runs()
    results = {run.key: result(run, 0.2 + k / 10) for k, run in enumerate(first[:2])}
    known = Known(results, frozenset([first[2].key]))
    assert Plan(grid, known).sweeps("weight", grid.cells[0])[0].best == {"weight_lr": 1e-4}
    english = [run for run in first if dict(run.at)["lang"] == "en" and run.method == "router"]
    known = Known({english[0].key: result(english[0], 0.5)}, frozenset([english[1].key]))
    runs = Plan(grid, known).runs()
    assert [run.sparsity for run in runs if run.seed == 1] == [0.1]
    assert not [run for run in runs if run.method == "frozen" and run.seed]


def test_pages_show_the_best_of_the_values_that_are_in(tmp_path):
    """By the result files alone: a value that failed on this machine does not decide."""
    cells = [{"lang": "en", "subset": "5min", "methods": ["weight"]}]
    grid = grid_of(tmp_path, methods={"weight": GRID["methods"]["weight"]}, repeat=[], cells=cells)
    first = Plan(grid, EMPTY).runs()
    known = known_of(zip(first[:2], (0.9, 0.2), strict=True))
    failed = Known(known.results, frozenset([first[2].key]))
    second = Plan(grid, failed).runs()[-1]
    assert rates(second) == {"weight_lr": 5e-4, "head_lr": 2e-3}  # what is to be run: failed values count as decided
    assert Plan(grid, known).options("weight", grid.cells[0])["weight_lr"] == 1e-4
    pages = []
    for each in (known, failed):
        write_report(grid, each, tmp_path / "page.md")
        pages.append((tmp_path / "page.md").read_text())
    assert [[row[:3] for row in figures(page) if row[0] == "weight finetuning"] for page in pages] == [
        [
            ["weight finetuning", "42.0", "21.0"],
            ["weight finetuning", "weights", "0.0001: 90.0 · **0.0005: 20.0** · 0.001: –"],
        ]
    ] * 2
    further = Known({**known.results, second.key: result(second, 0.1)})
    plan = Plan.of_results(grid, further)
    assert plan.options("weight", grid.cells[0]) == {"max_updates": 100, "weight_lr": 5e-4, "head_lr": 2e-3}
    assert not plan.decided("weight", grid.cells[0])


def test_whole_table_is_counted_beforehand(grid):
    # weight: 3 + 1 in sweeps, of which one is a row, + 2 seeds; frozen; router 2 + 2 seeds, and twice 1 + 2
    assert len(Plan(grid, EMPTY).everything()) == 4 + 2 + 1 + 4 + 6


# --- which run is which -----------------------------------------------------------------------------------------------


def test_other_settings_are_other_runs(grid, tmp_path):
    run = Plan(grid, EMPTY).runs()[0]
    other = Plan(grid_of(tmp_path, train={"max_updates": 200}), EMPTY).runs()[0]
    assert run.key != other.key
    assert run.name.startswith("en_5min_stub_weight_seed0_")
    assert Plan(Grid.read(tmp_path / "table.yaml", Overrides(max_updates=100)), EMPTY).runs()[0] == run


def test_upstream_is_part_of_a_run(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("one")
    first = upstream_id("tiny", str(tmp_path))
    (tmp_path / "model.safetensors").write_text("two")
    assert upstream_id("tiny", str(tmp_path)) != first
    (tmp_path / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json missing"):
        upstream_id("tiny", str(tmp_path))
    assert upstream_id("hf_wav2vec2_custom", "facebook/mms-1b") == "facebook/mms-1b"  # a repository, not here
    with pytest.raises(DataError, match=r"exp/none missing"):
        upstream_id("tiny", "exp/none")


def test_page_of_an_upstream_that_was_made_elsewhere(tmp_path):
    """A fresh clone lacks the backbone that was trained; the results name it, and runs say what is missing."""
    backbone, results = tmp_path / "backbone", tmp_path / "results"
    backbone.mkdir(), results.mkdir()
    for name in ("config.json", "model.safetensors"):
        (backbone / name).write_text("one")
    here = grid_of(tmp_path, upstream_ckpt="backbone")
    (results / "one.json").write_text(json.dumps({"upstream_id": here.upstream_id}))
    run = Plan(here, EMPTY).runs()[0]
    shutil.rmtree(backbone)
    elsewhere = grid_of(tmp_path, upstream_ckpt="backbone")
    assert Plan(elsewhere, EMPTY).runs()[0] == run
    with pytest.raises(DataError, match=r"backbone missing; make it or"):
        launch(elsewhere, Choice(), Resources(), lambda words: 0)
    (results / "two.json").write_text(json.dumps({"upstream_id": "another"}))
    unknown = grid_of(tmp_path, upstream_ckpt="backbone")
    assert unknown.upstream_id == ""  # which one is not known
    with pytest.raises(DataError, match=r"backbone missing; make it or"):
        write_table(unknown)  # it would be a page of dashes


def test_status_and_dry_runs_name_a_missing_upstream(tmp_path, capsys):
    grid_of(tmp_path, upstream_ckpt="exp/mistyped")
    for words in (["status"], ["run", "--dry-run"]):
        assert main(["experiment", words[0], str(tmp_path / "table.yaml"), *words[1:]]) != 0
        assert "exp/mistyped missing; make it or name another upstream_ckpt" in capsys.readouterr().err


def test_methods_and_variants_of_a_grids_own(tmp_path):
    """What pruning, adapters and ablations need: methods of any name, at sparsities, and options as an axis."""
    cells = [
        {
            **{"lang": "en", "subset": "5min", "methods": ["router", "both"], "sparsities": [0.5, 0.7]},
            "variants": {"": {}, "no-start": {"head_first": 0.0}},
        }
    ]
    methods = {
        "router": {},
        "both": {"method": "router", "title": "masks everywhere", "mask_conf": {"targets": ["ffn"]}},
    }
    grid = grid_of(tmp_path, methods=methods, repeat=[], cells=cells)
    runs = Plan(grid, EMPTY).runs()
    assert [(r.method, r.base, r.sparsity, r.variant) for r in runs[:4]] == [
        *(("router", "router", 0.5, ""), ("router", "router", 0.7, "")),
        *(("both", "router", 0.5, ""), ("both", "router", 0.7, "")),
    ]
    assert [dict(run.options).get("head_first") for run in runs] == [None] * 4 + [0.0] * 4
    assert len({run.key for run in runs}) == 8
    assert grid.titles == {"both": "masks everywhere"}


HALVED = [
    {"lang": "en", "subset": "5min", "methods": ["a", "b", "c"], "variant": "short", "options": {"max_updates": 20}},
    {"lang": "en", "subset": "5min", "methods": ["a", "b", "c"], "best": {"methods": 2, "of": "short"}},
]


def halved(folder: Path, **changes) -> Grid:
    methods = {
        name: {"method": "frozen", "head_lr": rate} for name, rate in zip("abc", (1e-3, 2e-3, 3e-3), strict=True)
    }
    return grid_of(folder, methods=methods, repeat=[], sweep=None, cells=HALVED, **changes)


def test_only_the_best_of_a_short_budget_go_on(tmp_path):
    grid = halved(tmp_path)
    first = Plan(grid, EMPTY).runs()
    assert [(run.method, run.updates) for run in first] == [("a", 20), ("b", 20), ("c", 20)]
    assert len(Plan(grid, known_of(zip(first[:2], (0.4, 0.2), strict=True))).runs()) == 3  # one is still to come
    assert len(Plan(grid, EMPTY).everything()) == 5
    known = known_of(zip(first, (0.4, 0.2, 0.3), strict=True))
    assert [(run.method, run.updates) for run in Plan(grid, known).runs()[3:]] == [("b", 100), ("c", 100)]
    report = tmp_path / "RESULTS.md"
    write_report(grid, EMPTY, report)
    assert "The 2 best methods of “short” come here, once all of them are in." in report.read_text()
    write_report(grid, known, report)
    page = report.read_text().partition("## English, 5 minutes\n")[2]
    assert "\nNot run yet: b; c.\n" in page
    best = [run for run in Plan(grid, known).runs() if run.updates == 100]
    results = known.results | known_of([(best[0], 0.1)]).results
    write_report(grid, Known(results), report)
    page = report.read_text().partition("## English, 5 minutes\n")[2]
    assert [name for name in "abc" if f"\n| {name} " in page] == ["b"]
    assert "\nNot run yet: c.\n" in page


def test_a_failed_run_of_a_short_budget_goes_no_further(tmp_path):
    grid = halved(tmp_path)
    a, b, c = Plan(grid, EMPTY).runs()
    known = Known({run.key: result(run, 0.3) for run in (a, c)}, frozenset({b.key}))
    assert [run.method for run in Plan(grid, known).runs() if run.updates == 100] == ["a", "c"]


def test_halving_ranks_all_cells_of_the_short_budget(tmp_path):
    cells = [{**HALVED[0], "methods": "a"}, {**HALVED[0], "methods": ["b", "c"]}, HALVED[1]]
    grid = grid_of(tmp_path, methods=dict(halved(tmp_path).raw["methods"]), repeat=[], sweep=None, cells=cells)
    first = Plan(grid, EMPTY).runs()
    known = known_of(zip(first, (0.4, 0.2, 0.3), strict=True))
    assert Plan(grid, known).cells[-1].methods == ("b", "c")


def test_a_page_shows_what_there_is_of_an_open_halving(tmp_path):
    grid = halved(tmp_path)
    a, b, c = Plan(grid, EMPTY).runs()
    known = Known({run.key: result(run, 0.3) for run in (a, c)}, frozenset({b.key}))
    last = Plan(grid, known).runs()[-1]
    assert Plan.of_results(grid, known).cells[1].methods == ()
    assert Plan.of_results(grid, Known({**known.results, last.key: result(last, 0.1)})).cells[1].methods == ("c",)


def test_a_trial_shortens_every_run(tmp_path):
    cells = [{**GRID["cells"][0], "options": {"max_updates": 900}, "variant": "long"}]
    grid = grid_of(tmp_path, Overrides(max_updates=7), cells=cells)
    assert {run.updates for run in Plan(grid, EMPTY).everything()} == {7}
    assert (str(grid.runs), str(grid.report)) == ("exp/trial/runs", "exp/trial/RESULTS.md")


def test_bad_grids_are_refused_with_all_problems(tmp_path):
    cells = [{"lang": "en", "subset": "9min", "methods": ["router", "magic"], "sparsites": [0.1]}]
    with pytest.raises(ConfigError) as caught:
        grid_of(tmp_path, select="loss", cells=cells, repeet=[])
    for part in (
        "select 'loss' is none of the figures of kind asr: wer, cer, per",
        "cell 1: subset '9min'",
        "method 'magic'",
        "unknown entry sparsites",
        "router needs sparsities",
    ):
        assert part in str(caught.value)
    assert "unknown entry repeet" in str(caught.value)
    with pytest.raises(ConfigError, match="has no max_updates"):
        grid_of(tmp_path, methods={"weight": {}, "frozen": {}, "router": {}}, train={})


WEIGHT = [{"lang": "en", "subset": "5min", "methods": "weight"}]
PROGRAM = {"kind": "command", "command": "./run.sh {options}", "data": {}}
ROUTES = {"axis": "lang", "values": ["en", "fr"], "at": {"subset": "5min"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "asl"}, "kind 'asl' is none of asr, seq2seq, task, command"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"seeds": ["a"]}, "'a' is not a whole number"),
        ({"sweep": None}, "sweep is missing"),
        ({"sweep": {"lang": "en", "subset": "5min"}}, "sweep: sparsity is missing"),
        ({"sweep": {"lang": "xx", "subset": "5min", "sparsity": 1.2}}, r"lang 'xx' is not under axes.*1\.2 is not in"),
        ({"methods": {"prompts": {}}, "cells": [], "repeat": []}, "unknown method 'prompts'"),
        ({"repeat": ["weigth"]}, "repeat: 'weigth' is not under methods"),
        ({"repeat": {"weigth": None}}, "repeat: 'weigth' is not under methods"),
        ({"repeat": {"router": "10 %"}}, "repeat: sparsity 10 % is not in"),
        ({"cells": [{**GRID["cells"][0], "options": {"head_lr": 1.0}}]}, "needs a variant"),
        ({"cells": [{**GRID["cells"][0], "lang": False}]}, "put it in quotes"),
        ({"cells": [{**GRID["cells"][0], "seeds": ["x"]}]}, "cell 1: seeds: 'x' is not a whole number"),
        ({"cells": [{**GRID["cells"][0], "best": 3}]}, "best must be like .methods: 3, of: VARIANT., found 3"),
        ({"cells": [{**GRID["cells"][0], "best": {"methods": 0, "of": "x"}}]}, "methods must be at least 1, found 0"),
        ({"cells": [{**GRID["cells"][0], "best": {"methods": 2, "of": "x"}}]}, "variant 'x' has no cell at the same"),
        ({"cells": [{**GRID["cells"][0], "variants": ["a", "b"]}]}, "cell 1: variants must be a mapping"),
        ({"cells": [{**GRID["cells"][0], "variants": {"a": "x: 3"}}]}, "variants: a must be a mapping of options"),
        ({"cells": [{**GRID["cells"][0], "variant": "x", "options": ["a"]}]}, "cell 1: options must be a mapping"),
        ({"cells": [{**GRID["cells"][0], "methods": [["weight"]]}]}, "cell 1: methods must be names of methods"),
        *(({"cells": [{**GRID["cells"][0], "longer": n}]}, f"whole number .*, found {n!r}") for n in ("two", 1.5, 0)),
        *(({name: None}, f"{name} is empty") for name in ("methods", "cells", "data", "table", "seeds")),
        ({"methods": {"weight": {"method": ["router", "x"]}}}, "methods: weight: method must be text"),
        ({"methods": {"weight": {"since": date(2024, 1, 1)}}}, "weight: since: YAML makes .* put it in quotes"),
        ({"notes": date(2024, 1, 1), "upstream": 5}, "upstream must be text, found 5; notes must be text"),
        (
            {"train": {"max_updates": "many"}},
            "frozen: max_updates 'many' is no whole number above 0; .*weight: max_updates 'many'",
        ),
        ({"repeat": {"router": 0.2}}, "repeat: no cell has router at sparsity 0.2"),
        ({"repeat": {"router": [0.1, 0.2]}}, "repeat: no cell has router at sparsity 0.2"),
        ({"repeat": {"weight": 0.1}}, "repeat: no cell has weight at sparsity 0.1"),
        ({"seeds": [0, 1, 0]}, "seeds: 0 stands there twice"),
        ({"cells": [{**GRID["cells"][0], "seeds": [2, 2]}]}, "cell 1: seeds: 2 stands there twice"),
        ({"prepare": "./run.sh 'x"}, "prepare: No closing quotation"),
        ({"prepare": ["./run.sh"]}, "prepare must be a line of words"),
        ({"table": {"diffrences": []}}, "table: unknown entry diffrences"),
        ({"table": {"differences": [["router"]]}}, "is no pair of methods"),
        ({"table": {"summary": ["lora"], "average": "fold"}}, "table: 'lora' is not under methods.*average 'fold'"),
        (
            {"table": {"summary": [["weight"]], "average": []}},
            r"table: \['weight'\] is not under methods.*average \[\]",
        ),
        ({"table": {"differences": [[["router"], "weight"]]}}, r"table: \['router'\] is not under methods"),
        *(({name: None}, f"{name} is empty") for name in ("upstream", "runs", "results", "report", "notes")),
        *(({name: type(GRID[name])()}, f"{name} is empty") for name in ("methods", "cells")),
        ({"cells": [{**GRID["cells"][0], "methods": []}]}, "cell 1: methods is empty"),
        ({"cells": [{**GRID["cells"][0], "variant": ["x"]}]}, "cell 1: variant must be a name"),
        ({"repeat": [["weight"]]}, r"repeat: \['weight'\] is no name of a method"),
        ({"train": {"max_updates": 100, 5: "x"}}, "train: 5 is no name of an option"),
        ({"local": {5: "x"}}, "local: 5 is no name of an option"),
        ({"train": {"max_updates": 10.5}}, "max_updates 10.5 is no whole number"),
        (
            {"cells": [{**GRID["cells"][0], "variants": {"a": {"max_updates": "x"}}}]},
            "variant a: max_updates 'x' is no",
        ),
        (
            {"methods": {**GRID["methods"], "router": {"mask_conf": "targets=ffn"}}},
            "router: mask_conf must be a mapping",
        ),
        ({"cells": [{**GRID["cells"][0], "variants": {"a": {"mask_conf": 5}}}]}, "cell 1: mask_conf must be a mapping"),
        ({"cells": [{**GRID["cells"][0], "variants": {"a": {"max_updates": [1]}}}]}, r"a: max_updates \[1\] is no"),
        ({"union": {"lang": ["en"]}}, "union: lang must be a mapping of values to lists"),
        ({"data": {**GRID["data"], "tokenz": "k"}}, "data: unknown entry tokenz"),
        ({"axes": {**GRID["axes"], "lang": ["en", "zh/cn"]}}, "axes: lang: 'zh/cn' has a / in it"),
        ({"methods": {**GRID["methods"], "LoRA/2": {"method": "lora"}}}, "methods: 'LoRA/2' has a / in it"),
        ({"cells": [{**GRID["cells"][0], "variants": {"1/2": {}}}]}, "variant: '1/2' has a / in it"),
        ({**PROGRAM, "experiment": {"folder": 5, "tests": "t"}}, "unknown entry tests .*folder must be text, found 5"),
        ({**PROGRAM, "experiment": {"folder": "x", "test": [None]}}, "test must be text or a list of it, found .None."),
        *(({"routes": {**ROUTES, "at": at}}, "routes: at must be a mapping") for at in (True, ["5min"])),
        ({"routes": {**ROUTES, "work": None}}, "routes: work must be text, found None"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        grid_of(tmp_path, **changes)


def test_numbers_that_yaml_takes_for_text(tmp_path):
    options = {"max_updates": "1e3", "valid_interval": 50.0, "weight_lr": "1e-4", "batch_seconds": "20", "tag": "007"}
    grid = grid_of(tmp_path, train=options, methods={"weight": {}}, repeat=[], sweep=None, cells=WEIGHT)
    (run,) = {run for run in Plan(grid, EMPTY).runs() if run.seed == 0}
    words = kind_of(grid).steps(run, tmp_path)[0]
    given = dict(zip(words[1::2], words[2::2], strict=True))
    assert {name: given[f"--{name}"] for name in options} == {
        **{"max_updates": "1000", "valid_interval": "50", "weight_lr": "0.0001", "batch_seconds": "20.0", "tag": "007"}
    }


def test_a_base_that_comes_back_to_its_file(tmp_path):
    for name, base in (("a", "b"), ("b", "a"), ("c", "c")):
        (tmp_path / f"{name}.yaml").write_text(f"base: {base}.yaml\n")
    for name in "ac":
        with pytest.raises(ConfigError, match="comes back to a file that stands on it"):
            Grid.read(tmp_path / f"{name}.yaml")


def test_no_fields_of_masks_are_the_usual_ones(tmp_path):
    grid = grid_of(tmp_path, methods={**GRID["methods"], "router": {"mask_conf": None}})
    assert targets(next(run for run in Plan(grid, EMPTY, sweep=False).runs() if run.base == "router")) == ["ffn"]


def test_where_a_program_leaves_its_model_is_known_before_it_runs(tmp_path):
    raw = {name: value for name, value in {**GRID, **PROGRAM}.items() if name not in ("data", "sweep")}
    raw |= {"experiment": {"folder": "exp/{tag}"}, "methods": {"weight": {}}, "repeat": [], "cells": WEIGHT}
    (tmp_path / "g.yaml").write_text(yaml.safe_dump(raw))
    grid = Grid.read(tmp_path / "g.yaml")
    with pytest.raises(ConfigError, match=r"no value for .tag."):
        GridWork(grid).jobs()


def test_what_is_wrong_with_the_command_line_is_said(grid, capsys):
    for words, message in (
        (["--set", "notes=2024-01-01"], "--set notes=2024-01-01: YAML makes datetime.date(2024, 1, 1) of it"),
        (["--seeds", "3", "3"], "--seeds: 3 stands there twice"),
    ):
        assert main(["experiment", "status", str(grid.path), *words]) == 1
        assert message in capsys.readouterr().err


def test_one_value_needs_no_list(tmp_path):
    cells = [{"lang": "en", "subset": "5min", "methods": "router", "sparsities": 0.1, "seeds": 4}]
    assert described(Plan(grid_of(tmp_path, cells=cells), EMPTY).runs()) == [("en", "router", 0.1, 4, {})]


def test_yaml_that_is_no_grid(tmp_path, capsys):
    path = tmp_path / "g.yaml"
    for text, message in (("- x", "expected options"), ("a: {", "not YAML")):
        path.write_text(text)
        assert main(["experiment", "status", str(path)]) == 1
        assert message in capsys.readouterr().err
    assert main(["experiment", "status", str(tmp_path / "gone.yaml")]) == 1
    assert "gone.yaml: no such file" in capsys.readouterr().err


# --- pages ------------------------------------------------------------------------------------------------------------


def test_report(grid, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    report = Path("RESULTS.md")
    write_report(grid, Known.read(folder, "cer"), report)
    text = " ".join(report.read_text().split())
    assert "0 of about 17 runs are in" in text
    assert "S3-Router, 10 and 30 % removed" in text
    assert "None of them has been run yet." in text
    assert not write_plots(grid, EMPTY)
    known = EMPTY
    for _ in range(3):  # sweeps, rows, seeds
        for run in Plan(grid, known).runs():
            rate = (
                {"frozen": 0.4, "weight": 0.3, "router": 0.25}[run.method] + 0.01 * run.seed + (run.sparsity or 0) / 10
            )
            (folder / f"{run.name}.json").write_text(json.dumps(result(run, rate)))
        known = Known.read(folder, "cer")
    (folder / "notes.md").write_text("Seen: masks win.\n")
    failed = tmp_path / "exp/table/en_5min_stub_weight_seed9_01234567"
    failed.mkdir(parents=True)
    (failed / "status.json").write_text('{"state": "failed"}')
    assert main(["experiment", "plot", str(grid.path)]) == main(["experiment", "table", str(grid.path)]) == 0
    text = report.read_text()
    assert "Not run yet" not in text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert ["English, 5 minutes", "82.0", "64.0 ± 2.0", "**56.0 ± 2.0**"] in [row[:4] for row in rows]
    assert ["S3-Router, 10 % removed ← dev", "56.0 ± 2.0", "28.0 ± 1.0"] in [row[:3] for row in rows]
    assert "Seen: masks win." in text
    assert "17 of about 17 runs are in" in text
    assert "abc1234 (17)" in text
    assert "**0.0001: 30.0**" in text
    assert "runs failed" not in text  # that one is of other settings
    assert text.count("![") == 2
    (tmp_path / "elsewhere").mkdir()
    assert main(["experiment", "table", str(grid.path), "--output", "elsewhere/page.md"]) == 0
    assert "(../results/sparsity_curve.png)" in Path("elsewhere/page.md").read_text()
    assert {path.stem for path in folder.glob("*.png")} == {"sparsity_curve", "learning_curves"}
    (folder / "broken.json").write_text("{}")
    with pytest.raises(DataError, match=r"broken\.json: not a result file"):
        Known.read(folder, "cer")


def test_results_of_another_grid_are_left_alone(grid, tmp_path):
    """They may share a folder; what is no result file is named."""
    run = Plan(grid, EMPTY).runs()[0]
    mine = result(run, 0.2)
    other = {**mine, "key": "other", "dev": {"accuracy": 0.9, "loss": 1.0}}
    for name, content in (("mine", mine), ("other", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert Known.read(tmp_path, "cer").results == {run.key: mine}
    assert list(Known.read(tmp_path, "accuracy").results) == ["other"]
    for dev in ({}, {"loss": 1.0}, "cer", []):
        (tmp_path / "other.json").write_text(json.dumps({**other, "dev": dev}))
        with pytest.raises(DataError, match=r"other\.json: not a result file"):
            Known.read(tmp_path, "cer")
    (tmp_path / "mine.json").write_text(json.dumps({name: mine[name] for name in mine if name not in ("lrs", "date")}))
    with pytest.raises(DataError, match=r"mine\.json: not a result file .*without lrs, date.*; remove it"):
        Known.read(tmp_path, "cer")


def test_a_result_of_another_method_does_not_count(tmp_path):
    """A name of the grid's own may come to mean another method; runs keep their keys."""

    def of(method: str) -> Grid:
        methods = {"mine": {"method": method}}
        return grid_of(
            tmp_path, methods=methods, repeat=[], sweep=None, cells=[{**GRID["cells"][1], "methods": "mine"}]
        )

    runs = Plan(of("lora"), EMPTY).runs()
    results = {run.key: {**result(run, 0.2), "command": "s3router train --seed 0 --method lora"} for run in runs}
    known, now = Known(results), of("dora")
    assert [run.key for run in Plan(now, EMPTY).runs()] == list(results)
    assert [known.done(run) for grid in (of("lora"), now) for run in Plan(grid, known).runs()] == [True] * 2 + [
        False
    ] * 2
    write_report(now, known, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "0 of about 2 runs are in" in text
    assert f"- {runs[0].name}: its result is of lora, and the grid asks for dora: it does not count." in text


def test_failed_runs_of_this_grid_are_counted(grid, tmp_path):
    first = Plan(grid, EMPTY).runs()
    known = Known(known_of([(first[0], 0.2)]).results, frozenset({first[1].key, "deadbeef"}))
    write_report(grid, known, tmp_path / "page.md")
    assert "- 1 runs failed;" in (tmp_path / "page.md").read_text()


def test_the_edge_of_a_sweep_of_all_combinations(tmp_path):
    grid = grid_of(tmp_path, sweep={**GRID["sweep"], "search": "all"})
    (sweep,) = Plan(grid, EMPTY).sweeps("weight", grid.cells[0])
    known = known_of((run, 0.1 + (rates(run) != {"weight_lr": 5e-4, "head_lr": 2e-3}) / 10) for run in sweep.runs)
    write_report(grid, known, tmp_path / "page.md")
    assert "(the best lies at the edge of head)" in (tmp_path / "page.md").read_text()


def test_curves_begin_where_nothing_is_removed(tmp_path):
    pruning = {"units": {"method": "router_p", "mask_conf": {"granularity": "group"}}, "omp": {}}
    grid = grid_of(tmp_path, methods={**GRID["methods"], "lora": {}, **pruning}, repeat=[])
    starts = {name: start_of(grid, name) for name in ("router", "units", "omp")}
    assert starts == {"router": "frozen", "units": "weight", "omp": "weight"}


def test_cells_of_one_place_make_one_table(tmp_path):
    methods = {"weight": {}, "router": {}}
    cells = [
        {"lang": "en", "subset": "5min", "methods": ["router"], "sparsities": [0.3]},
        {"lang": "en", "subset": "5min", "methods": ["router", "weight"], "sparsities": [0.1]},
    ]
    grid = grid_of(tmp_path, methods=methods, repeat={"router": 0.1}, sweep=None, cells=cells)
    first = [run for run in Plan(grid, EMPTY).runs() if run.seed == 0]
    results = {run.key: result(run, 0.2 + k / 10) for k, run in enumerate(first)}
    write_report(grid, Known(results), tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.count("## English, 5 minutes") == 1
    assert [row[0] for row in figures(text) if row[0].startswith(("S3-Router,", "weight f"))] == [
        "weight finetuning",
        "S3-Router, 10 % removed",
        "S3-Router, 30 % removed",
    ]


def test_dev_picks_of_all_cells_of_a_place(tmp_path):
    place = {"lang": "en", "subset": "5min"}
    cells = [
        {**place, "methods": ["router"], "sparsities": [0.3]},
        {**place, "lang": "fr", "methods": ["router"], "sparsities": [0.2]},
        {**place, "methods": ["router", "weight"], "sparsities": [0.1]},
    ]
    table = {"average": "lang", "against": "router"}
    grid = grid_of(tmp_path, methods={"weight": {}, "router": {}}, repeat=[], sweep=None, cells=cells, table=table)
    figures_of = {0.3: 0.4, 0.2: 0.3, 0.1: 0.2, None: 0.25}
    known = known_of((run, figures_of[run.sparsity]) for run in Plan(grid, EMPTY).runs())
    write_report(grid, known, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.count("## English, 5 minutes") == 1
    rows = figures(text)
    assert [row[-1] for row in rows if row[0] == "English, 5 minutes" and len(row) == 6] == ["0.10"]
    assert [row[0] for row in rows if row[0].endswith("← dev")] == [
        "S3-Router, 10 % removed ← dev",
        "S3-Router, 20 % removed ← dev",
    ]
    # what others are held against
    assert next(row for row in rows if row[0] == "S3-Router, 10 % removed ← dev")[5] == ""
    plan = Plan.of_results(grid, known)
    assert [(row.sparsity, row.seeds) for row in _rows(plan, list(plan.cells), "router")] == [(0.1, 1), (0.2, 1)]


def test_curves_take_the_sparsities_of_all_cells_of_their_place(tmp_path):
    methods = {"weight": {}, "router": {}, "omp": {}, "imp": {}, "parp": {}}
    place = {"lang": "en", "subset": "5min"}
    cells = [
        {**place, "methods": ["router", "omp"], "sparsities": [0.1, 0.3, 0.5]},
        {**place, "methods": ["omp"], "sparsities": [0.7]},
        {**place, "methods": ["imp"], "sparsities": [0.3, 0.7]},
        {**place, "methods": ["parp"], "sparsities": [0.7]},  # one alone makes no curve
        {**place, "lang": "fr", "methods": ["omp"], "sparsities": [0.9]},
    ]
    grid = grid_of(tmp_path, methods=methods, repeat=[], sweep=None, cells=cells)
    results = {run.key: result(run, 0.2) for run in Plan(grid, EMPTY).runs()}
    plan = Plan.of_results(grid, Known(results))
    rows, sparse, best = _with_the_rest(plan, plan.cells[0], {"router": 0.1, "omp": 0.1})
    found = {method: sorted(row.sparsity for row in rows if row.method == method) for method in best}
    assert found == {"router": [0.1, 0.3, 0.5], "omp": [0.1, 0.3, 0.5, 0.7], "imp": [0.3, 0.7]}
    assert best["imp"] == 0.3
    assert {"router", "omp", "imp"} <= sparse


def test_a_figure_that_is_no_number_never_wins(grid):
    runs = [run for run in Plan(grid, EMPTY, sweep=False).runs() if dict(run.at)["lang"] == "en" and run.sparsity]
    for figures in ((float("nan"), 0.3), (0.3, float("nan"))):
        known = Known({run.key: result(run, 0.2) for run in runs})
        for run, figure in zip(runs, figures, strict=True):
            known.results[run.key]["dev"]["cer"] = figure
        best = Plan(grid, known, sweep=False).best_sparsity(grid.cells[0], "router")
        assert best == runs[figures.index(0.3)].sparsity


def test_figures_of_results_that_lack_a_test_set(grid, tmp_path):
    """It was named in the grid after these runs were made."""
    runs = Plan(grid, EMPTY, sweep=False).runs()
    known = Known({run.key: result(run, 0.2) for run in runs})
    assert [path.stem for path in write_plots(grid, known)] == ["sparsity_curve", "learning_curves"]
    del next(known.results[run.key] for run in runs if run.sparsity == 0.1)["test"]["wer"]
    assert [path.stem for path in write_plots(grid, known)] == ["sparsity_curve", "learning_curves"]
    for content in known.results.values():
        del content["test"]
    assert [path.stem for path in write_plots(grid, known)] == ["learning_curves"]


def test_there_is_nothing_to_draw(grid, tmp_path, capsys):
    assert main(["experiment", "plot", str(grid.path)]) == 1
    assert "results: no result files here" in capsys.readouterr().err
    run = Plan(grid, EMPTY, sweep=False).runs()[0]
    (tmp_path / "results").mkdir()
    (tmp_path / "results/a.json").write_text(json.dumps({**result(run, 0.2), "curve": []}))
    assert main(["experiment", "plot", str(grid.path)]) == 0
    assert "nothing to draw yet" in capsys.readouterr().out


def test_test_sets_of_several_values_of_an_axis(tmp_path):
    """A path for each language: other sizes in another language are no change of the set."""
    data = {**GRID["data"], "test": {"en": "en/t", "fr": "fr/t", "it": "it/t"}}
    grid = grid_of(tmp_path, data=data, methods={"router": {}}, repeat=[], sweep=None, cells=[GRID["cells"][1]])
    known = known_of((run, 0.1) for run in Plan(grid, EMPTY).runs())
    for number, content in enumerate(known.results.values(), 4):
        content["test"]["n_utts"] = number
    write_report(grid, known, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "has changed" not in text
    assert "Test: 5 sentences, 40 words." in text


def figures(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


@pytest.mark.parametrize("name", ["table", "multilingual"])
def test_the_pages_in_git_come_out_of_the_stored_results(tmp_path, name):
    committed = {"table": "RESULTS.md", "multilingual": "RESULTS_multilingual.md"}[name]
    for folder in ("conf", "results"):
        shutil.copytree(RECIPE / folder, tmp_path / "recipe" / folder)
    assert main(["experiment", "table", str(tmp_path / f"recipe/conf/{name}.yaml")]) == 0
    assert (tmp_path / "recipe" / committed).read_text() == (RECIPE / committed).read_text()
    assert len(figures((RECIPE / committed).read_text())) > 30


def test_the_recipes_own_grid(tmp_path):
    """It holds what the table must show, every option in it is one of training, and every run of it has been made."""
    grid = Grid.read(RECIPE / "conf/table.yaml")
    cells = {tuple(value for _, value in cell.at): cell for cell in grid.cells if not cell.variant}
    assert set(cells) >= {("en", "5min"), ("en", "2min"), ("en", "all")} | {
        (k, "5min") for k in ("es", "fr", "it", "ru")
    }
    assert set(cells["en", "5min"].sparsities) >= {0.02, 0.06, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert set(cells["en", "5min"].methods) == {"scratch", "frozen", "weight", "router"}
    assert all({"frozen", "weight", "router"} <= set(c.methods) and len(c.sparsities) >= 3 for c in cells.values())
    known = Known.read(RECIPE / "results", "cer")
    everything = Plan(grid, known).everything()
    assert len(everything) == 101
    assert all(known.done(run) for run in everything)
    import argparse

    from s3router.asr import options

    parser = argparse.ArgumentParser()
    options.add_arguments(parser, argparse.Action)
    ours = {action.dest for action in parser._actions}
    for run in everything:
        assert {name for name, _ in run.options} <= ours, run.name


# --- commands ---------------------------------------------------------------------------------------------------------


def test_training_command(grid, tmp_path):
    options = {"max_updates": 7, "head_lr": 0.001, "mask_conf": {"targets": ["ffn", "attention"]}}
    run = grid.run(grid.cells[0], "router", 0.3, 2, options)
    train, dev, _ = kind_of(grid).steps(run, tmp_path)
    given = dict(zip(train[1::2], train[2::2], strict=True))
    assert train[0] == "train"
    assert given["--train_dir"] == "dump/en/train_5min"
    assert (given["--sparsity"], given["--seed"], given["--max_updates"]) == ("0.3", "2", "7")
    assert json.loads(given["--mask_conf"]) == {"targets": ["ffn", "attention"]}
    assert dev[:3] == ["decode", "--exp-dir", str(tmp_path)]
    assert targets(run) == ["ffn", "attention"]
    train, *_ = kind_of(grid).steps(grid.run(grid.cells[0], "weight", None, 0, options), tmp_path)
    assert "--sparsity" not in train
    assert "--mask_conf" not in train


@pytest.mark.parametrize("kind", ["task", "seq2seq"])
def test_shared_fields_of_masks_are_for_methods_with_masks(tmp_path, kind):
    grid = grid_of(
        tmp_path,
        **{"kind": kind} | ({"task": "cls", "select": "accuracy"} if kind == "task" else {"language": "{lang}"}),
        train={"max_updates": 7, "mask_conf": {"targets": ["ffn"]}},
        sweep=None,
        methods={"frozen": {}, "weight": {}, "router": {}},
    )
    given = {run.base: kind_of(grid).steps(run, tmp_path)[0] for run in Plan(grid, EMPTY).runs()}
    masked = {method for method, words in given.items() if {"--mask_conf", "--mask-conf"} & set(words)}
    assert masked == {"router"}


def test_commit_is_named():
    assert commit(RECIPE).rstrip("+").isalnum()
