"""Many masks on one backbone: which runs a grid's routes are, joint data, the page, and run_multilingual.sh."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from s3router.cli import main
from s3router.data.kaldi import DataDir
from s3router.data.tokens import read_token_list
from s3router.errors import ConfigError, DataError
from s3router.experiments import reading, routes_measure
from s3router.experiments.grid import Grid, Overrides
from s3router.experiments.grid_launch import Resources, launch
from s3router.experiments.grid_work import Choice
from s3router.experiments.planning import Plan
from s3router.experiments.results import Known
from s3router.experiments.routes import chosen, link_models
from s3router.experiments.routes_grid import Routes
from s3router.experiments.routes_page import Page
from s3router.packs import MaskPack, PackMeta, write_pack
from s3router.packs.fingerprint import weights_hash

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs/asterisk/asr1"
TABLE = {
    "kind": "asr",
    "upstream": "stub",
    "select": "cer",
    "seeds": [0, 1],
    "repeat": ["weight", "router"],
    "axes": {
        "lang": {"en": "English", "es": "Spanish", "fr": "French", "it": "Italian"},
        "subset": {"5min": "5 minutes"},
    },
    "data": {
        "train": {"5min": "dump/{lang}/train_5min"},
        **{"dev": "dump/{lang}/dev", "test": "dump/{lang}/test", "tokens": "data/{lang}/token_list/char/tokens.txt"},
    },
    "train": {"max_updates": 100, "valid_interval": 10},
    "methods": {"frozen": {"head_lr": 0.1}, "weight": {"weight_lr": [1e-3, 2e-3]}, "router": {"score_lr": 0.01}},
    "sweep": {"lang": "en", "subset": "5min", "sparsity": 0.1},
    "cells": [
        {"lang": "en", "subset": "5min", "methods": ["weight", "router"], "sparsities": [0.1, 0.3]},
        {"lang": ["es", "fr"], "subset": "5min", "methods": ["router"], "sparsities": [0.2]},
    ],
    "results": "results",
    "runs": "exp/table",
}
LANGS = ["en", "es"]
EMPTY = Known({})


@pytest.fixture(autouse=True)
def recipe_folder(monkeypatch, tmp_path):
    """An empty recipe folder with the table's grid."""
    monkeypatch.chdir(tmp_path)
    Path("table.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))


def routes_grid(overrides: Overrides | None = None, **changed) -> Grid:
    routes = {"axis": "lang", "values": LANGS, "at": {"subset": "5min"}, "joint": ["weight", "frozen"], "work": "work"}
    more = {name: changed.pop(name) for name in ("upstream", "upstream_ckpt", "methods") if name in changed}
    content = {"base": "table.yaml", **more, "report": "page.md", "routes": {**routes, **changed}}
    Path("routes.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return Grid.read(Path("routes.yaml"), overrides or Overrides())


def lang(run) -> str:
    return dict(run.at)["lang"]


def result(run, dev: float, utts: dict[str, list[int]] | None = None) -> dict:
    lrs = {name: value for name, value in run.options if name.endswith("lr")}
    return {
        **{"name": run.name, "key": run.key, **dict(run.at), "method": run.method, "sparsity": run.sparsity},
        **{"dev": {"cer": dev, "wer": 2 * dev}, "test": {"cer": dev, "wer": dev, "utts": utts or {}}},
        **{"lrs": lrs, "updates": run.updates, "best_update": 50, "seconds": 3600.0, "seed": run.seed},
        **{"commit": "abc1234", "date": "2030-01-02", "versions": {"torch": "2"}},
    }


def finish(run, dev: float, model: bool = True, utts: dict | None = None, grid: Grid | None = None) -> None:
    """A result file, and what training leaves on the machine."""
    runs, results = (grid.runs, grid.results) if grid else (Path("exp/table"), Path("results"))
    results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result(run, dev, utts))
    (results / f"{run.name}.json").write_text(text)
    if model:
        folder = runs / run.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(text)
        (folder / "valid.cer_ctc.best.pth").write_bytes(b"x" * 1000)


def known() -> Known:
    return Known.read(Path("results"), "cer")


# --- what is planned --------------------------------------------------------------------------------------------------


def test_the_single_models_are_runs_of_the_table():
    keys = {run.key for run in Plan(Grid.read(Path("table.yaml")), EMPTY).everything()}
    runs = [run for run in Plan(routes_grid(joint=[]), EMPTY).everything() if run.seed == 0]
    assert {(lang(r), r.method, r.sparsity) for r in runs} == {
        *((each, "weight", None) for each in LANGS),
        *(("en", "router", 0.1), ("en", "router", 0.3), ("es", "router", 0.2)),
    }
    assert [r.key for r in runs if r.key not in keys] == [
        r.key for r in runs if (lang(r), r.method) == ("es", "weight")
    ]


def test_single_models_may_be_left_out():
    runs = Plan(routes_grid(single=["router"], joint=["frozen"]), EMPTY).everything()
    assert {(lang(run), run.method) for run in runs} == {("en", "router"), ("es", "router"), ("en-es", "frozen")}
    methods = {**TABLE["methods"], "router_p": {"weight_lr": 1e-3, "score_lr": 1e-3}}
    runs = Plan(routes_grid(single=[], sparsities=[0.5], joint=["router_p"], methods=methods), EMPTY).everything()
    assert [(run.method, run.sparsity) for run in runs] == [("router_p", 0.5)]
    runs = Plan(routes_grid(single=[], joint=["frozen"]), EMPTY).everything()
    assert {(lang(run), run.method) for run in runs} == {("en-es", "frozen")}
    with pytest.raises(ConfigError, match="single: 'lora' is none of weight, router"):
        routes_grid(single=["lora"])


def test_the_name_of_many_values_together_is_a_folders():
    values = [f"language{number}" for number in range(50)]
    section = {"axis": "lang", "values": values, "at": {"subset": "5min"}}
    raw = {"axes": {"lang": values, "subset": ["5min"]}, "routes": section}
    name = Routes.of(raw).joint_value
    assert name.startswith("language0-and-49-more-")
    assert len(name) < 40
    assert Routes.of({**raw, "routes": {**section, "values": values[:-1]}}).joint_value != name
    assert Routes.of({**raw, "routes": {**section, "values": values[:2]}}).joint_value == "language0-language1"


def test_learning_rates_that_the_table_has_decided_are_used_for_every_seed():
    for run in Plan(Grid.read(Path("table.yaml")), EMPTY).sweeps("weight", routes_grid().cells[0])[0].runs:
        finish(run, dev=0.5 if dict(run.options)["weight_lr"] == 1e-3 else 0.4, model=False)
    grid = routes_grid(seed=7)
    rows = [Plan(grid, known()).row(cell, "weight", None) for cell in grid.cells[:2]]
    assert [(run.seed, dict(run.options)["weight_lr"]) for (run,) in rows] == [(7, 2e-3)] * 2
    grid = routes_grid(Overrides(max_updates=3))  # a trial on a reduced budget has results of its own
    assert (grid.runs, grid.results) == (Path("exp/trial/runs"), Path("exp/trial/results"))
    single = [run for run in Plan(grid, EMPTY).runs() if lang(run) in LANGS]
    assert {run.updates for run in single} == {3}


def test_sparsities_and_upstream_given(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    grid = routes_grid(values=["it"], sparsities=[0.4], joint=[], upstream="other", upstream_ckpt="model.pt")
    assert (grid.upstream, grid.upstream_ckpt) == ("other", "model.pt")
    assert grid.upstream_id
    assert grid.cells[0].sparsities == (0.4,)
    with pytest.raises(ConfigError, match=r"no cell for it at 5min.*name some under routes: sparsities"):
        routes_grid(values=["en", "it"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"axis": "language"}, "axis 'language' is not under axes"),
        ({"values": ["en", "en"]}, "values must be a list of different ones"),
        ({"at": {}}, "at: subset is missing"),
        ({"joint": ["router"], "seed": "x"}, r"joint: 'router' is none of.*seed 'x' is not a whole number"),
        ({"joint_updates": "some"}, "'some' is none of all, one"),
        ({"sparsities": [0.1, "ten"]}, "routes: sparsities: 'ten' is no number from 0 up to 1"),
        ({"sparsities": 1.5}, "routes: sparsities: 1.5 is no number"),
        ({"langs": []}, "unknown entry langs"),
        ({"values": ["xx"], "sparsities": [0.1]}, "lang xx not under axes"),
        ({"values": ["en"]}, "joint models need several values"),
    ],
)
def test_routes_that_cannot_be(changed, message):
    with pytest.raises(ConfigError, match=message):
        routes_grid(**changed)


