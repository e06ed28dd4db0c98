"""The recipe of several tasks on one backbone: what it refuses, and its page."""

from __future__ import annotations

import subprocess
from pathlib import Path

from s3router.cli import main
from s3router.experiments.multitask import page


def test_the_recipe_refuses_at_once_what_it_cannot_do(tmp_path):
    script = Path(__file__).parents[2] / "egs/superb/run_multitask.sh"
    for given, message in (
        (["--recipes", "pr1"], "pr1 is no recipe of utterance classification"),
        (["--recipes", "xx1"], "there is no xx1/run.sh"),
        (["--recipes", "ks1 ../asterisk/ks1"], "two are called ks1"),
        (["--recipes", "ks1", "--corpora", f"ic1={tmp_path}"], "ic1 is not among --recipes 'ks1'"),
        (["--corpora", f"ks1={tmp_path}/none"], "no such folder"),
        (["--upstream-ckpt", "./none"], "no such file"),
        (["--sparsity", "1"], "--sparsity '1' is not a number"),
    ):
        run = subprocess.run([script, *given], capture_output=True, text=True, check=False)
        assert run.returncode != 0
        assert message in run.stderr


def test_the_page_of_the_recipe_adds_up():
    same = {"utts": 4, "routed": 0.75, "own": 0.75, "interval": (0.3, 0.95), "bits": 1000, "head": 10, "pack": 200}
    rows = [{**same, "name": name, "weight": 0.5, "trained": 90, "file": 400} for name in ("ks", "ic")]
    text = "\n".join(page(rows, {"upstream": "x", "sparsity": 0.1, "seed": 0}, 100, 20))
    assert "| ks | 4 | 75.00 | 30.0–95.0 | 75.00 | 50.00 |" in text
    assert "100 parameters) and 2 packs: 120 parameters and 2,000 bits, 800 bytes" in text
    assert "2 finetuned models: 200 parameters, 880 bytes (the 20 of" in text
    assert "1.10 times" in text
    rows[0]["weight"] = None
    assert "finetuned models:" not in "\n".join(page(rows, {"upstream": "x", "sparsity": 0.1, "seed": 0}, 100, 20))


def test_the_command_says_what_it_lacks(tmp_path, capsys):
    assert main(["experiment", "tasks", "--tag", "x"]) == 1
    assert "name recipes, --work and --output" in capsys.readouterr().err
    assert main(["experiment", "tasks", "--test-set", str(tmp_path / "ks1"), "--tag", "x"]) == 1
    assert "0 predicted sets, expected one" in capsys.readouterr().err
