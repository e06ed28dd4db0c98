"""The stage script with a whole recogniser, from data directories of one's own to the table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.seq2seq.conftest import FIVE

ROOT = FIVE.parents[2]


@pytest.fixture
def recipe(tmp_path):
    """A recipe's folder with sets of its own in it: `run.sh` beside nothing but the stage script that it names."""
    folder = tmp_path / "asr1"
    folder.mkdir()
    script = (ROOT / "egs/asterisk/asr1/run.sh").read_text().replace("../../TEMPLATE", str(ROOT / "egs/TEMPLATE"))
    (folder / "run.sh").write_text(script)
    (folder / "run.sh").chmod(0o755)
    sets = folder / "sets"
    for name in ("train", "dev", "test"):
        (sets / name).mkdir(parents=True)
        for file in ("text", "utt2spk"):
            shutil.copy(FIVE / file, sets / name)
        lines = (FIVE / "wav.scp").read_text().splitlines()
        (sets / name / "wav.scp").write_text("".join(f"{line.replace(' ', f' {ROOT}/', 1)}\n" for line in lines))
    return folder


def run(folder, whisper_folder, *options: str) -> subprocess.CompletedProcess:
    own = [f"--{part}={folder}/sets/{name}" for part, name in (("train-set", "train"), ("valid-set", "dev"))]
    words = [
        *("./run.sh", "--task", "seq2seq", "--upstream", "auto", "--upstream-ckpt", str(whisper_folder)),
        *("--skip-data-prep", *own, f"--test-sets={folder}/sets/test", "--lang", "fr", "--max-updates", "2"),
        *(() if "--seed" in options else ("--tag", "small")),
        *options,
    ]
    env = {**os.environ, "S3ROUTER_VENV": os.environ.get("S3ROUTER_VENV", str(ROOT / "tools/venv"))}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_from_data_to_a_table_beside_the_published_recogniser(recipe, whisper_folder):
    done = run(recipe, whisper_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (recipe / "exp/small/RESULTS.md").read_text()
    assert "| small_zero_shot | test | 5 |" in table
    assert "| small | test | 5 |" in table
    settings = json.loads((recipe / "exp/small/seq2seq.json").read_text())["options"]
    assert settings["normalize"] == "none"  # references of one's own are taken as they are
    again = run(recipe, whisper_folder)
    assert again.returncode == 0, again.stderr
    assert "update" not in again.stdout  # nothing is trained anew


def test_the_published_recogniser_is_one_for_all_seeds_methods_and_configurations(recipe, whisper_folder):
    (recipe / "mine.yaml").write_text("sparsity: 0.2\nmax_updates: 1\nmask_conf: {granularity: output}\n")
    published = recipe / "exp/fr_train_seq2seq_auto_zero_shot"
    both = ("0", "--config", "mine.yaml"), ("1", "--max-updates", "1")
    with ThreadPoolExecutor(2) as pool:  # at once: one of them makes it
        runs = pool.map(lambda more: run(recipe, whisper_folder, "--decode-valid", "false", "--seed", *more), both)
    for done in runs:
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"| {published.name} | test | 5 |" in done.stdout
    assert json.loads((published / "seq2seq.json").read_text())["options"]["method"] == "frozen"
    assert len(list((recipe / "exp").glob("*_zero_shot"))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num-nodes", "2"), "--num-nodes is for --task ctc"),
        (("--method", "scratch"), "--method scratch is for --task ctc"),
        (("--token-type", "bpe"), "--token-type is for --task ctc"),
        (("--lm", "a.arpa", "--beam-size", "4"), "--tokens and --lm are for --task ctc"),
        (("--task", "s2s"), "known ones are: auto ctc seq2seq"),
        (("--hypotheses", "mine"), "known ones are: none prompts sentences"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(recipe, whisper_folder, options, message):
    done = run(recipe, whisper_folder, *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (recipe / "dump").exists()


@pytest.mark.parametrize("stage", ["4", "5"])
def test_later_stages_go_on_with_what_the_recipe_fell_back_to(recipe, stage):
    own = [f"--{part}={recipe}/sets/{name}" for part, name in (("train-set", "train"), ("valid-set", "dev"))]
    model = recipe / "exp/en_train_tiny_router_s0.10_seed0/valid.cer_ctc.best.pth"
    model.parent.mkdir(parents=True)
    model.write_text("a model")
    env = {**os.environ, "S3ROUTER_VENV": os.environ.get("S3ROUTER_VENV", str(ROOT / "tools/venv"))}
    env |= {"S3ROUTER_UPSTREAMS": str(recipe / "none"), "PIP_NO_INDEX": "1", "HF_HUB_OFFLINE": "1"}
    words = ["./run.sh", "--skip-data-prep", *own, f"--test-sets={recipe}/sets/test", "--stage", stage]
    done = subprocess.run(words, cwd=recipe, env=env, capture_output=True, text=True, check=False)
    said = {"4": "so tiny is used instead", "5": "no model of whisper_base is here, and one of tiny, which is taken"}
    assert said[stage] in done.stdout + done.stderr
    assert done.returncode != 0  # nothing has been prepared
    assert "is missing or empty" in done.stderr
