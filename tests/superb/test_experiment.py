"""The experiment folder of a task: opened by its link, taken apart for packing, and refused where it is not one."""

from __future__ import annotations

import json

import pytest
import torch

from s3router.cli import main
from s3router.errors import CheckpointError, DataError
from s3router.packs.fingerprint import named_weights
from s3router.serving.opening import open_experiment
from s3router.superb.experiment import TaskExperiment
from s3router.superb.table import folds, table
from tests.superb.conftest import make_set, train


@pytest.mark.parametrize("method", ["weight", "scratch", "router"])
def test_the_parts_are_the_trained_model(options, method):
    folder = train(options("--method", method, "--max-updates", "2", "--lr", "1e-2", "--upstream-lr", "1e-2")).folder
    experiment = open_experiment(folder)
    assert isinstance(experiment, TaskExperiment)
    parts, model = experiment.parts(), experiment.model().model
    assert (bool(parts.masks), bool(parts.delta)) == (method == "router", method != "router")
    rebuilt = dict(named_weights(parts.backbone)) | parts.delta
    for name, tensor in named_weights(model.routed.backbone):
        torch.testing.assert_close(rebuilt[name], tensor, rtol=0, atol=0)
    features = torch.randn(1, 7, parts.head["weight"].size(1))
    wanted = model.downstream(features, torch.tensor([7]))
    torch.testing.assert_close(features.mean(1) @ parts.head["weight"].T + parts.head["bias"], wanted)
    assert (parts.labels, parts.tokens, parts.training["method"]) == (("hiss", "rumble"), None, method)
    assert parts.preprocessing["minimal_samples"] == model.receptive_field == 400


def test_labels_of_several_slots_name_them(options, tmp_path):
    sets = [make_set(tmp_path / name, n, 3, seed=n) for name, n in (("train", 6), ("dev", 2))]
    where = ["--task", "ic", "--train-dir", str(sets[0]), "--valid-dir", str(sets[1]), "--max-updates", "1"]
    parts = TaskExperiment(train(options(*where)).folder).parts()
    assert parts.labels[:3] == ("action hiss 0", "action rumble 0", "object hiss 1")
    assert parts.training["track"] == "less constrained"


def test_a_folder_with_a_link_is_the_run_that_it_names(options, sets, tmp_path):
    folder = train(options("--max-updates", "1", name="exp/lr_1")).folder
    (folder.parent / "selected").symlink_to("lr_1")
    for path in (folder.parent, folder.parent / "selected"):
        out = folder.parent / "predict_test"
        command = ["superb-predict", "--exp-dir", str(path), "--data-dir", str(sets["test"]), "--output-dir", str(out)]
        assert main(command) == 0
        assert TaskExperiment(path).metrics().keys() == {"dev", "test"}
    assert TaskExperiment(folder).metrics()["dev"]["accuracy"] == TaskExperiment(folder).validated["accuracy"]


def test_folders_that_are_no_experiments(options, tmp_path):
    with pytest.raises(CheckpointError, match="is not an experiment of s3router superb-train"):
        TaskExperiment(tmp_path)
    folder = train(options("--max-updates", "1")).folder
    (folder / "best.json").unlink()
    with pytest.raises(CheckpointError, match="train this run to its end first"):
        TaskExperiment(folder).metrics()
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        TaskExperiment(folder)
    (folder / "config.json").write_text(json.dumps({"options": {}}))
    with pytest.raises(CheckpointError, match="not a configuration of s3router superb-train"):
        TaskExperiment(folder)


def test_a_training_that_has_not_ended(options, sets, tmp_path, caplog):
    """Its best model may be looked at, and is not taken for a result."""
    args = options("--max-updates", "4", "--valid-interval", "2", name="exp/lr_1")
    whole = train(args).folder
    states = torch.load(whole / "checkpoint.pth", weights_only=True)
    torch.save(states | {"update": 2}, whole / "checkpoint.pth")
    assert main(["superb-select", str(whole), "--output", str(whole.parent / "selected")]) == 1
    assert not (whole.parent / "selected").exists()
    out = tmp_path / "predict_test"
    command = ["--exp-dir", str(whole), "--data-dir", str(sets["test"]), "--output-dir", str(out)]
    assert main(["superb-predict", *command]) == 0
    assert "training stands at update 2 of 4" in caplog.text
    assert json.loads((out / "result.json").read_text())["updates"] == 2


def result(folder, **more):
    """A folder with a result in it, as of superb-predict."""
    given = {"task": "cls", "upstream": "tiny", "method": "router", "sparsity": 0.1, "seed": 0, "n_utts": 5}
    given |= {"accuracy": 0.8, "balanced_accuracy": 0.8, "interval": [0.7, 0.9], "setting": "a"}
    (folder / "predict_test").mkdir(parents=True)
    (folder / "predict_test/result.json").write_text(json.dumps(given | more))
    return folder


def test_only_seeds_share_a_row(tmp_path):
    one, seed = result(tmp_path / "one"), result(tmp_path / "seed", seed=1, accuracy=0.6)
    other = result(tmp_path / "other", setting="b", accuracy=0.5)
    assert "| router | 0.1 | 0 1 | 5 | 70.00 ± 14.14 |" in table([one, seed])[2]
    rows = table([one, seed, other])[2:]
    assert "| router (one, seed) | 0.1 | 0 1 | 5 | 70.00 ± 14.14 |" in rows[0]
    assert "| router (other) | 0.1 | 0 | 5 | 50.00 |" in rows[1]
    with pytest.raises(DataError, match="one, again: one seed of one setting twice"):
        table([one, result(tmp_path / "again")])


def test_folds_are_five_different_ones(tmp_path):
    made = [result(tmp_path / f"f{n}", task="er", fold=n, accuracy=n / 10) for n in range(1, 6)]
    assert folds(made)[-1] == "| mean of 5 | | 30.00 ± 15.81 |"
    with pytest.raises(DataError, match="a fold is there twice"):
        folds([*made[:4], made[0]])
    with pytest.raises(DataError, match="ks: not of emotion recognition"):
        folds([*made[:4], result(tmp_path / "ks", task="ks")])


def test_what_decides_a_result_is_in_its_setting(options):
    made = [
        train(options("--max-updates", "1", *more, name=f"n{n}")).folder
        for n, more in enumerate(([], ["--seed", "1"], ["--lr", "1e-2"]))
    ]
    one, seed, rate = (TaskExperiment(folder).setting for folder in made)
    assert one == seed != rate
