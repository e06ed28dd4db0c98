"""run_multilingual.sh of the Asterisk recipe: what it plans, joins, reads back and writes; its command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from s3router.data.kaldi import DataDir
from s3router.data.tokens import read_token_list
from s3router.errors import ConfigError, DataError
from s3router.packs import MaskPack, PackMeta, write_pack
from s3router.packs.fingerprint import weights_hash

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs/asterisk/asr1"
LOCAL = ("grid", "one_run", "report", "make", "plots", "plan", "union", "figures", "sections", "page")
TABLE = {
    "upstream": "stub",
    "select": "cer",
    "seeds": [0, 1],
    "repeat": ["weight", "router"],
    "data": {"train": {"5min": "dump/{lang}/train_5min"}, "dev": "d", "test": "t", "tokens": "k"},
    "train": {"max_updates": 100, "valid_interval": 10},
    "methods": {"frozen": {"head_lr": 0.1}, "weight": {"weight_lr": [1e-3, 2e-3]}, "router": {"score_lr": 0.01}},
    "sweep": {"lang": "en", "subset": "5min", "sparsity": 0.1},
    "cells": [
        {"lang": "en", "subset": "5min", "methods": ["weight", "router"], "sparsities": [0.1, 0.3]},
        {"lang": ["es", "fr"], "subset": "5min", "methods": ["router"], "sparsities": [0.2]},
    ],
}
LANGS = ["en", "es"]


@pytest.fixture
def local(monkeypatch, tmp_path):
    """The recipe's modules, in an empty recipe folder with the table's grid above."""
    for folder in ("table", "multilingual"):
        monkeypatch.syspath_prepend(str(RECIPE / "local" / folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/table.yaml").write_text(yaml.safe_dump(TABLE))
    yield {name: __import__(name) for name in LOCAL if name != "plots"}
    for name in LOCAL:
        sys.modules.pop(name, None)


def settings(local, **changed):
    usual = {"langs": LANGS, "subset": "5min", "sparsity": [], "upstream": None, "upstream_ckpt": None, "seed": 0}
    more = {"max_updates": None, "sweep": True, "joint": ["weight", "frozen"], "joint_updates": "all"}
    return local["plan"].Settings(**{**usual, **more, **changed})


def single_grid(local, wanted):
    """The grid of the single models, written and read back."""
    path = Path("work/singles.yaml")
    local["plan"].write_yaml(
        path, local["plan"].singles(wanted, yaml.safe_load(yaml.safe_dump(TABLE)), Path("scratch"))
    )
    return wanted.grid(path)


def result(run, dev: float, utts: dict[str, list[int]] | None = None) -> dict:
    return {
        **{"name": run.name, "key": run.key, "lang": run.lang, "method": run.method, "sparsity": run.sparsity},
        **{"dev": {"cer": dev, "wer": 2 * dev}, "test": {"cer": dev, "wer": dev, "utts": utts or {}}},
        **{"lrs": run.rates, "updates": run.updates, "best_update": 50, "seconds": 3600.0, "seed": run.seed},
        **{"commit": "abc1234", "date": "2030-01-02", "versions": {"torch": "2"}},
    }


def finish(run, place, dev: float, model: bool = True) -> None:
    """A result file, and what training leaves on the machine."""
    place.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result(run, dev))
    (place.results / f"{run.name}.json").write_text(text)
    if model:
        folder = place.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(text)
        (folder / "valid.cer_ctc.best.pth").write_bytes(b"x" * 1000)


# --- what is planned --------------------------------------------------------------------------------------------------


def test_the_single_models_are_runs_of_the_table(local):
    wanted = settings(local)
    table = local["grid"].Grid.read(Path("conf/table.yaml"))
    keys = {run.key for run in table.everything(local["grid"].Known({}))}
    grid = single_grid(local, wanted)
    runs = grid.everything(local["grid"].Known({}))
    assert {(r.lang, r.method, r.sparsity) for r in runs} == {
        *((lang, "weight", None) for lang in LANGS),
        *(("en", "router", 0.1), ("en", "router", 0.3), ("es", "router", 0.2)),
    }
    assert [r.key for r in runs if r.key not in keys] == [r.key for r in runs if (r.lang, r.method) == ("es", "weight")]
    assert not Path("scratch").exists()


def test_learning_rates_that_the_table_has_decided_are_used_for_every_seed(local):
    table = local["grid"].Grid.read(Path("conf/table.yaml"))
    place = local["one_run"].Place.usual(trial=False)
    for run in table.sweeps("weight", local["grid"].Known({}))[0].runs:
        finish(run, place, dev=0.5 if run.rates["weight_lr"] == 1e-3 else 0.4, model=False)
    grid = single_grid(local, settings(local, seed=7))
    weight = [run for run in grid.plan(local["grid"].Known({})) if run.method == "weight"]
    assert [(run.seed, run.rates["weight_lr"]) for run in weight] == [(7, 2e-3)] * 2
    # a trial on a reduced budget has results of its own
    grid = single_grid(local, settings(local, max_updates=3))
    assert grid.methods["weight"]["weight_lr"] == [1e-3, 2e-3]
    assert {run.updates for run in grid.plan(local["grid"].Known({}))} == {3}


def test_sparsities_and_upstream_given(local, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    wanted = settings(local, langs=["it"], sparsity=[0.4], upstream="other", upstream_ckpt="model.pt")
    grid = single_grid(local, wanted)
    assert (grid.upstream, grid.upstream_ckpt) == ("other", "model.pt")
    assert grid.upstream_id
    assert grid.cells[0].sparsities == (0.4,)
    with pytest.raises(ConfigError, match=r"no cell for it at 5min.*name some with --sparsity"):
        single_grid(local, settings(local, langs=["en", "it"]))


def test_dev_picks_and_what_is_missing_is_named(local):
    wanted = settings(local, sparsity=[0.1, 0.3], sweep=False)
    grid, place = single_grid(local, wanted), wanted.place
    runs = grid.plan(local["grid"].Known({}), sweep=False)
    for run in runs[:-1]:
        finish(run, place, dev={"en": run.sparsity or 0.9, "es": 1 - (run.sparsity or 0)}[run.lang])
    with pytest.raises(DataError, match=f"not finished: {runs[-1].name}; run ./run_multilingual.sh from stage 1"):
        list(local["plan"].chosen(wanted, grid))
    finish(runs[-1], place, dev=0.2)
    found = dict(local["plan"].chosen(wanted, grid))
    assert list(found) == ["en_weight", "en_router", "es_weight", "es_router"]
    assert (found["en_router"].sparsity, found["es_router"].sparsity) == (0.1, 0.3)
    folder = Path("work/models")
    local["plan"].link(found, place, folder)
    assert (folder / "es_router").resolve() == place.folder(found["es_router"]).resolve()
    (place.folder(found["en_weight"]) / "valid.cer_ctc.best.pth").unlink()
    with pytest.raises(DataError, match="no model in exp/table/en_5min_stub_weight"):
        local["plan"].link(found, place, folder)


@pytest.mark.parametrize(("updates", "expected", "variant"), [("all", (200, 20), "x2"), ("one", (100, 10), "")])
def test_joint_models(local, updates, expected, variant):
    wanted = settings(local, joint_updates=updates)
    grid = single_grid(local, wanted)
    content = local["plan"].joint(wanted, yaml.safe_load(Path("work/singles.yaml").read_text()), grid)
    local["plan"].write_yaml(Path("work/joint.yaml"), content)
    runs = dict(local["plan"].joint_runs(wanted, wanted.grid(Path("work/joint.yaml"))))
    assert list(runs) == ["joint_weight", "joint_frozen"]
    run = runs["joint_weight"]
    assert (run.lang, run.variant, run.rates) == ("en-es", variant, {"weight_lr": 1e-3})
    assert (run.updates, dict(run.options)["valid_interval"]) == expected
    everything = wanted.grid(Path("work/joint.yaml")).everything(local["grid"].Known({}), sweep=False)
    assert {r.key for r in everything} == {r.key for r in runs.values()}


def test_command_of_plan(local, capsys):
    plan, work = local["plan"].main, ["--work", "work"]
    assert plan(["singles", *work]) == 1
    assert "settings.json is missing" in capsys.readouterr().err
    options = ["--langs", "en", "es", "--sparsity", "0.3", "--joint", "weight", "--sweep", "false"]
    assert plan(["settings", *work, *options]) == plan(["singles", *work]) == 0
    read = local["plan"].Settings.read(Path("work"))
    assert read.command == (
        "./run_multilingual.sh --langs 'en es' --subset 5min --sparsity 0.3 --seed 0 --joint weight "
        "--joint-updates all --sweep false"
    )
    grid = read.grid(Path("work/singles.yaml"))
    for run in grid.plan(read.known(), sweep=False):
        finish(run, read.place, 0.5)
    assert plan(["choose", *work]) == plan(["link", *work]) == 0
    names = capsys.readouterr().out.strip().split("|")
    assert len(names) == 4
    assert all((Path("exp/table") / name).is_dir() for name in names)
    assert plan(["joint", *work]) == 0
    assert capsys.readouterr().out.startswith("en-es_5min_stub_weight_x2_seed0_")
    assert plan(["link-joint", *work]) == 1
    assert "no model in exp/table/en-es_5min_stub_weight_x2" in capsys.readouterr().err


def test_a_result_without_its_model_is_made_once_more(local, monkeypatch):
    import re

    make, wanted = local["make"], settings(local, sparsity=[0.1], sweep=False)
    grid, place = single_grid(local, wanted), wanted.place
    runs = grid.plan(local["grid"].Known({}), sweep=False)
    for run in runs:
        finish(run, place, 0.5, model=run.lang == "es")

    def table(models: bool):
        return make.Table(grid, make.Options(place, None, 2, re.compile("_router_"), False, models))

    assert table(models=False).todo() == []
    assert [run.lang for run in table(models=True).todo()] == ["en"]
    monkeypatch.setattr(make, "run_one", lambda run, _grid, place, _commit: finish(run, place, 0.4))
    assert table(models=True).make() == 0
    assert table(models=True).todo() == []
    assert not Path("RESULTS.md").exists()
    assert not list(place.results.glob("*.png"))
    monkeypatch.setattr(make, "run_one", lambda run, _grid, place, _commit: finish(run, place, 0.4, model=False))
    shutil.rmtree(place.folder(next(run for run in runs if run.method == "router")))
    assert table(models=True).make() == 0  # no model again: not tried for ever


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


def test_union_of_data_and_tokens(local, capsys):
    write_data("en", "test", {"en-1": "a b", "en-2": "c"})
    write_data("es", "test", {"es-1": "ñ a"})
    command = ["--langs", "es", "en", "--sets", "test", "--name", "both"]
    assert local["union"].main(command) == 0
    assert "dump/both/test: 3 utterances, 0.07 min" in capsys.readouterr().out
    data = DataDir.read("dump/both/test")
    assert [(utt.utt, utt.text, utt.duration) for utt in data.utts] == [
        *(("en-1", "a b", 1.5), ("en-2", "c", 1.5), ("es-1", "ñ a", 1.5))
    ]
    tokens = read_token_list("data/both/token_list/char/tokens.txt")
    assert tokens == ["<blank>", "<unk>", "<space>", "a", "ñ", "b", "c", "<sos/eos>"]
    write_data("es", "test", {"en-1": "ñ"})
    assert local["union"].main(command) == 1
    assert "ids must be unique" in capsys.readouterr().err


# --- the page ---------------------------------------------------------------------------------------------------------

COUNTS = {  # words, wrong, characters, wrong
    "weight": {"en": {"en-1": [4, 2, 20, 4], "en-2": [4, 0, 20, 0]}, "es": {"es-1": [2, 2, 10, 10]}},
    "router": {"en": {"en-1": [4, 1, 20, 1], "en-2": [4, 0, 20, 0]}, "es": {"es-1": [2, 1, 10, 5]}},
    "joint": {"en": {"en-1": [4, 4, 20, 8], "en-2": [4, 4, 20, 8]}, "es": {"es-1": [2, 2, 10, 10]}},
}


def write_decoded(folder: Path, counts: dict[str, list[int]], texts: dict[str, str]) -> None:
    folder.mkdir(parents=True)
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
def work(local) -> Path:
    """What all stages leave, made by hand."""
    plan, folder = local["plan"], Path("work")
    options = ["--langs", *LANGS, "--sparsity", "0.1", "0.3", "--joint", "weight", "--sweep", "false"]
    assert plan.main(["settings", "--work", "work", *options]) == plan.main(["singles", "--work", "work"]) == 0
    wanted = plan.Settings.read(folder)
    for run in wanted.grid(folder / "singles.yaml").plan(wanted.known(), sweep=False):
        finish(run, wanted.place, run.sparsity or 0.5)
    assert plan.main(["link", "--work", "work"]) == plan.main(["joint", "--work", "work"]) == 0
    for run in wanted.grid(folder / "joint.yaml").plan(wanted.known(), sweep=False):
        finish(run, wanted.place, 0.6)
    assert plan.main(["link-joint", "--work", "work"]) == 0
    for lang in LANGS:
        utts = COUNTS["weight"][lang]
        write_data(lang, "test", dict.fromkeys(utts, "x"))
        texts = dict.fromkeys(utts, "hello")
        for method in ("weight", "router"):
            write_decoded(folder / f"models/{lang}_{method}/decode_test", COUNTS[method][lang], texts)
        write_decoded(
            folder / f"routed/decode_{lang}", COUNTS["router"][lang], texts | {"en-2": ""} if lang == "en" else texts
        )
        write_packs(lang, 0.1)
    every = {utt: row for counts in COUNTS["joint"].values() for utt, row in counts.items()}
    write_decoded(folder / "models/joint_weight/decode_test", every, dict.fromkeys(every, "hello"))
    memory = {name: {"mb": mb, "process_mb": 400 + mb, "parameters": p, "runs": [1]} for name, mb, p in
              (("models", 200, 2_000_000), ("routes", 120, 1_000_000), ("joint", 100, 1_100_000))}  # fmt: skip
    (folder / "memory.json").write_text(json.dumps(memory))
    counts = {"en": {"en": 1, "es": 1}, "es": {"en": 0, "es": 1}}
    langid = {"accuracy": {"compared with usual": 2 / 3, "as they are": 1 / 3}, "transformer_passes": 2}
    langid |= {"counts": {"compared with usual": counts}, "audio_seconds": 3.0, "seconds": 4.0}
    (folder / "langid.json").write_text(json.dumps(langid))
    return folder


def test_page(local, work, capsys):
    assert local["page"].main(["--work", "work", "--output", "RESULTS_multilingual.md"]) == 0
    text = Path("RESULTS_multilingual.md").read_text()
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
    size = f"{Path('work/packs/en.pack').stat().st_size:,}"
    assert ["English", "0.02", size] in [[row[0], row[2], row[5]] for row in rows if len(row) == 9]
    assert ["English", "1", "1", "50.0"] in rows
    assert "**66.7 %** of 3 test utterances" in plain
    assert "50 % by chance" in plain
    assert "**Learning rates of weight finetuning were not swept**" in plain
    assert "Sparsities that dev could pick: en 0.10, 0.30; es 0.10, 0.30" in plain
    assert max(len(line) for line in text.splitlines() if line[:1] not in "|-") <= 118


def test_page_of_unfinished_or_strange_stages(local, work, capsys):
    command = ["--work", "work", "--output", "page.md"]
    (work / "langid.json").rename("kept")
    assert local["page"].main(command) == 1
    assert "langid.json is missing; it comes from ./run_multilingual.sh --stage 5" in capsys.readouterr().err
    assert not Path("page.md").exists()
    Path("kept").rename(work / "langid.json")
    write_data("es", "test", {"es-9": "another"})
    assert local["page"].main(command) == 1
    assert "joint_weight/decode_test is not of the test sets of en es" in capsys.readouterr().err


# --- the command line -------------------------------------------------------------------------------------------------

PYTHON = """#!/usr/bin/env bash
echo "python $*" >>calls
output=
for word in "$@"; do
    case ${before-} in -o | --output | --output-dir) output=${word} ;; esac
    before=${word}
