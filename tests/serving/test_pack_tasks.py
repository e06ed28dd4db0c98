"""A trained task as a route on a bare backbone gives the task's own logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s3router.cli import main
from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack, PackMeta, read_pack
from s3router.serving.loading import load_routes
from s3router.serving.packing import in_half, pack_experiment, routable
from s3router.superb.batches import in_order
from s3router.superb.experiment import TaskExperiment
from s3router.superb.model import build_task
from s3router.superb.tasks import TASKS
from s3router.training.experiment import TrainedParts
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


FLOATS = {
    "delta": ("weight", "ffn_weight", "bitfit"),
    "adapter": ("lora", "dora", "houlsby", "sparse_delta", "bitdelta"),
}
PACKED = [*FLOATS["delta"], *FLOATS["adapter"], "magnitude"]


@pytest.mark.parametrize("method", PACKED)
def test_every_method_ends_in_a_pack(options, sets, upstream, tmp_path, capsys, method):
    """Served, it gives the trained task's logits; baked (bottlenecks cannot be), the router's."""
    rate = [] if method == "magnitude" else ["--upstream-lr", "1e-2"]
    args = options("--method", method, "--lr", "1e-2", "--max-updates", "3", *rate)
    train(args)
    exp = TaskExperiment(args.output_dir)
    for name, wide in (("half", []), ("wide", ["--float32"])):
        assert main(["pack", str(args.output_dir), "-o", str(tmp_path / f"{name}.pack"), *wide]) == 0
    half, wide = (read_pack(tmp_path / f"{name}.pack") for name in ("half", "wide"))
    for kind, methods in FLOATS.items():
        assert bool(getattr(wide, kind)) == (method in methods)
        for name, tensor in getattr(wide, kind).items():
            kept = name.endswith((".signs", ".scale")) and method == "bitdelta"
            assert torch.equal(getattr(half, kind)[name], tensor if kept else tensor.half())
            assert tensor.dtype == (torch.uint8 if name.endswith(".signs") else torch.float32)
    assert bool(half.masks) == (method == "magnitude")
    assert {tensor.dtype for tensor in (*half.head.values(), *half.featurizer.values())} == {torch.float32}

    kind = TASKS["cls"]
    clips = kind.clips(kind.read(sets["test"]), exp.model().encoder, kind.settings())
    batch = next(iter(in_order(clips, 5)))
    waves = [row[:n] for row, n in zip(batch["x"], batch["x_len"].tolist(), strict=True)]
    model = load_routes([tmp_path / "half.pack", tmp_path / "wide.pack"], ckpt=str(upstream))
    bare = replace(wide, route="bare", masks={}, delta={}, adapter={}, meta=replace(wide.meta, adapter={}))
    model.add(bare)
    with torch.no_grad():
        wanted = exp.model().model(batch["x"], batch["x_len"])
    found, rounded, without = (torch.stack(model.logits(waves, route)) for route in ("wide", "half", "bare"))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rounded, found, rtol=0, atol=2e-2)
    assert not torch.allclose(found, without, rtol=0, atol=1e-3)

    assert f"{method}" in capsys.readouterr().out  # the page that pack prints
    command = ["bake", str(tmp_path / "half.pack"), "--upstream-ckpt", str(upstream), "-o", str(tmp_path / "baked")]
    assert main(command) == (1 if method == "houlsby" else 0)
    assert ("plain models have no place" in capsys.readouterr().err) == (method == "houlsby")


def test_models_from_scratch_are_no_pack(options):
    args = options("--method", "scratch", "--max-updates", "1")
    train(args)
    with pytest.raises(ConfigError, match=r"no backbone that it shares with others; s3router bake .* writes it"):
        pack_experiment(TaskExperiment(args.output_dir), "x")


def test_half_precision_and_its_end():
    parts = {"a.lora_A": torch.tensor([[1.0001, 3e-9]]), "a.lora_B": torch.ones(2, 1, dtype=torch.bfloat16)}
    meta = PackMeta("x", "0" * 32, adapter={"method": "lora", "scale": 1.0})
    head = {"weight": torch.full((2, 2), 1e6)}
    pack = MaskPack("x", {}, {"b": torch.tensor([65519.0])}, {}, head, None, meta, adapter=parts)
    half = in_half(pack, "exp/x")
    assert half.delta["b"].item() == 65504
    assert torch.equal(half.adapter["a.lora_A"], torch.tensor([[1.0, 0.0]]).half())
    assert half.adapter["a.lora_B"].dtype == torch.float16
    assert half.head is head
    signs = {"a.signs": torch.ones(1, dtype=torch.uint8), "a.scale": torch.tensor([1e-6])}
    bits = replace(pack, adapter=signs, meta=replace(meta, adapter={"method": "bitdelta"}))
    assert {name: tensor.dtype for name, tensor in in_half(bits, "exp/x").adapter.items()} == {
        "a.signs": torch.uint8,
        "a.scale": torch.float32,
    }
    with pytest.raises(
        PackError, match=r"^exp/x: b holds values up to ±70000, and float16 ends at 65504; pack it with --float32$"
    ):
        in_half(replace(pack, delta={"b": torch.tensor([-70000.0, 1.0])}), "exp/x")


def test_statistics_that_training_has_moved_are_no_part_of_a_route():
    backbone = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    parts = TrainedParts(backbone, {}, state, {}, {}, None, ("a", "b"), {})
    assert routable(parts, Path("exp/x")).delta.keys() == dict(backbone.named_parameters()).keys()
    state["1.running_mean"] += 1
    with pytest.raises(ConfigError, match=r"^exp/x: training has moved 1\.running_mean, .*; s3router bake exp/x -o"):
        routable(parts, Path("exp/x"))
