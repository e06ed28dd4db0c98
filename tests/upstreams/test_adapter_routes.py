"""Routes of every method on one backbone, held against plain models with the same weights in them."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from s3router.errors import PackError
from s3router.packs import MaskPack, PackMeta
from s3router.packs.adapters import adapted, by_target, resident
from s3router.packs.bits import pack_bits
from s3router.upstreams import fingerprint, hub
from tests.packs.conftest import ADAPTERS as SETTINGS
from tests.upstreams.test_routes import run

FFN = [f"encoder.layers.{layer}.feed_forward.{kind}_dense" for layer in (0, 2) for kind in ("intermediate", "output")]
ATTENTION = ["encoder.layers.1.attention.q_proj", "encoder.layers.1.attention.out_proj"]


def random_adapter(model: nn.Module, method: str, layers: list[str], seed: int = 0, dtype=torch.float16) -> dict:
    """Parts at random for these linear layers, in a pack's half precision."""
    generator = torch.Generator().manual_seed(seed)

    def values(*shape: int) -> Tensor:
        return (0.3 * torch.randn(shape, generator=generator)).to(dtype)

    found: dict[str, Tensor] = {}
    for layer in layers:
        weight = model.get_submodule(layer).weight
        rows, columns = weight.shape
        factors = {"lora_A": values(3, columns), "lora_B": values(rows, 3)}
        parts = {
            "lora": factors,
            "dora": factors | {"magnitude": weight.detach().norm(dim=1).to(dtype) + values(rows)},
            "sparse_delta": {"values": values(rows * columns // 3)},
            "bitdelta": {
                "signs": torch.from_numpy(pack_bits(values(rows, columns) > 0)),
                "scale": torch.tensor([0.05]),
            },
            "row_scale": {"row_scale": 1 + values(rows)},
            "houlsby": {
                **{"down.weight": values(5, rows), "down.bias": values(5)},
                **{"up.weight": values(rows, 5), "up.bias": values(rows)},
            },
        }[method]
        target = layer if method == "houlsby" else f"{layer}.weight"
        found |= {f"{target}.{part}": tensor for part, tensor in parts.items()}
    return found


def adapter_pack(route: str, upstream, method: str, layers: list[str] = FFN + ATTENTION, **more) -> MaskPack:
    meta = PackMeta("test", upstream.backbone_fingerprint, adapter=SETTINGS[method])
    adapter = random_adapter(upstream.backbone, method, layers, len(route))
    return MaskPack(route, more.get("masks", {}), more.get("delta", {}), {}, {}, None, meta, adapter=adapter)


class Bottleneck(nn.Module):
    """A linear layer and what Houlsby puts behind it, as modules of torch."""

    def __init__(self, layer: nn.Linear, parts: dict[str, Tensor]) -> None:
        super().__init__()
        inner, outer = parts["down.weight"].shape
        self.layer, self.down, self.up = layer, nn.Linear(outer, inner), nn.Linear(inner, outer)
        self.down.load_state_dict({name: parts[f"down.{name}"].float() for name in ("weight", "bias")})
        self.up.load_state_dict({name: parts[f"up.{name}"].float() for name in ("weight", "bias")})

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y + self.up(nn.functional.gelu(self.down(y)))


@torch.no_grad()
def plain(path, name: str, pack: MaskPack):
    """An upstream whose own model is what the pack makes of it."""
    single = hub.build(ckpt=str(path), upstream=name).eval()
    parameters = dict(single.backbone.named_parameters())
    for key, tensor in pack.delta.items():
        parameters[key].copy_(tensor)
    for target, parts in by_target(pack.adapter, pack.meta.adapter).items():
        if pack.meta.adapter["method"] == "houlsby":
            parent, _, child = target.rpartition(".")
            layer = single.backbone.get_submodule(target)
            setattr(single.backbone.get_submodule(parent), child, Bottleneck(layer, parts))
        else:
            weight = parameters[target]
            weight.copy_(adapted(pack.meta.adapter, weight, resident(pack.meta.adapter, target, weight.shape, parts)))
    for key, mask in pack.masks.items():
        parameters[key].masked_fill_(~mask, 0)
    single.backbone.requires_grad_(False)  # as under routes
    return single.eval()


def hooks(upstream) -> int:
    """Forward hooks on the linear layers that bottlenecks stand behind."""
    return sum(len(upstream.backbone.get_submodule(name)._forward_hooks) for name in FFN + ATTENTION)


@pytest.fixture(scope="module")
def folder(hf_folder):
    return hf_folder("hf_hubert_custom")


@pytest.fixture(scope="module")
def every(folder):
    """(one backbone with a route for each method, route -> plain model)."""
    router = hub.build(ckpt=str(folder), upstream="hf_hubert_custom").eval()
    packs = [adapter_pack(method, router, method) for method in SETTINGS]
    for pack in packs:
        router.add_route(pack)
    return router, {pack.route: plain(folder, "hf_hubert_custom", pack) for pack in packs}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_routes_of_all_methods_share_one_backbone(every, wavs, dtype):
    """Bit by bit those of the plain models, in any order; and the bare backbone between them."""
    router, singles = every
    with router.using(None):
        bare = run(router, wavs, dtype)
    for route in (*singles, *reversed(singles)):
        found = run(router, wavs, dtype, routes=route)
        assert torch.equal(found, run(singles[route], wavs, dtype)), route
        assert not torch.allclose(found, bare, atol=1e-2), route
        with router.using(None):
            assert torch.equal(run(router, wavs, dtype), bare), route
    assert fingerprint(router) == router.backbone_fingerprint
    assert hooks(router) == 0
    with router.routes.applied("houlsby"):
        assert hooks(router) == len(FFN + ATTENTION)


def test_mixed_batches_of_methods(every, wavs):
    router, singles = every
    many, routes = [wavs[i] for i in (0, 1, 2, 1, 0, 2)], ["lora", "houlsby", None, "bitdelta", "houlsby", "dora"]
    mixed = run(router, many, routes=routes)
    for row, (wav, route) in enumerate(zip(many, routes, strict=True)):
        alone = run(router, [wav], routes=[route]) if route is None else run(singles[route], [wav])
        torch.testing.assert_close(mixed[:, row, : alone.size(2)], alone[:, 0], atol=5e-5, rtol=0)


@pytest.mark.parametrize("method", SETTINGS)
def test_an_adapter_beside_other_weights_and_masks(folder, wavs, method):
    """Replaced, then adapted, then masked."""
    router = hub.build(ckpt=str(folder), upstream="hf_hubert_custom").eval()
    shape = router.backbone.get_submodule(FFN[0]).weight.shape
    generator = torch.Generator().manual_seed(9)
    more = {
        "masks": {f"{FFN[0]}.weight": torch.rand(shape, generator=generator) > 0.3},
        "delta": {
            f"{FFN[0]}.weight": torch.randn(shape, generator=generator).half(),
            f"{FFN[0]}.bias": torch.randn(shape[0], generator=generator),
        },
    }
    pack = adapter_pack("x", router, method, [FFN[0]], **more)
    router.add_route(pack)
    assert torch.equal(run(router, wavs, routes="x"), run(plain(folder, "hf_hubert_custom", pack), wavs))


def test_memory_is_the_pack_and_one_working_copy(folder, wavs):
    router = hub.build(ckpt=str(folder), upstream="hf_hubert_custom").eval()
    layers = [router.backbone.get_submodule(name) for name in FFN]
    rows, weights = sum(len(layer.weight) for layer in layers), sum(layer.weight.numel() for layer in layers)
    columns = sum(layer.weight.shape[1] for layer in layers)
    values = sum(layer.weight.numel() // 3 for layer in layers)
    kept = {
        "lora": 2 * 3 * (rows + columns),
        "dora": 2 * 3 * (rows + columns) + 2 * rows,
        "sparse_delta": (2 + 4) * values,  # with their positions
        "bitdelta": weights // 8 + 4 * len(layers),
        "houlsby": 2 * (2 * 5 * rows + rows + 5 * len(layers)),
    }
    for method, size in kept.items():
        router.add_route(adapter_pack("x", router, method, FFN))
        assert router.routes.nbytes == {"routes": size, "working": 0}
        run(router, wavs, routes="x")
        working = 4 * (2 * 5 * rows + rows + 5 * len(layers)) if method == "houlsby" else 4 * weights
        assert router.routes.nbytes == {"routes": size, "working": working}, method
        router.remove_route("x")
        assert router.routes.nbytes == {"routes": 0, "working": 0}


def test_moved_backbones_are_followed_and_changed_ones_refused(every, folder, wavs):
    router, singles = copy.deepcopy(every[0]), every[1]
    expected = {route: run(single, wavs)[-1] for route, single in singles.items()}
    router.double()
    for route in singles:
        with torch.no_grad():
            found = router([wav.double() for wav in wavs], routes=route)["last_hidden_state"]
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), expected[route], atol=5e-4, rtol=0)
    router.float()
    assert torch.equal(run(router, wavs, routes="houlsby")[-1], expected["houlsby"])
    router.load_state_dict(router.state_dict())
    for route in singles:
        with pytest.raises(PackError, match=r"encoder\.layers.*was changed after the routes were added"):
            router(wavs, routes=route)


def test_a_failing_forward_pass_leaves_no_bottlenecks(every):
    router, _ = every
    with pytest.raises(Exception, match=r".+"):
        router([torch.zeros(3, 3, 3)], routes="houlsby")
    assert hooks(router) == 0
    assert all(isinstance(p, nn.Parameter) for p in router.parameters())


def test_adapters_that_do_not_fit_are_refused(folder):
    router = hub.build(ckpt=str(folder), upstream="hf_hubert_custom").eval()
    good = adapter_pack("x", router, "lora")

    def other(**changes) -> MaskPack:
        return dataclasses.replace(good, **changes)

    name = f"{FFN[0]}.weight.lora_A"
    houlsby = {"method": "houlsby"}
    bottleneck = random_adapter(router.backbone, "houlsby", FFN[:1])
    for adapter, settings, message in (
        (good.adapter, {}, "no method"),
        ({}, good.meta.adapter, "it has no tensors"),
        (good.adapter, {"method": "magic"}, "unknown method 'magic'"),
        (good.adapter | {name: good.adapter[name][:, 1:]}, good.meta.adapter, "should be"),
        (good.adapter | {name: good.adapter[name] / 0}, good.meta.adapter, "NaN or infinite"),
        ({key.replace(FFN[0], "elsewhere"): t for key, t in good.adapter.items()}, good.meta.adapter, "has no matrix"),
        ({key.replace(FFN[0], "elsewhere"): t for key, t in bottleneck.items()}, houlsby, "has no linear layer"),
        ({key.replace(FFN[0], "encoder.layer_norm"): t for key, t in bottleneck.items()}, houlsby, "no linear layer"),
    ):
        with pytest.raises(PackError, match=rf"route 'x'.*{message}"):
            router.add_route(other(adapter=adapter, meta=dataclasses.replace(good.meta, adapter=settings)))
    assert router.routes.names == ()


def test_bottlenecks_behind_weights_that_are_read_without_the_layer_are_refused(s3prl_file, hf_folder, wavs):
    wavlm = hub.build(ckpt=str(hf_folder("hf_wavlm_custom")), upstream="hf_wavlm_custom").eval()
    with pytest.raises(PackError, match=r"attention multiplies by the weight of .*out_proj itself"):
        wavlm.add_route(adapter_pack("x", wavlm, "houlsby", ["encoder.layers.0.attention.out_proj"]))
    router = hub.build(ckpt=str(s3prl_file("hubert_custom")), upstream="hubert_custom").eval()
    with pytest.raises(PackError, match=r"self_attn multiplies by the weight of .*out_proj itself"):
        router.add_route(adapter_pack("x", router, "houlsby", ["encoder.layers.0.self_attn.out_proj"]))
    router.add_route(adapter_pack("x", router, "houlsby", ["encoder.layers.0.fc2"]))
    router.add_route(adapter_pack("lo", router, "lora", ["encoder.layers.0.self_attn.out_proj"]))
    bare = run(router, wavs, routes=[None] * 3)
    assert all(not torch.allclose(run(router, wavs, routes=route), bare, atol=1e-3) for route in ("x", "lo"))