done
case "$*" in
    *plan.py\\ choose*) echo "one|two" ;;
    *plan.py\\ joint*) echo "three" ;;
    *plan.py\\ link*) for name in en_weight en_router es_weight es_router joint_weight; do
        mkdir -p "${!#}/models/${name}"
        [ -e "${!#}/models/${name}/valid.cer_ctc.best.pth" ] || echo >"${!#}/models/${name}/valid.cer_ctc.best.pth"
    done ;;
    *plan.py\\ singles*) mkdir -p "${!#}" && echo grid >"${!#}/singles.yaml" ;;
    *" --score "*) for lang in en es; do
        mkdir -p "${output}/decode_${lang}"
        echo x >"${output}/decode_${lang}/result.json"
    done ;;
    *) [ -z "${output}" ] || { mkdir -p "$(dirname "${output}")" && echo made >"${output}"; } ;;
esac
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The script in a folder of its own, with stand-ins for Python, set-up and run_table.sh."""
    folder = tmp_path / "egs/asterisk/asr1"
    folder.mkdir(parents=True)
    (tmp_path / "utils").symlink_to(ROOT / "utils")
    for name in ("run_multilingual.sh", "path.sh"):
        shutil.copy(RECIPE / name, folder)
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    table = '#!/usr/bin/env bash\necho "table $*" >>calls\n[ ! -e fail ]\n'
    stubs = {"tools/setup.sh": "#!/bin/sh\n", "venv/bin/python": PYTHON, "egs/asterisk/asr1/run_table.sh": table}
    for name, text in stubs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for lang in ("en", "es"):
        for part in ("dev", "test"):
            (folder / f"dump/{lang}/{part}").mkdir(parents=True)
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
    trial = "--max-updates 4"
    table = f"table --grid {work}/%s.yaml --no-report --jobs 2 --only %s {trial}"
    assert [line for line in calls if line.startswith("table")] == [
        table % ("singles", ""),
        f"{table % ('singles', '^(one|two)$')} --with-models",
        f"{table % ('joint', '^(three)$')} --no-sweep --with-models",
    ]
    packs = f"{work}/packs/en.pack {work}/packs/es.pack"
    kinds = [" ".join(line.split()[1:4]) for line in calls if line.startswith("python")]
    wanted = ["-m s3router pack"] * 4 + ["-m s3router langid", "-m s3router inspect", "-m s3router transcribe"]
    assert [kind for kind in kinds if kind.startswith("-m")] == [*wanted, "-m s3router langid"]
    assert f"langid --routes {packs} --dev en=dump/en/dev es=dump/es/dev --store" in "\n".join(calls)
    assert (
        f"transcribe --routes {packs} --score en=dump/en/test es=dump/es/test --output-dir {work}/routed"
        in "\n".join(calls)
    )
    assert "union.py --langs en es --sets train_5min dev test --name en-es" in "\n".join(calls)
    assert calls[-1].endswith(f"page.py --work {work} --output {work}/RESULTS.md")
    done, calls = run(recipe, *options)
    assert done.returncode == 0, done.stderr
    assert not [line for line in calls if "s3router pack" in line or "langid" in line or "memory" in line]


def test_a_failing_table_ends_it(recipe: Path):
    (recipe / "fail").touch()
    done, calls = run(recipe, "--langs", "en es")
    assert done.returncode == 1
    assert "not all models are there" in done.stderr
    assert "--work exp/multilingual/en-es_5min_seed0" in calls[0]
    assert calls[-1].startswith("table --grid exp/multilingual/en-es_5min_seed0/singles.yaml")


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
    assert not [line for line in calls if "settings" not in line]