def test_dev_picks_and_what_is_missing_is_named():
    grid = routes_grid(sparsities=[0.1, 0.3], joint=[])
    runs = Plan(grid, EMPTY, sweep=False).runs()
    for run in runs[:-1]:
        finish(run, dev={"en": run.sparsity or 0.9, "es": 1 - (run.sparsity or 0)}[lang(run)])
    with pytest.raises(DataError, match=f"not finished: {re.escape(runs[-1].name)}; run"):
        list(chosen(grid, known(), sweep=False))
    finish(runs[-1], dev=0.2)
    found = dict(chosen(grid, known(), sweep=False))
    assert list(found) == ["en_weight", "en_router", "es_weight", "es_router"]
    assert (found["en_router"].sparsity, found["es_router"].sparsity) == (0.1, 0.3)
    folder = Path("work/models")
    link_models(grid, found, folder)
    assert (folder / "es_router").resolve() == (grid.runs / found["es_router"].name).resolve()
    (grid.runs / found["en_weight"].name / "valid.cer_ctc.best.pth").unlink()
    with pytest.raises(DataError, match="no model in exp/table/en_5min_stub_weight"):
        link_models(grid, found, folder)


@pytest.mark.parametrize(("updates", "expected", "variant"), [("all", (200, 20), "x2"), ("one", (100, 10), "")])
def test_joint_models(updates, expected, variant):
    grid = routes_grid(joint_updates=updates)
    joint = [run for run in Plan(grid, EMPTY, sweep=False).runs() if lang(run) == "en-es"]
    assert [run.method for run in joint] == ["weight", "frozen"]
    run = joint[0]
    assert (run.variant, dict(run.options)["weight_lr"]) == (variant, 1e-3)
    assert (run.updates, dict(run.options)["valid_interval"]) == expected


