"""A trained task as a route on a bare backbone gives the task's own logits."""

from __future__ import annotations

import pytest
import torch

from s3router.cli import main
from s3router.errors import ConfigError
from s3router.packs import read_pack
from s3router.serving.packing import pack_experiment
from s3router.superb.batches import in_order
from s3router.superb.experiment import TaskExperiment
from s3router.superb.model import build_task
from s3router.superb.tasks import TASKS
from s3router.training.parameters import load_trained
from tests.superb.conftest import train


def test_a_packed_task_says_what_the_task_says(options, sets, tmp_path, upstream):
    args = options("--method", "router", "--lr", "1e-2")
    run = train(args)
    assert main(["pack", str(args.output_dir), "-o", str(tmp_path / "x.pack"), "--route", "noises"]) == 0
    pack = read_pack(tmp_path / "x.pack")
    assert (pack.route, pack.meta.labels, pack.tokens) == ("noises", ("hiss", "rumble"), None)

    kind = TASKS["cls"]
    bare = build_task(
        kind, kind.settings(), [["hiss", "rumble"]], "frozen", {"upstream": "hf_hubert_custom"}, str(upstream)
    )
    bare.eval()
    bare.model.routed.add_route(tmp_path / "x.pack")
    load_trained(run.task.model, torch.load(args.output_dir / "best.pth", weights_only=True)["model"], "best.pth")
    clips = kind.clips(kind.read(sets["test"]), run.task.encoder, kind.settings())
    batch = next(iter(in_order(clips, 5)))
    weights = pack.featurizer["weights"].softmax(0)
    with torch.no_grad(), bare.model.routed.using("noises"):
        hidden, lengths = bare.model.hidden(batch["x"], batch["x_len"])
        summed = sum(w * h for w, h in zip(weights, hidden, strict=True))
        means = torch.stack([row[:n].mean(0) for row, n in zip(summed, lengths[0], strict=True)])
        found = means @ pack.head["weight"].T + pack.head["bias"]
        wanted = run.task.eval().model(batch["x"], batch["x_len"])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_finetuned_weights_are_no_pack(options):
    args = options("--method", "weight", "--max-updates", "1")
    train(args)
    with pytest.raises(ConfigError, match="trains the weights themselves"):
        pack_experiment(TaskExperiment(args.output_dir), "x")
