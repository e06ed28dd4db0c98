"""The experiment folder of a task: opened by its link, taken apart for packing, and refused where it is not one."""

from __future__ import annotations

import json

import pytest
import torch

from s3router.cli import main
from s3router.errors import CheckpointError
from s3router.packs.fingerprint import named_weights
from s3router.serving.opening import open_experiment
from s3router.superb.experiment import TaskExperiment
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