def fake(argv: list[str]) -> int:
    """Stands in for training and decoding: writes what is read of them, but for the trainer's checkpoint."""
    given = dict(zip(argv[1::2], argv[2::2], strict=True))
    folder = Path(given.get("--output_dir") or given["--output-dir"])
    folder.mkdir(parents=True, exist_ok=True)
    with Path("calls").open("a") as calls:
        calls.write(f"{argv[0]} {folder.name}\n")
    if argv[0] == "train":
        from datetime import timedelta

        config = {name[2:]: yaml.safe_load(value) for name, value in given.items()}
        config |= {"head_lr": 0.1, "score_lr": 0.1, "upstream_ckpt": None, "frontend_conf": {}, "token_list": []}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        phases = {"train": {"loss": 1.0, "time": timedelta(1)}}
        phases["valid"] = {"loss": 1.0, "cer_ctc": 0.5, "wer_ctc": 0.5, "time": timedelta(1)}
        torch.save({"reporter": {"stats": {1: phases}}}, folder / "checkpoint.pth")
        (folder / "valid.cer_ctc.best.pth").touch()
        return 0
    write_decoded(folder, {"a": [2, 1, 4, 2]}, {"a": "x"})
    (folder / "result.json").write_text(json.dumps({"wer": 0.5, "cer": 0.5, "n_utts": 1}))
    return 0


