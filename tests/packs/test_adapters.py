"""The arithmetic of adapters, held against PEFT's own layers and against torch written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s3router.errors import ConfigError, PackError
from s3router.packs.adapters import adapted, by_target, check, houlsby, resident, settings_problem, sparse_positions
from s3router.packs.bits import pack_bits
from tests.packs.conftest import ADAPTERS as SETTINGS

ROWS, COLUMNS = 11, 7
NAME = "encoder.layers.0.fc1.weight"


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parts_of(method: str, rows: int = ROWS, columns: int = COLUMNS) -> dict[str, Tensor]:
    """Random parts of one target."""
    factors = {"lora_A": values(3, columns, seed=1), "lora_B": values(rows, 3, seed=2)}
    return {
        "lora": factors,
        "dora": factors | {"magnitude": values(rows, seed=3).abs()},
        "sparse_delta": {"values": values(10, seed=4)},
        "bitdelta": {
            "signs": torch.from_numpy(pack_bits(values(rows, columns, seed=5) > 0)),
            "scale": torch.tensor([0.25]),
        },
        "row_scale": {"row_scale": values(rows, seed=10)},
        "houlsby": {
            "down.weight": values(4, rows, seed=6),
            "down.bias": values(4, seed=7),
            "up.weight": values(rows, 4, seed=8),
            "up.bias": values(rows, seed=9),
        },
    }[method]


def adapter_of(method: str) -> dict[str, Tensor]:
    target = "encoder.layers.0.fc1" if method == "houlsby" else NAME
    return {f"{target}.{part}": tensor for part, tensor in parts_of(method).items()}


def under(method: str, weight: Tensor) -> Tensor:
    parts = resident(SETTINGS[method], NAME, weight.shape, parts_of(method, *weight.shape))
    return adapted(SETTINGS[method], weight, parts)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_low_rank_weights_are_those_that_peft_merges(method):
    from peft import LoraConfig, get_peft_model

    base = nn.Sequential(nn.Linear(COLUMNS, ROWS))
    weight = base[0].weight.detach().clone()
    settings = LoraConfig(
        r=3, lora_alpha=3 * SETTINGS[method]["scale"], target_modules=["0"], use_dora=method == "dora"
    )
    model = get_peft_model(base, settings)
    layer = model.base_model.model[0]
    parts = parts_of(method)
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(parts["lora_A"])
        layer.lora_B["default"].weight.copy_(parts["lora_B"])
        if method == "dora":
            layer.lora_magnitude_vector["default"].weight.copy_(parts["magnitude"])
        x = values(5, COLUMNS, seed=10)
        unmerged = model(x)
        found = under(method, weight)
        torch.testing.assert_close(F.linear(x, found, layer.base_layer.bias), unmerged, rtol=1e-5, atol=1e-5)
        merged = model.merge_and_unload()[0].weight
    torch.testing.assert_close(found, merged, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found, weight, atol=0.1)


def test_sparse_differences_are_those_that_peft_merges():
    from peft import ShiraConfig, get_peft_model

    base = nn.Sequential(nn.Linear(COLUMNS, ROWS))
    weight = base[0].weight.detach().clone()
    count = ROWS + COLUMNS  # what PEFT gives rank 1
    positions = sparse_positions(NAME, weight.shape, count, 3)

    def mask_fn(layer: nn.Module, r: int, random_seed: int | None) -> Tensor:
        return torch.zeros(ROWS * COLUMNS).index_fill(0, positions, 1.0).view(ROWS, COLUMNS)

    settings = ShiraConfig(r=1, target_modules=["0"], mask_type="random")
    settings.mask_fn = mask_fn
    model = get_peft_model(base, settings)
    changes = values(count, seed=4)
    with torch.no_grad():
        model.base_model.model[0].shira_weight["default"].copy_(changes)
        merged = model.merge_and_unload()[0].weight
    parts = resident(SETTINGS["sparse_delta"], NAME, weight.shape, {"values": changes})
    assert torch.equal(adapted(SETTINGS["sparse_delta"], weight, parts), merged)


def test_every_method_by_hand():
    weight = values(ROWS, COLUMNS)
    for method in ("lora", "dora", "sparse_delta", "bitdelta"):
        parts, before = parts_of(method), weight.clone()
        found = under(method, weight)
        expected = weight.double()
        if "lora_A" in parts:
            expected = expected + SETTINGS[method]["scale"] * (parts["lora_B"].double() @ parts["lora_A"].double())
        if method == "dora":
            expected = parts["magnitude"].double()[:, None] * expected / expected.pow(2).sum(1, keepdim=True).sqrt()
        if method == "sparse_delta":
            positions = sparse_positions(NAME, weight.shape, 10, 3)
            for place, value in zip(positions.tolist(), parts["values"].tolist(), strict=True):
                expected[place // COLUMNS, place % COLUMNS] += value
        if method == "bitdelta":
            expected = (
                expected
                + 0.25 * (values(ROWS, COLUMNS, seed=5) > 0).double()
                - 0.25 * (values(ROWS, COLUMNS, seed=5) <= 0)
            )
        torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-5)
        assert torch.equal(weight, before)
        assert found.dtype == torch.float32
        half = adapted(  # packs hold half precision, and backbones may
            SETTINGS[method],
            weight.half(),
            resident(
                SETTINGS[method],
                NAME,
                weight.shape,
                {part: t.half() if t.is_floating_point() else t for part, t in parts.items()},
            ),
        )
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), found, rtol=2e-2, atol=2e-2)


def test_autocast_does_not_round_the_weights():
    weight = values(ROWS, COLUMNS)
    with torch.autocast("cpu", torch.bfloat16):
        found = under("lora", weight)
    assert torch.equal(found, under("lora", weight))


def test_a_row_of_zeros_stays_one_under_dora():
    weight = torch.zeros(ROWS, COLUMNS)
    parts = parts_of("dora") | {"lora_B": torch.zeros(ROWS, 3)}
    assert torch.equal(adapted(SETTINGS["dora"], weight, parts), weight)


def test_gradients_reach_the_parts():
    for method in ("lora", "dora", "sparse_delta", "bitdelta"):
        parts = {
            part: tensor.requires_grad_() if tensor.is_floating_point() else tensor
            for part, tensor in resident(SETTINGS[method], NAME, (ROWS, COLUMNS), parts_of(method)).items()
        }
        adapted(SETTINGS[method], values(ROWS, COLUMNS), parts).pow(2).sum().backward()
        assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in parts.values() if t.requires_grad)


def test_bottleneck_adapters_by_hand():
    parts = parts_of("houlsby")
    output = values(2, 5, ROWS)
    inner = output @ parts["down.weight"].T + parts["down.bias"]
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(
        houlsby(output, parts), output + inner @ parts["up.weight"].T + parts["up.bias"], rtol=1e-5, atol=1e-5
    )
    silent = parts | {"up.weight": torch.zeros(ROWS, 4), "up.bias": torch.zeros(ROWS)}
    assert torch.equal(houlsby(output, silent), output)
    with pytest.raises(ConfigError, match="no function of a weight"):
        adapted(SETTINGS["houlsby"], values(ROWS, ROWS), parts)


def test_positions_stay_what_they_are():
    """Packs hold values alone: other positions would make other models of them."""
    assert sparse_positions(NAME, (512, 384), 8, 0).tolist() == FIRST
    assert sparse_positions(NAME, (3, 5), 12, 7).tolist() == MOST
    assert sparse_positions("w", (4, 4), 3, 2**63 - 1).tolist() == LAST


FIRST = [22423, 58636, 86890, 161407, 171187, 179432, 189927, 192299]
MOST = [0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14]
LAST = [7, 9, 14]


def test_positions_are_distinct_in_order_and_anywhere():
    for count in (0, 1, 30, 49, 50, 51, 99, 100):
        found = sparse_positions("w", (10, 10), count, 0)
        assert found.dtype == torch.int64
        assert found.tolist() == sorted(set(found.tolist()))
        assert len(found) == count
        assert count == 0 or (int(found[0]) >= 0 and int(found[-1]) < 100)
    assert sparse_positions("w", (10, 10), 30, 0).tolist() != sparse_positions("w", (10, 10), 30, 1).tolist()
    assert sparse_positions("w", (10, 10), 30, 0).tolist() != sparse_positions("v", (10, 10), 30, 0).tolist()
    hits = torch.zeros(100)
    for seed in range(2000):
        hits[sparse_positions("w", (10, 10), 30, seed)] += 1
    # Each place is hit with probability 0.3: a chi-square of 99 degrees, scaled by 1 - 0.3; six standard deviations.
    assert abs(float((hits - 600).pow(2).sum()) / 600 / 0.7 - 100) < 6 * (2 * 99) ** 0.5
    for count, seed in ((101, 0), (-1, 0), (1, -1)):
        with pytest.raises(ConfigError, match=r"w: .* places of 100"):
            sparse_positions("w", (10, 10), count, seed)


SHAPES = {NAME: (ROWS, COLUMNS), "encoder.layers.0.fc1.bias": (ROWS,)}


@pytest.mark.parametrize("method", SETTINGS)
def test_good_adapters_pass(method):
    check("x.pack", adapter_of(method), SETTINGS[method], SHAPES)
    check("x.pack", adapter_of(method), SETTINGS[method])
    (target,) = by_target(adapter_of(method), SETTINGS[method]).items()
    assert target[0] == ("encoder.layers.0.fc1" if method == "houlsby" else NAME)
    assert target[1].keys() == parts_of(method).keys()


def wrong_adapters():
    def but(method: str, **changes: Tensor | None) -> dict[str, Tensor]:
        changed = adapter_of(method)
        target = next(iter(changed)).removesuffix("." + next(iter(parts_of(method))))
        changed |= {f"{target}.{part.replace('_of_', '.')}": tensor for part, tensor in changes.items()}
        return {name: tensor for name, tensor in changed.items() if tensor is not None}

    ok = SHAPES
    yield "lora", but("lora", lora_C=values(1)), None, "no tensors of the name 'encoder.layers.0.fc1.weight.lora_C'"
    yield "lora", but("lora", lora_A=None), None, "lora_A is missing"
    yield "lora", but("lora", lora_A=values(3, COLUMNS).double()), None, "lora_A is torch.float64"
    yield "lora", but("lora", lora_A=values(3)), None, r"lora_A is \[3\], and has 2 dimensions"
    yield "lora", but("lora", lora_A=values(0, COLUMNS)), None, "none empty"
    yield "lora", but("lora", lora_A=values(2, COLUMNS)), None, r"lora_B is \[11, 3\], and should be \[11, 2\]"
    yield "lora", but("lora", lora_A=values(3, 8)), ok, r"lora_A is \[3, 8\], and should be \[3, 7\]"
    yield "lora", but("lora", lora_A=torch.full((3, COLUMNS), torch.inf)), None, "lora_A holds NaN or infinite"
    yield "lora", adapter_of("lora"), {"encoder.layers.0.fc1.bias": (ROWS,)}, f"has no matrix {NAME} for its adapter"
    yield "lora", adapter_of("lora"), {NAME: (ROWS,)}, f"has no matrix {NAME}"
    yield "lora", {}, None, "it has no tensors"
    yield "dora", but("dora", magnitude=values(ROWS + 1)), None, r"magnitude is \[12\], and should be \[11\]"
    yield "sparse_delta", but("sparse_delta", values=values(ROWS * COLUMNS + 1)), ok, "78 values for 77 weights"
    signs = parts_of("bitdelta")["signs"]
    yield "bitdelta", but("bitdelta", signs=signs[:-1]), ok, r"signs is \[9\], and should be \[10\]"
    yield "bitdelta", but("bitdelta", signs=signs | 128), ok, "behind the last weight are not 0"
    yield "bitdelta", but("bitdelta", signs=signs.float()), None, "signs is torch.float32"
    yield "bitdelta", but("bitdelta", scale=values(2)), None, r"scale is \[2\], and should be \[1\]"
    yield "houlsby", but("houlsby", up_of_bias=values(3)), None, r"up.bias is \[3\], and should be \[11\]"
    yield "houlsby", but("houlsby"), {"encoder.layers.0.fc1.weight": (8, 7)}, r"should be \[4, 8\]"
    yield "houlsby", but("houlsby"), {}, "no linear layer encoder.layers.0.fc1 for its adapter"


@pytest.mark.parametrize(("method", "adapter", "shapes", "message"), wrong_adapters())
def test_wrong_adapters_are_refused(method, adapter, shapes, message):
    with pytest.raises(PackError, match=rf"^x\.pack: .*{message}") as error:
        check("x.pack", adapter, SETTINGS[method], shapes)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic' (known: lora"),
        ({"method": ["lora"]}, "unknown method"),
        ({"scale": 1.0}, "unknown method 'None'"),
        ({"method": "lora"}, "has the settings scale"),
        ({"method": "bitdelta", "scale": 1.0}, "has the settings none"),
        ({"method": "lora", "scale": float("nan")}, "scale nan is no finite number"),
        ({"method": "lora", "scale": True}, "scale True"),
        ({"method": "lora", "scale": 10**400}, "no finite number"),
        ({"method": "sparse_delta", "seed": 1.0}, "seed 1.0 is no whole number"),
        ({"method": "sparse_delta", "seed": -1}, "seed -1"),
        ({"method": "sparse_delta", "seed": 2**63}, "no whole number"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    assert message in settings_problem(settings)
    with pytest.raises(PackError, match=r"^x\.pack: adapter: "):
        check("x.pack", adapter_of("lora"), settings)


def test_no_adapter_is_none():
    check("x.pack", {}, {})
    with pytest.raises(PackError, match="no method"):
        check("x.pack", adapter_of("lora"), {})
    assert all(settings_problem(settings) is None for settings in SETTINGS.values())
