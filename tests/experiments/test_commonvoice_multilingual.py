"""run_multilingual.sh of the Common Voice recipe: its calls, with stand-ins for run.sh, packing and the table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """#!/usr/bin/env bash
echo "run $*" >>calls
while [ $# -gt 0 ]; do
    case $1 in --lang) lang=$2 ;; --tag) tag=$2 ;; esac
    shift
done
[ "${lang}" != xx ] || exit 1
mkdir -p "exp/${tag}/decode_test"
echo result >"exp/${tag}/decode_test/result.json"
[ -e "exp/${tag}/valid.cer_ctc.best.pth" ] || echo model >"exp/${tag}/valid.cer_ctc.best.pth"
"""
PYTHON = f"""#!/usr/bin/env bash
case "$*" in "-m s3router launch"*) PYTHONPATH={ROOT} exec {sys.executable} "$@" ;; esac
echo "python $*" >>calls
case "$*" in *" pack "*nopack*) exit 1 ;; *" pack "*) touch "${{!#}}" ;; esac
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "egs/commonvoice/asr1"
    folder.mkdir(parents=True)
    (tmp_path / "utils").symlink_to(ROOT / "utils")
    for name in ("run_multilingual.sh", "path.sh"):
        shutil.copy(ROOT / "egs/commonvoice/asr1" / name, folder)
    (tmp_path / "venv/bin").mkdir(parents=True)
    for path, text in ((folder / "run.sh", RUN), (tmp_path / "venv/bin/python", PYTHON)):
        path.write_text(text)
        path.chmod(0o755)
    return folder


def run(recipe: Path, *options: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    environment = {**os.environ, "S3ROUTER_VENV": str(recipe.parents[2] / "venv")}
    command = ["bash", str(recipe / "run_multilingual.sh"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    calls = recipe / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return done, lines


def test_every_language_is_trained_and_packed_and_stands_in_the_table(recipe: Path):
    for lang in ("nl", "tr"):  # of a release
        (recipe / lang).mkdir()
    done, calls = run(recipe, "--langs", "nl tr", "--upstream", "tiny", "--run-args", "--ngpu 1", "--release", ".")
    assert done.returncode == 0, done.stderr
    name = "1h_phn_tiny_router_seed0"
    wanted = "--upstream tiny --method router --subset 1h --seed 0 --token-type phn"
    packs = [f"exp/routes_{name}/{lang}.pack" for lang in ("nl", "tr")]
    assert calls == [
        *(f"run --lang {x} {wanted} --tag {x}_{name} --stop-stage 6 --ngpu 1 --release ." for x in ("nl", "tr")),
        *(f"python -m s3router pack exp/{x}_{name} --route {x} -o exp/routes_{name}/{x}.pack" for x in ("nl", "tr")),
        f"python -m s3router results exp/nl_{name} exp/tr_{name} --sets test --output exp/RESULTS_{name}.md",
    ]
    assert all((recipe / pack).is_file() for pack in packs)
    _, again = run(recipe, "--langs", "nl tr", "--upstream", "tiny", "--run-args", "--ngpu 1", "--release", ".")
    assert not [line for line in again if " pack " in line or line.startswith("run ")]  # finished before


def test_a_language_that_fails_does_not_stop_the_others_and_is_named(recipe: Path):
    done, calls = run(recipe, "--langs", "xx nopack tr", "--sparsity", "0.2")
    assert done.returncode == 1
    assert "failed: training the pack of nopack" in done.stderr
    assert "FAILED lang=xx: exit status 1" in done.stdout
    assert "to resume it: s3router launch" in done.stdout
    assert " exp/tr_1h_phn_xls_r_300m_router_s0.2_seed0 --sets test" in calls[-1]
    assert "exp/xx_" not in calls[-1]


def test_only_masks_are_packed_and_only_what_is_finished_stands_in_a_table(recipe: Path):
    _, calls = run(recipe, "--langs", "nl", "--method", "weight")
    assert [line.split()[0] for line in calls] == ["run", "python"]
    assert " results " in calls[1]
    _, calls = run(recipe, "--langs", "nl", "--stop-stage", "3")
    assert len(calls) == 1


def test_refusals(recipe: Path):
    done, calls = run(recipe, "--release", "/nonexistent/cv")
    assert done.returncode == 1
    assert "--release /nonexistent/cv: no such folder" in done.stderr
    assert "--langs: . has no folder xx" in run(recipe, "--release", ".", "--langs", "xx")[0].stderr
    assert "--sparsity '2' is not a number" in run(recipe, "--sparsity", "2")[0].stderr
    assert "known ones are: 1min 10min" in run(recipe, "--subset", "2h")[0].stderr
    assert "known ones are: router weight frozen" in run(recipe, "--method", "scratch")[0].stderr
    assert "unknown option --lang;" in run(recipe, "--lang", "nl")[0].stderr
    assert calls == []