def test_the_runs_of_routes_end_with_links_to_models_and_lacking_models_are_made_again(monkeypatch):
    monkeypatch.setattr(reading, "pack_bytes", lambda exp: None)  # there are no models to pack
    grid = routes_grid(joint=[], sparsities=[0.1])
    for each in LANGS:
        for name in ("train_5min", "dev", "test"):
            write_data(each, name, {f"{each}-1": "a"})
    assert launch(grid, Choice(sweep=False), Resources(2), fake) == 0
    assert sorted(path.name for path in Path("work/models").iterdir()) == [
        *("en_router", "en_weight", "es_router", "es_weight")
    ]
    assert Path("calls").read_text().count("train ") == 4
    shutil.rmtree(Path("work/models/es_router").resolve())
    assert launch(grid, Choice(sweep=False), Resources(2), fake) == 0
    assert Path("calls").read_text().count("train ") == 5
    assert Path("work/models/es_router/valid.cer_ctc.best.pth").exists()


# --- data together ----------------------------------------------------------------------------------------------------


def write_data(lang: str, name: str, texts: dict[str, str]) -> None:
    folder = Path("dump", lang, name)
    folder.mkdir(parents=True, exist_ok=True)
    wave = Path("a.wav").resolve()
    wave.touch()
    (folder / "wav.scp").write_text("".join(f"{utt} {wave}\n" for utt in sorted(texts)))
    (folder / "text").write_text("".join(f"{utt} {text}\n" for utt, text in sorted(texts.items())))
    (folder / "utt2dur").write_text("".join(f"{utt} 1.5\n" for utt in sorted(texts)))
    tokens = Path(f"data/{lang}/token_list/char/tokens.txt")
    tokens.parent.mkdir(parents=True, exist_ok=True)
    characters = sorted({c for text in texts.values() for c in text if c != " "})
    tokens.write_text("\n".join(["<blank>", "<unk>", "<space>", *characters, "<sos/eos>"]) + "\n")


def test_union_of_data_and_tokens(capsys):
    grid = routes_grid(values=["es", "en"])
    for name in ("train_5min", "dev", "test"):
        write_data("en", name, {"en-1": "a b", "en-2": "c"})
        write_data("es", name, {"es-1": "ñ a"})
    command = ["experiment", "union", str(grid.path), "lang=es-en", "subset=5min"]
    assert main(command) == 0
    assert "dump/es-en/test: 3 utterances, 0.07 min" in capsys.readouterr().out
    data = DataDir.read("dump/es-en/test")
    assert [(utt.utt, utt.text, utt.duration) for utt in data.utts] == [
        *(("en-1", "a b", 1.5), ("en-2", "c", 1.5), ("es-1", "ñ a", 1.5))
    ]
    tokens = read_token_list("data/es-en/token_list/char/tokens.txt")
    assert tokens == ["<blank>", "<unk>", "<space>", "a", "ñ", "b", "c", "<sos/eos>"]
    write_data("es", "test", {"en-1": "ñ"})
    assert main(command) == 1
    assert "ids must be unique" in capsys.readouterr().err
    assert main(["experiment", "union", str(grid.path), "lang=es", "subset=5min"]) == 1
    assert "union has nothing for lang=es" in capsys.readouterr().err


# --- the page ---------------------------------------------------------------------------------------------------------

COUNTS = {  # words, wrong, characters, wrong
    "weight": {"en": {"en-1": [4, 2, 20, 4], "en-2": [4, 0, 20, 0]}, "es": {"es-1": [2, 2, 10, 10]}},
    "router": {"en": {"en-1": [4, 1, 20, 1], "en-2": [4, 0, 20, 0]}, "es": {"es-1": [2, 1, 10, 5]}},
    "joint": {"en": {"en-1": [4, 4, 20, 8], "en-2": [4, 4, 20, 8]}, "es": {"es-1": [2, 2, 10, 10]}},
}


