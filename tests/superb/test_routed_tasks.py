"""Several tasks through one resident backbone: each says what its own model says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
import torch

from s3router.errors import ConfigError, DataError, PackError
from s3router.packs import read_pack, write_pack
from s3router.serving.task_routes import TaskHead, load_tasks, main
from s3router.superb import predict
from s3router.superb.batches import Clips, in_order
from s3router.superb.labels import LabelledDir
from s3router.superb.packing import pack_from_task
from s3router.superb.tasks import TASKS
from s3router.training.parameters import load_trained
from tests.superb.conftest import make_set, train

KNOWN = TASKS["ks"].settings().gain_db


@pytest.fixture
def trained(options, sets, tmp_path) -> dict[str, tuple]:
    """Route -> (run, pack file, test set): one label, three slots, and a task with a gain."""
    three = {
        name: make_set(tmp_path / "three" / name, n, 3, seed=n) for name, n in (("train", 12), ("dev", 6), ("test", 5))
    }
    made = {}
    for route, folders, more in (
        ("noises", sets, ["--mode", "router", "--sparsity", "0.3"]),
        ("intents", three, ["--task", "ic", "--mode", "router", "--sparsity", "0.5"]),
        ("words", sets, ["--task", "ks", "--mode", "frozen"]),
    ):
        where = ["--train-dir", str(folders["train"]), "--valid-dir", str(folders["dev"]), "--lr", "1e-2"]
        args = options(*more, *where, "--max-updates", "3", name=f"exp_{route}")
        run = train(args)
        path = tmp_path / f"{route}.pack"
        write_pack(path, pack_from_task(args.output_dir, route))
        made[route] = run, path, folders["test"]
    return made


def test_tasks_on_one_backbone_say_what_their_own_models_say(trained, tmp_path, upstream):
    packs = [str(path) for _, path, _ in trained.values()]
    sets = [f"{route}={folder}" for route, (_, _, folder) in trained.items()]
    command = ["--packs", *packs, "--sets", *sets, "--output-dir", str(tmp_path / "out")]
    assert main([*command, "--upstream", "hf_hubert_custom", "--upstream-ckpt", str(upstream)]) == 0
    model = load_tasks([Path(p) for p in packs], "hf_hubert_custom", str(upstream))
    for route, (run, _, folder) in trained.items():
        own = tmp_path / "own" / route
        exp = ["--exp-dir", str(run.args.output_dir), "--data-dir", str(folder), "--output-dir", str(own)]
        assert predict.main(exp) == 0
        shared = tmp_path / "out" / f"predict_{route}"
        assert (shared / "utt2label").read_text() == (own / "utt2label").read_text()
        for file in own.rglob("predict.*"):
            assert (shared / file.relative_to(own)).read_text() == file.read_text()
        one, other = (json.loads((f / "result.json").read_text()) for f in (own, shared))
        assert {key: one[key] for key in other} == other

        head = model.heads[route]
        labelled = LabelledDir.read(folder, len(head.classes))
        load_trained(
            run.task.model, torch.load(run.args.output_dir / "best.pth", weights_only=True)["model"], "best.pth"
        )
        clips = Clips(labelled, run.clips.clips.encoder if route == "words" else run.clips.encoder, head.gain_db)
        batch = next(iter(in_order(clips, 5)))
        with torch.no_grad():
            wanted = run.task.eval().model(batch["x"], batch["x_len"])
        torch.testing.assert_close(model.logits(route, batch["x"], batch["x_len"]), wanted, rtol=1e-4, atol=1e-5)
    assert model.heads["words"].gain_db == KNOWN != 0


def test_what_cannot_be_routed_is_refused(trained, upstream, sets, tmp_path, capsys):
    _, path, folder = trained["intents"]
    model = load_tasks([path], "hf_hubert_custom", str(upstream))
    with pytest.raises(ConfigError, match="unknown route 'noises'"):
        model.predict("noises", LabelledDir.read(folder, 3))
    _, other, _ = trained["noises"]
    model.add(other)
    labelled = LabelledDir.read(sets["test"])
    wrong = LabelledDir(labelled.data, dict.fromkeys(labelled.labels, ("hum",)))
    with pytest.raises(DataError, match="is not in the list of classes"):
        model.predict("noises", wrong)
    pack = read_pack(path)
    with pytest.raises(PackError, match="of no classification task"):
        TaskHead(type(pack)(**{**vars(pack), "head": {}}))
    command = ["--packs", str(path), "--output-dir", str(tmp_path / "out"), "--upstream", "hf_hubert_custom"]
    assert main([*command, "--upstream-ckpt", str(upstream), "--sets", "x=y"]) == 1
    assert "no pack has that route; known: intents" in capsys.readouterr().err


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
    path = Path(__file__).parents[2] / "egs/superb/local/multitask.py"
    spec = importlib.util.spec_from_file_location("multitask", path)
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    same = {"utts": 4, "routed": 0.75, "own": 0.75, "interval": (0.3, 0.95), "bits": 1000, "head": 10, "pack": 200}
    rows = [{**same, "name": name, "weight": 0.5, "trained": 90, "file": 400} for name in ("ks", "ic")]
    text = "\n".join(page.page(rows, {"upstream": "x", "sparsity": 0.1, "seed": 0}, 100, 20))
    assert "| ks | 4 | 75.00 | 30.0–95.0 | 75.00 | 50.00 |" in text
    assert "100 parameters) and 2 packs: 120 parameters and 2,000 bits, 800 bytes" in text
    assert "2 finetuned models: 200 parameters, 880 bytes (the 20 of" in text
    assert "1.10 times" in text
    rows[0]["weight"] = None
    assert "finetuned models:" not in "\n".join(page.page(rows, {"upstream": "x", "sparsity": 0.1, "seed": 0}, 100, 20))
