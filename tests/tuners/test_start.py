"""Masks of others as a start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from s3router.errors import ConfigError, PackError
from s3router.masks import MaskConfig, masks_of
from s3router.packs import write_pack
from s3router.tuners.attach import attach_method
from s3router.tuners.methods import check_masks, without_start
from tests.packs.conftest import Backbone, make_pack, random_masks


def pack(folder: Path, name: str, backbone: Backbone, **changes) -> str:
    masks = {"masks": random_masks(backbone, 0.2, seed=sum(map(ord, name))), "delta": {}}
    path = folder / f"{name}.pack"
    write_pack(path, dataclasses.replace(make_pack(backbone), route=name, **(masks | changes)))
    return str(path)


def config(*packs: str, **fields) -> MaskConfig:
    return MaskConfig.from_dict({"sparsity": 0.2, "targets": ["*fc*"], "start_packs": list(packs), **fields})


@pytest.mark.parametrize("number", [1, 3])
def test_what_most_remove_goes_first(tmp_path, number):
    backbone = Backbone()
    paths = [pack(tmp_path, name, backbone) for name in ("el", "ca", "ru")[:number]]
    weights = {name: weight.clone() for name, weight in backbone.state_dict().items()}
    attach_method(backbone, "router", config(*paths))
    started = masks_of(backbone)
    masks = [random_masks(Backbone(), 0.2, seed=sum(map(ord, name))) for name in ("el", "ca", "ru")[:number]]
    for name, mask in started.items():
        counts = sum((~other[name]).int() for other in masks).flatten().tolist()
        magnitudes = weights[name].abs().flatten().tolist()
        slow = sorted(range(mask.numel()), key=lambda i: (-counts[i], magnitudes[i], i))[: int(0.2 * mask.numel())]
        assert (~mask).flatten().nonzero().flatten().tolist() == sorted(slow), name
        if number == 1:
            assert torch.equal(mask, masks[0][name])  # of the same sparsity: the very mask


def test_n_of_m(tmp_path):
    backbone = Backbone(width=16)
    masks = {name: mask for name, mask in random_masks(backbone, 0.5, seed=1).items() if "fc1" in name}
    attach_method(
        backbone,
        "router",
        config(pack(tmp_path, "el", backbone, masks=masks), granularity="2:4", sparsity=None, targets=["*fc1*"]),
    )
    for name, started in masks_of(backbone).items():
        removed = ~masks[name].view(-1, 4)
        assert (started.view(-1, 4).sum(1) == 2).all()
        left = started.view(-1, 4) & removed  # removed by the pack, and kept here
        assert not left[removed.sum(1) <= 2].any()
        assert left[removed.sum(1) > 2].any()


@pytest.fixture
def refused(tmp_path):
    def check(kind: type[Exception], says: str, *packs: str, **fields) -> None:
        backbone = Backbone()
        with pytest.raises(kind, match=says):
            attach_method(backbone, "router", config(*packs, **fields))
        assert all("parametrizations" not in name for name, _ in backbone.named_parameters())

    return check


def test_what_cannot_be_a_start(refused, tmp_path):
    backbone = Backbone()
    good = pack(tmp_path, "el", backbone)
    refused(ConfigError, r"start_packs: .*ca\.pack: no such file; correct the path", good, str(tmp_path / "ca.pack"))
    refused(PackError, r"ru\.pack: .*another backbone", good, pack(tmp_path, "ru", Backbone(seed=1)))
    refused(ConfigError, r"el\.pack: it masks other weights .*fc2.*same targets", good, targets=["*fc1*"])
    refused(ConfigError, r"no\.pack: it has no masks", pack(tmp_path, "no", backbone, masks={}))
    damaged = tmp_path / "damaged.pack"
    damaged.write_bytes(Path(good).read_bytes()[:-9])
    refused(PackError, r"damaged\.pack", str(damaged))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"score_init": "weight"}, "start_packs: for score_init ori, not weight"),
        ({"granularity": "output"}, "start_packs: they rank single weights, and granularity output does not"),
        ({"start_packs": ["a.pack", "a.pack"]}, "start_packs: a.pack stands there twice"),
        ({"start_packs": 3}, "start_packs: expected a list of mask packs, found 3"),
    ],
)
def test_what_does_not_go_together(fields, says):
    with pytest.raises(ConfigError, match=says):
        config("a.pack", **fields)


@pytest.mark.parametrize("method", ["magnitude", "imp", "router_p"])
def test_for_masks_that_train_alone(method):
    with pytest.raises(ConfigError, match=f"start_packs are for method router, not {method}"):
        check_masks(method, {}, config("a.pack"))


def test_as_a_plain_mapping():
    plain = config("a.pack", "b.pack").to_dict()
    assert plain["start_packs"] == ["a.pack", "b.pack"]
    assert MaskConfig.from_dict(plain) == config("a.pack", "b.pack")
    assert not {"start_packs", "gradient_rest"} & set(MaskConfig().to_dict())
    assert without_start(plain) == config().to_dict() | {"sparsity": 0.2}
    assert without_start(None) == {}