def write_decoded(folder: Path, counts: dict[str, list[int]], texts: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{utt}\t1.0\t50\t{w}\t{e}\t{c}\t{b}" for utt, (w, e, c, b) in counts.items()]
    header = "utt\tseconds\tframes\twords\tword_errors\tchars\tchar_errors"
    (folder / "utterances.tsv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "text").write_text("".join(f"{utt} {text}".rstrip() + "\n" for utt, text in texts.items()))


def write_packs(lang: str, sparsity: float) -> None:
    backbone = nn.ModuleDict({"fc1": nn.Linear(40, 50)})
    mask = torch.rand(50, 40, generator=torch.Generator().manual_seed(0)) >= sparsity
    meta = PackMeta(
        *("stub", weights_hash(backbone)),
        mask={"sparsity": sparsity},
        preprocessing={"sample_rate": 16000, "features": "last", "token_type": "char"},
        metrics={"dev": {"wer": 0.25}, "test": {"wer": 0.5}},
        training={"score_lr": 0.02},
    )
    head = {"weight": torch.zeros(3, 40), "bias": torch.zeros(3)}
    pack = MaskPack(lang, {"fc1.weight": mask}, {}, {}, head, ("<blank>", "<unk>", "<sos/eos>"), meta)
    for codec, folder in (("bits", "packs"), ("coded", "packs_coded")):
        Path("work", folder).mkdir(parents=True, exist_ok=True)
        write_pack(f"work/{folder}/{lang}.pack", pack, codec, backbone)


@pytest.fixture
def work() -> Path:
    """What all stages leave, made by hand; the grid is routes.yaml."""
    folder = Path("work")
    grid = routes_grid(sparsities=[0.1, 0.3], joint=["weight"])
    for run in Plan(grid, EMPTY, sweep=False).runs():
        if lang(run) in LANGS:
            finish(run, run.sparsity or 0.5, utts=COUNTS[run.method][lang(run)])
        else:
            finish(run, 0.6, utts={utt: row for counts in COUNTS["joint"].values() for utt, row in counts.items()})
    runs = dict(chosen(grid, known(), sweep=False))
    link_models(grid, runs, folder / "models")
    for each in LANGS:
        utts = COUNTS["weight"][each]
        texts = dict.fromkeys(utts, "hello")
        write_decoded(folder / f"models/{each}_router/decode_test", COUNTS["router"][each], texts)
        write_decoded(
            folder / f"routed/decode_{each}", COUNTS["router"][each], texts | {"en-2": ""} if each == "en" else texts
        )
        write_packs(each, 0.1)
    counts = {"en": {"en": 1, "es": 1}, "es": {"en": 0, "es": 1}}
    langid = {"accuracy": {"compared with usual": 2 / 3, "as they are": 1 / 3}, "transformer_passes": 2}
    langid |= {"counts": {"compared with usual": counts}, "audio_seconds": 3.0, "seconds": 4.0}
    (folder / "langid.json").write_text(json.dumps(langid))
    return folder


@pytest.fixture
def memory(monkeypatch) -> None:
    """Memory is not measured: its models are not here."""
    found = {
        name: {"mb": mb, "process_mb": 400 + mb, "parameters": p, "runs": [1]}
        for name, mb, p in (("models", 200, 2_000_000), ("routes", 120, 1_000_000), ("joint", 100, 1_100_000))
    }
    monkeypatch.setattr(routes_measure, "measure_all", lambda *_: found)


def test_page(work, memory):
    assert main(["experiment", "measure", "routes.yaml"]) == 0
    assert Path("results/routes/measured.json").stat().st_size < 10_000
    shutil.rmtree("work")  # the page needs no models any more
    assert main(["experiment", "table", "routes.yaml"]) == 0
    text = Path("page.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    wer, cer = ([row for row in rows if row[0] in ("English", "Spanish", "mean")][at : at + 3] for at in (0, 3))
    assert wer == [
        ["English", "25.0", "12.5", "100.0", "0.10"],
        ["Spanish", "100.0", "50.0", "100.0", "0.10"],
        ["mean", "62.5", "31.2", "100.0", ""],
    ]
    assert [row[1:4] for row in cer] == [["10.0", "2.5", "40.0"], ["100.0", "50.0", "100.0"], ["55.0", "26.2", "70.0"]]
    plain = " ".join(text.split())
    assert "Of 3 transcripts by the router, **1** differ" in plain
    assert "(en 1 of 2, es 0 of 1)" in plain
    assert ["weight finetuning", "-20.0"] in [[row[0], row[1].split()[0]] for row in rows]
    assert "200 updates (weight finetuning): as many as the single models of the method together" in plain
    assert ["2 finetuned models", "2.00", "0.00", "–", "200", "600"] in rows
    assert ["one backbone, 2 packs (bits)", "1.00"] in [row[:2] for row in rows]
    assert "−50.0 % of the parameters" in plain
    assert "−40.0 % of the resident memory" in plain
    assert "Of one model alone (the joint one) 4 MB are its weights; the other 96 MB" in plain
    assert ["English", "0.02"] in [[row[0], row[2]] for row in rows if len(row) == 9]
    assert ["English", "1", "1", "50.0"] in rows
    assert "**66.7 %** of 3 test utterances" in plain
    assert "50 % by chance" in plain
    assert "**Learning rates of weight finetuning were not swept**" in plain
    assert "Sparsities that dev could pick: en 0.10, 0.30; es 0.10, 0.30" in plain
    assert max(len(line) for line in text.splitlines() if line[:1] not in "|-") <= 118


def test_page_of_unfinished_or_strange_stages(work, memory, capsys):
    table, measure = (["experiment", verb, "routes.yaml"] for verb in ("table", "measure"))
    (work / "langid.json").rename("kept")
    assert main(measure) == 1
    assert "langid.json is missing; run s3router experiment run --stage 5" in capsys.readouterr().err
    assert main(table) == 0
    assert "Not measured yet" in Path("page.md").read_text()
    Path("kept").rename(work / "langid.json")
    assert main(measure) == 0
    routes_grid(sparsities=[0.1], joint=["weight"])
    assert main(table) == 1
    assert "results/routes/measured.json is of other sparsities" in capsys.readouterr().err
    Path("results/routes/measured.json").unlink()
    path = next(Path("results").glob("en-es_*_weight_x2_*.json"))
    path.write_text(path.read_text().replace("es-1", "es-9"))
    assert main(table) == 1
    assert "is not made of those of en es" in capsys.readouterr().err


def test_joint_models_alone_have_no_page():
    grid = routes_grid(single=[], joint=["frozen"], command="./run_joint.sh")
    with pytest.raises(ConfigError, match=r"weight, router; the joint models' own page is written by ./run_joint\.sh"):
        Page(grid, EMPTY)


def test_the_settings_of_a_measurement_are_those_of_its_routes():
    grid = routes_grid()
    assert routes_measure.settings_of(grid, Routes.of(grid.raw))["routes"] == LANGS


# --- the command line -------------------------------------------------------------------------------------------------

PYTHON = """#!/usr/bin/env bash
echo "python $*" >>calls
output=
for word in "$@"; do
    case ${before-} in -o | --output | --output-dir) output=${word} ;; esac
    before=${word}
done
work=$(sed -n 's/.*work: \\([^,]*\\),.*/\\1/p' <<<"$*")
case "$*" in
    *" experiment run "*) [ ! -e fail ] || exit 1
        for name in en_weight en_router es_weight es_router joint_weight; do
            mkdir -p "${work}/models/${name}"
            best=${work}/models/${name}/valid.cer_ctc.best.pth
            [ -e "${best}" ] || echo >"${best}"
        done ;;
    *" experiment measure "*) mkdir -p "${work}" && echo made >"${work}/measured.json" ;;
    *" --score "*) for lang in en es; do
        mkdir -p "${output}/decode_${lang}"
        echo x >"${output}/decode_${lang}/result.json"
    done ;;
    *) [ -z "${output}" ] || { mkdir -p "$(dirname "${output}")" && echo made >"${output}"; } ;;
esac
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The script in a folder of its own, with stand-ins for Python and set-up."""
    folder = tmp_path / "egs/asterisk/asr1"
    folder.mkdir(parents=True)
    (tmp_path / "utils").symlink_to(ROOT / "utils")
    for name in ("run_multilingual.sh", "path.sh"):
        shutil.copy(RECIPE / name, folder)
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    for name, text in {"tools/setup.sh": "#!/bin/sh\n", "venv/bin/python": PYTHON}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for each in ("en", "es"):
        for part in ("dev", "test"):
            (folder / f"dump/{each}/{part}").mkdir(parents=True)
    return folder


def run(recipe: Path, *options: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    environment = {**os.environ, "S3ROUTER_VENV": str(recipe.parents[2] / "venv")}
    command = ["bash", str(recipe / "run_multilingual.sh"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    calls = recipe / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return done, lines


def test_stages_in_order_and_what_is_finished_is_skipped(recipe: Path):
    options = ("--langs", "en es", "--sparsity", "0.3 0.2", "--max-updates", "4")
    done, calls = run(recipe, *options)
    assert done.returncode == 0, done.stderr
    work = "exp/trial/multilingual/en-es_5min_s0.3-0.2_seed0_4"
    assert calls[0].startswith("python -m s3router experiment run conf/multilingual.yaml --set routes={axis: lang, ")
    assert "values: [en, es], at: {subset: 5min}, sparsities: [0.3, 0.2], seed: 0, joint: [weight, frozen]" in calls[0]
    assert "--max-updates 4 --jobs 2" in calls[0]
    assert yaml.safe_load(re.search(r"routes=({.*}) --max", calls[0])[1])["command"] == (
        "./run_multilingual.sh --langs 'en es' --subset 5min --sparsity '0.3 0.2' --seed 0 --joint 'weight frozen' "
        "--joint-updates all --max-updates 4"
    )
    packs = f"{work}/packs/en.pack {work}/packs/es.pack"
    kinds = [" ".join(line.split()[3:5]) for line in calls]
    assert [kind.split()[0] for kind in kinds] == [
        *("experiment", "pack", "pack", "pack", "pack", "langid", "inspect", "transcribe", "langid"),
        *("experiment", "experiment"),
    ]
    assert f"langid --routes {packs} --dev en=dump/en/dev es=dump/es/dev --store" in "\n".join(calls)
    assert (
        f"transcribe --routes {packs} --score en=dump/en/test es=dump/es/test --output-dir {work}/routed"
        in "\n".join(calls)
    )
    assert calls[-1].endswith(f"--output {work}/RESULTS.md")
    done, calls = run(recipe, *options)
    assert done.returncode == 0, done.stderr
    assert not [line for line in calls if "s3router pack" in line or "langid" in line or "experiment measure" in line]


def test_upstream_and_first_learning_rates_are_passed_on(recipe: Path):
    options = ("--upstream", "other", "--sweep", "false", "--joint", "", "--langs", "en es", "--stop-stage", "1")
    done, (call,) = run(recipe, *options)
    assert done.returncode == 0, done.stderr
    assert "--set upstream=other --set upstream_ckpt=null --jobs 2 --no-sweep" in call
    assert "sparsities: [], seed: 0, joint: []" in call


def test_failing_runs_end_it(recipe: Path):
    (recipe / "fail").touch()
    done, calls = run(recipe, "--langs", "en es")
    assert done.returncode == 1
    assert "The same command goes on" in done.stderr
    assert "work: exp/multilingual/en-es_5min_seed0," in calls[0]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--langs", "en de"], "--langs: 'de' is not known; the known ones are: en es fr it ru"),
        (["--langs", "en es en"], "names one twice"),
        (["--langs", ""], "--langs is empty"),
        (["--sparsity", "0.3 1.2"], "--sparsity '1.2' is not a number from 0"),
        (["--joint", "weight router"], "--joint: 'router' is not known"),
        (["--joint-updates", "some"], "the known ones are: all one"),
        (["--upstream-ckpt", "x.pt"], "--upstream-ckpt needs --upstream"),
        (["--subset", "3min"], "the known ones are: 2min 5min all"),
        (["--stage", "5", "--stop-stage", "4"], "comes after"),
        (["--stage", "3"], "en.pack is missing or empty. It comes from: this command with --stage 2"),
    ],
)
def test_refusals(recipe: Path, options: list[str], message: str):
    done, calls = run(recipe, *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert not calls
