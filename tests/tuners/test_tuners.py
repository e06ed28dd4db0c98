"""Every method on small upstreams: what trains, what is learnt, and that the plain model with it is the trained one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from s3router.errors import ConfigError
from s3router.masks import MaskConfig
from s3router.packs import adapters
from s3router.packs.fingerprint import named_weights, weights_hash
from s3router.tuners import METHODS
from s3router.tuners.attach import attach_method, uncalled
from s3router.tuners.learnt import Learnt, learnt
from s3router.tuners.methods import complete_conf
from s3router.tuners.sizes import bottleneck_at_equal_bytes, rank_at_equal_bytes
from tests.upstreams.conftest import hf_model
from tests.upstreams.whisper_files import small_whisper

ATTACHED = [name for name, method in METHODS.items() if method.attached]
ROOT = Path(__file__).parents[2]
WAVE = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
MEL = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))


def hubert() -> nn.Module:
    return hf_model("hf_hubert_custom", layerdrop=0.0)


def whisper() -> nn.Module:
    return small_whisper().model.encoder.eval()


def output(model: nn.Module) -> torch.Tensor:
    return model(MEL if hasattr(model, "conv1") else WAVE).last_hidden_state


def attached(make, method: str, **conf) -> nn.Module:
    model = make()
    attach_method(model, method, MaskConfig(sparsity=0.2) if METHODS[method].masks else None, conf, seed=3)
    return model


def trained(model: nn.Module, method: str) -> nn.Module:
    """After two updates that change every parameter which trains; in evaluation mode."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-2) if parameters else None
    for _ in range(2 if optimizer else 0):
        model.train()
        optimizer.zero_grad()
        output(model).square().mean().backward()
        lacking = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not lacking, method
        optimizer.step()
    return model.eval()


def with_learnt(model: nn.Module, found: Learnt) -> nn.Module:
    """The plain model with what was learnt written into it, by the arithmetic that packs are served with."""
    weights = dict(named_weights(model))
    adapters.check("the adapter", found.adapter, found.meta, {name: weight.shape for name, weight in weights.items()})
    with torch.no_grad():
        for name, values in found.delta.items():
            weights[name].copy_(values)
        for name, mask in found.masks.items():
            weights[name].mul_(mask)
        for target, parts in (adapters.by_target(found.adapter, found.meta) if found.meta else {}).items():
            if found.meta["method"] == "houlsby":
                layer = model.get_submodule(target)
                layer.register_forward_hook(lambda _, inputs, out, parts=parts: adapters.houlsby(out, parts))
            else:
                weight = weights[target]
                resident = adapters.resident(found.meta, target, weight.shape, parts)
                weight.copy_(adapters.adapted(found.meta, weight, resident))
    return model


@pytest.mark.parametrize("make", [hubert, whisper])
@pytest.mark.parametrize("method", ATTACHED)
def test_the_plain_model_with_what_was_learnt_is_the_trained_one(method, make):
    plain = make()
    before, fingerprint = output(plain).detach(), weights_hash(plain)
    model = attached(make, method)
    assert weights_hash(model) == fingerprint
    if not METHODS[method].masks:
        torch.testing.assert_close(output(model.eval()), before, atol=1e-6, rtol=0)
    trained(model, method)
    found = learnt(model)
    with torch.no_grad():
        after = output(model)
        torch.testing.assert_close(output(with_learnt(plain, found)), after, atol=1e-5, rtol=0)
    assert float((after - before).abs().max()) > 1e-3


@pytest.mark.parametrize("method", ATTACHED)
def test_what_trains_and_what_is_kept_of_it(method):
    model = trained(attached(hubert, method), method)
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found, ffn = learnt(model), 3 * 2
    kinds = (len(found.masks), bool(found.delta), found.meta.get("method"))
    if METHODS[method].masks:
        assert kinds == (ffn, METHODS[method].prunes, None)
        assert bool(free) == (method != "magnitude")
    elif method == "ffn_weight":
        assert kinds == (0, True, None)
        assert len(free) == len(found.delta) == ffn
    elif method == "bitfit":
        assert kinds == (0, True, None)
        assert free == found.delta.keys()
        assert all(tensor.dim() == 1 for tensor in found.delta.values())
        assert not any("feature_extractor" in name for name in free)
    else:
        assert kinds == (0, False, method)
        assert not free & dict(hubert().named_parameters()).keys()
    if method == "bitdelta":  # a bit per weight, and a scale per matrix
        assert sum(tensor.nbytes for tensor in found.adapter.values()) == ffn * (32 * 64 // 8 + 4)


@pytest.mark.parametrize("make", [hubert, whisper])
def test_factors_of_rows_beside_masks_are_learnt_and_put_to_use(make):
    plain, model = make(), make()
    attach_method(model, "router", MaskConfig(sparsity=0.2, train=("row_scale", "bias", "layer_norm")))
    found = learnt(trained(model, "router"))
    assert found.meta == {"method": "row_scale"}
    assert found.adapter.keys() == {f"{name}.row_scale" for name in found.masks}
    assert found.delta
    with torch.no_grad():
        torch.testing.assert_close(output(with_learnt(plain, found)), output(model), atol=1e-5, rtol=0)


def test_bitdelta_trains_on_the_change_and_is_validated_on_its_signs():
    model = attached(hubert, "bitdelta")
    change = model.encoder.layers[0].feed_forward.intermediate_dense.parametrizations.weight[0]
    with torch.no_grad():
        change.change.normal_(generator=torch.Generator().manual_seed(1))
    weight = torch.zeros_like(change.change)
    torch.testing.assert_close(change.train()(weight), change.change)
    scale = float(change.change.detach().abs().mean())
    torch.testing.assert_close(change.eval()(weight), change.change.sign() * scale)
    # no other scale is nearer to the change
    values = change.change.detach()
    errors = [float((values - s * values.sign()).norm()) for s in (scale * 0.99, scale, scale * 1.01)]
    assert min(errors) == errors[1]


def test_what_is_drawn_at_random_follows_from_the_seed():
    for method in ("lora", "dora", "houlsby"):
        first, same, other = (hubert() for _ in range(3))
        for model, seed in ((first, 3), (same, 3), (other, 4)):
            attach_method(model, method, seed=seed)
        first, same, other = (learnt(model).adapter for model in (first, same, other))
        assert all(torch.equal(first[name], same[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)
    model = hubert()
    attach_method(model, "sparse_delta", seed=4)
    assert learnt(model).meta == {"method": "sparse_delta", "seed": 4}


def test_sizes_at_equal_bytes_are_those_of_a_base_size_encoder():
    """12 layers of 768 and 3,072: masks of 10 % take 3.3 MB coded."""
    shapes = [(3072, 768), (768, 3072)] * 12
    rank = rank_at_equal_bytes(shapes)
    assert rank == 18
    assert 2 * rank * sum(rows + columns for rows, columns in shapes) == pytest.approx(3.3e6, rel=0.01)
    assert (
        bottleneck_at_equal_bytes(sum(rows * columns for rows, columns in shapes), [768] * 24) == 44
    )  # 45 without its biases


def test_layers_whose_weights_are_read_without_calling_them_are_found():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return nn.functional.linear(self.fc1(x), self.fc2.weight)

    model = Reads()
    attach_method(model, "lora")
    assert uncalled(model, lambda: model(torch.randn(2, 4))) == ["fc2"]


def test_additions_that_would_have_no_effect_are_refused(tmp_path):
    from s3router.upstreams import hub
    from tests.upstreams.conftest import save_hf

    folder = save_hf(hf_model("hf_wavlm_custom"), tmp_path / "wavlm")
    with pytest.raises(ConfigError, match=r"method houlsby: the model reads the weights of .*out_proj.* targets ffn"):
        hub.build(str(folder), upstream="hf_wavlm_custom", adapter={"method": "houlsby"})
    routed = hub.build(str(folder), upstream="hf_wavlm_custom", adapter={"method": "houlsby", "targets": ["ffn"]})
    assert sum(p.requires_grad for p in routed.backbone.parameters()) == 3 * 4


@pytest.mark.parametrize(
    ("method", "conf", "message"),
    [
        ("lora", {"rank": 4}, "method lora has no rank; known: targets, r, lora_alpha, lora_dropout"),
        ("lora", {"r": 0}, "r must be a whole number above 0, found 0"),
        ("lora", {"lora_dropout": 1.5}, "lora_dropout must be a number from 0 up to 1, found 1.5"),
        ("lora", {"lora_alpha": 0}, "lora_alpha must be a number above 0, found 0"),
        ("lora", {"targets": []}, "targets must be roles or name patterns"),
        ("lora", [1], "must be a mapping"),
        ("bitfit", {"r": 4}, "method_conf is for methods .*lora.*, not bitfit"),
        ("houlsby", {"bottleneck": 2.5}, "bottleneck must be a whole number above 0, found 2.5"),
    ],
)
def test_configurations_that_cannot_be(method, conf, message):
    with pytest.raises(ConfigError, match=message):
        complete_conf(method, conf)


def test_what_cannot_be_attached():
    with pytest.raises(ConfigError, match="'fnn' is unknown"):
        attach_method(hubert(), "lora", conf={"targets": ["fnn"]})
    with pytest.raises(ConfigError, match=r"none of .*_proj.* is the last linear of a layer"):
        attach_method(hubert(), "houlsby", conf={"targets": ["*.q_proj"]})
    with pytest.raises(ConfigError, match="r 900 is more than all weights of"):
        attach_method(hubert(), "sparse_delta", conf={"r": 900})
    with pytest.raises(ConfigError, match="method 'weight' cannot be attached; known: "):
        attach_method(hubert(), "weight")
    with pytest.raises(ConfigError, match="method magnitude needs a mask configuration"):
        attach_method(hubert(), "magnitude")
    model = attached(hubert, "lora")
    with pytest.raises(ConfigError, match="attached already"):
        attach_method(model, "lora")


def test_the_recipes_know_the_same_methods():
    words = subprocess.run(
        [
            "bash",
            "-c",
            f'. "{ROOT}/utils/stage.sh"; echo ${{methods}}; for m in ${{methods}}; do has_masks $m && echo $m; done',
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    assert words[0].split() == list(METHODS)
    assert set(words[1:]) == {name for name, method in METHODS.items() if method.masks}
