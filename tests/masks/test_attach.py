"""Attach, detach, bake, load; state dicts, checkpointed layers and two processes."""

from __future__ import annotations

import copy
import os
import socket

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.utils.checkpoint import checkpoint

from s3router.errors import CheckpointError, ConfigError
from s3router.masks import MaskConfig, attach, bake, detach, iterate, load_masks, masks_of
from tests.masks.conftest import Encoder

ALL = ("ffn", "attention", "projection")


def trained(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_attach_freezes_all_but_the_scores(encoder):
    masks = attach(encoder, MaskConfig())
    assert [name for name, _ in iterate(encoder)] == [f"layers.{i}.fc{j}.weight" for i in (0, 1) for j in (1, 2)]
    assert [mask for _, mask in iterate(encoder)] == masks
    assert trained(encoder) == {f"layers.{i}.fc{j}.parametrizations.weight.0.scores" for i in (0, 1) for j in (1, 2)}


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (("layer_norm",), {f"layers.{i}.final_layer_norm.{p}" for i in (0, 1) for p in ("weight", "bias")}),
        (("feature_projection",), {"post_extract_proj.weight", "post_extract_proj.bias"}),
        (("weights",), {f"layers.{i}.fc{j}.parametrizations.weight.original" for i in (0, 1) for j in (1, 2)}),
    ],
)
def test_what_else_trains(encoder, train, expected):
    attach(encoder, MaskConfig(train=train))
    assert {name for name in trained(encoder) if not name.endswith(".scores")} == expected


def test_biases_are_those_of_linears(encoder):
    attach(encoder, MaskConfig(train=("bias",)))
    others = {name for name in trained(encoder) if not name.endswith(".scores")}
    assert "layers.0.fc1.bias" in others
    assert "layers.0.self_attn.q_proj.bias" in others
    assert not any("norm" in name for name in others)
    assert all(name.endswith(".bias") for name in others)


def test_training_what_is_not_there_is_an_error_and_leaves_the_model_alone(encoder):
    before = trained(encoder)
    with pytest.raises(ConfigError, match="'pos_conv' matches no parameter"):
        attach(encoder, MaskConfig(train=("pos_conv",)))
    assert trained(encoder) == before
    assert list(iterate(encoder)) == []


def test_huggingface_extractor_and_positional_convolution():
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    model = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            num_codevector_groups=2,
            conv_bias=True,
        )
    )
    attach(model, MaskConfig(train=("pos_conv", "bias", "layer_norm")))
    names = trained(model)
    assert any("pos_conv_embed" in name for name in names)
    assert not any("feature_extractor" in name for name in names)
    # In training its feature extractor would make its own input require grad.
    assert model.feature_extractor._requires_grad is False
    features = model.train().feature_extractor(torch.randn(1, 1600))
    assert not features.requires_grad
    detach(model)
    assert model.feature_extractor._requires_grad is True


def test_attaching_twice_is_an_error(encoder):
    attach(encoder, MaskConfig())
    with pytest.raises(ConfigError, match="attached already"):
        attach(encoder, MaskConfig(targets=("attention",)))
    with pytest.raises(ConfigError, match="attached already"):
        attach(nn.Sequential(encoder), MaskConfig(targets=("attention",)))


@pytest.mark.parametrize("function", [detach, bake])
def test_taking_off_what_is_not_there_is_an_error(encoder, function):
    with pytest.raises(ConfigError, match="no masks attached"):
        function(encoder)


def test_a_weight_that_is_parametrized_already_is_an_error(encoder):
    parametrize.register_parametrization(encoder.layers[0].fc1, "weight", nn.Identity())
    with pytest.raises(ConfigError, match="parametrized already"):
        attach(encoder, MaskConfig())


@pytest.mark.parametrize(
    "other",
    [
        lambda linear: prune.l1_unstructured(linear, "weight", 0.5),
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
    ],
    ids=["pruned", "spectral norm", "weight norm"],
)
def test_linears_whose_weight_is_computed_are_left_alone_or_an_error(encoder, audio, other):
    other(encoder.post_extract_proj)
    attach(encoder, MaskConfig())
    encoder(audio).sum().backward()
    detach(encoder)
    with pytest.raises(ConfigError, match=r"post_extract_proj.weight: .*parametrized already \(or pruned"):
        attach(encoder, MaskConfig(targets=("projection",)))


@pytest.mark.parametrize(
    ("granularity", "scope"),
    [*((g, s) for g in ("unstructured", "output", "input") for s in ("tensor", "global")), ("2:4", "tensor")],
)
def test_bake_and_detach(encoder, audio, granularity, scope):
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("fc2" not in name)
    plain = copy.deepcopy(encoder)
    attach(encoder, MaskConfig(targets=ALL, granularity=granularity, scope=scope, sparsity=0.5))
    masks = masks_of(encoder)
    output = encoder(audio)
    baked = bake(copy.deepcopy(encoder))
    assert torch.equal(baked(audio), output)
    assert {type(m) for m in baked.modules() if isinstance(m, nn.Linear)} == {nn.Linear}
    for name, parameter in baked.named_parameters():
        if name in masks:
            assert torch.equal(parameter == 0, ~masks[name])
    # Baking the copy has left this one alone.
    assert torch.equal(encoder(audio), output)
    assert detach(encoder) is encoder
    assert {type(m) for m in encoder.modules() if isinstance(m, nn.Linear)} == {nn.Linear}
    for (name, before), (after_name, after) in zip(plain.named_parameters(), encoder.named_parameters(), strict=True):
        assert name == after_name
        assert torch.equal(before, after)
        assert before.requires_grad == after.requires_grad
    assert torch.equal(encoder(audio), plain(audio))
    attach(encoder, MaskConfig())  # and once more


def test_a_baked_2_of_4_mask_is_in_the_pattern_of_sparse_kernels():
    """torch's own packing for GPUs keeps two values of four and where they were: nothing may be lost by it."""
    from torch.sparse._semi_structured_conversions import (
        sparse_semi_structured_from_dense_cutlass,
        sparse_semi_structured_to_dense_cutlass,
    )

    model = nn.ModuleDict({"fc1": nn.Linear(64, 128), "fc2": nn.Linear(128, 64)})  # of sizes that the kernels take
    attach(model, MaskConfig(granularity="2:4", targets=("fc*",)))
    names = list(masks_of(model))
    bake(model)
    assert names == ["fc1.weight", "fc2.weight"]
    for name in names:
        weight = model.get_parameter(name).detach().half()
        values, places = sparse_semi_structured_from_dense_cutlass(weight)
        assert values.shape == (weight.shape[0], weight.shape[1] // 2)
        assert torch.equal(sparse_semi_structured_to_dense_cutlass(values, places), weight), name


def test_exact_counts_with_overrides(encoder):
    config = MaskConfig(sparsity=0.1, targets=ALL, layer_sparsity={1: 0.35}, role_sparsity={"attention": 0.0})
    attach(encoder, config)
    for name, mask in masks_of(encoder).items():
        share = 0.35 if "layers.1" in name else 0.0 if "self_attn" in name else 0.1
        assert int((~mask).sum()) == int(share * mask.numel()), name


def test_exact_count_with_a_global_threshold(encoder):
    attach(encoder, MaskConfig(sparsity=0.1, targets=ALL, scope="global", layer_sparsity={1: 0.5}))
    masks = masks_of(encoder)
    own = {name: mask for name, mask in masks.items() if "layers.1" in name}
    rest = {name: mask for name, mask in masks.items() if name not in own}
    assert all(int((~mask).sum()) == mask.numel() // 2 for mask in own.values())
    assert sum(int((~mask).sum()) for mask in rest.values()) == int(0.1 * sum(mask.numel() for mask in rest.values()))
    # One threshold over random scores of different fan-in: not the same share everywhere.
    assert len({round(mask.float().mean().item(), 3) for mask in rest.values()}) > 1


def test_scores_do_not_depend_on_what_else_is_masked(make_encoder):
    def scores(**config) -> torch.Tensor:
        encoder = make_encoder()
        attach(encoder, MaskConfig(**config))
        return dict(iterate(encoder))["layers.1.fc1.weight"].scores

    torch.manual_seed(123)
    assert torch.equal(scores(), scores(targets=ALL, layers=(1,)))
    assert not torch.equal(scores(), scores(seed=1))


# -- loading ---------------------------------------------------------------------------------------------------------


def test_load_masks_holds_them_fixed(make_encoder, audio):
    source = make_encoder()
    attach(source, MaskConfig(sparsity=0.4))
    masks = masks_of(source)
    plain = make_encoder()
    load_masks(plain, masks)
    assert torch.equal(plain(audio), source(audio))
    assert trained(plain) == set()
    masked = make_encoder()
    attach(masked, MaskConfig(sparsity=0.1, scope="global"))
    load_masks(masked, masks)
    assert torch.equal(masked(audio), source(audio))
    assert trained(masked) == set()
    assert all(torch.equal(masks[name], found) for name, found in masks_of(masked).items())
    masks["layers.0.fc1.weight"].fill_(True)  # what was loaded is a copy
    assert torch.equal(masked(audio), source(audio))
    detach(masked)
    assert torch.equal(masked(audio), make_encoder()(audio))


def test_loaded_masks_with_other_trained_parts(encoder, audio):
    attach(encoder, MaskConfig(train=("layer_norm",)))
    load_masks(encoder, masks_of(encoder))
    encoder(audio).square().sum().backward()
    assert encoder.layers[0].final_layer_norm.weight.grad is not None


@pytest.mark.parametrize("attached", [True, False])
def test_masks_that_do_not_fit_are_an_error(make_encoder, audio, attached):
    encoder = make_encoder()
    attach(encoder, MaskConfig())
    masks = masks_of(encoder)
    if not attached:
        detach(encoder)
    before = encoder(audio)
    wrong = {
        "is no matrix of this model|is not masked here": masks | {"layers.9.fc1.weight": torch.ones(2, 2).bool()},
        "expected shape": masks | {"layers.0.fc1.weight": torch.ones(2, 2).bool()},
        "other than 0 and 1": masks | {"layers.0.fc1.weight": torch.full((16, 8), 0.5)},
    }
    if attached:
        wrong["no mask for"] = {name: mask for name, mask in masks.items() if "fc2" not in name}
    for message, bad in wrong.items():
        with pytest.raises(ConfigError, match=message):
            load_masks(encoder, bad)
    with pytest.raises(ConfigError, match="no mask"):
        load_masks(encoder, {})
    assert torch.equal(encoder(audio), before)


def test_state_dict_into_a_fresh_model(make_encoder, audio):
    encoder = make_encoder()
    attach(encoder, MaskConfig())
    with torch.no_grad():
        for _, mask in iterate(encoder):
            mask.scores.copy_(torch.randn_like(mask.scores))
    fresh = make_encoder()
    attach(fresh, MaskConfig(seed=3))
    assert not torch.equal(fresh(audio), encoder(audio))
    fresh.load_state_dict(encoder.state_dict())
    assert torch.equal(fresh(audio), encoder(audio))


def test_state_dict_with_fixed_masks_and_back(make_encoder, audio):
    fixed = make_encoder()
    attach(fixed, MaskConfig(sparsity=0.4))
    scores = fixed.state_dict()
    expected = fixed(audio)
    load_masks(fixed, masks_of(fixed))
    fresh = make_encoder()
    attach(fresh, MaskConfig(sparsity=0.4, seed=3))
    fresh.load_state_dict(fixed.state_dict())
    assert torch.equal(fresh(audio), expected)
    assert trained(fresh) == set()
    fresh.load_state_dict(scores)  # scores make the masks trainable again
    assert torch.equal(fresh(audio), expected)
    assert len(trained(fresh)) == 4
    wrong = {k: v.float() if k.endswith(".mask") else v for k, v in fixed.state_dict().items()}
    with pytest.raises(CheckpointError, match="expected bool"):
        fresh.load_state_dict(wrong)


@pytest.mark.parametrize("fixed", [True, False])
def test_masks_and_scores_of_another_shape_are_not_loaded(make_encoder, audio, fixed):
    wide, encoder = make_encoder(width=16), make_encoder()
    attach(wide, MaskConfig())
    attach(encoder, MaskConfig())
    load_masks(encoder if fixed else wide, masks_of(encoder if fixed else wide))
    before = encoder(audio)
    with pytest.raises(CheckpointError, match=r"0.fc1.*(scores|mask): expected shape \[16, 8\], found \[32, 16\]"):
        encoder.load_state_dict({k: v for k, v in wide.state_dict().items() if ".weight.0." in k}, strict=False)
    assert torch.equal(encoder(audio), before)


def test_scores_loaded_into_fixed_masks_share_their_threshold_again(encoder):
    attach(encoder, MaskConfig(sparsity=0.3, scope="global", score_init="weight"))
    scores, masks = encoder.state_dict(), masks_of(encoder)
    load_masks(encoder, {name: torch.ones_like(mask) for name, mask in masks.items()})
    assert all(mask.all() for mask in masks_of(encoder).values())
    encoder.load_state_dict(scores)
    assert all(torch.equal(masks[name], found) for name, found in masks_of(encoder).items())


# -- training set-ups ------------------------------------------------------------------------------------------------


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("low", [False, True])
def test_checkpointed_layers(make_encoder, audio, low):
    """Every layer checkpointed, the first masked one too, whose input needs no gradient."""

    def run(checkpointed: bool) -> dict[str, torch.Tensor]:
        encoder = make_encoder()
        attach(encoder, MaskConfig())
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            x = encoder.post_extract_proj(audio)
            for layer in encoder.layers:
                x = checkpoint(layer, x, use_reentrant=False) if checkpointed else layer(x)
            loss = x.float().square().sum()
        loss.backward()
        return gradients(encoder)

    plain, again = run(False), run(True)
    assert len(plain) == 4
    for name, grad in plain.items():
        assert torch.equal(grad, again[name]), name


def test_accumulated_gradients_are_the_sum(make_encoder, audio):
    encoder = make_encoder()
    attach(encoder, MaskConfig())
    encoder(audio).square().sum().backward()
    whole = {name: grad.clone() for name, grad in gradients(encoder).items()}
    encoder.zero_grad()
    for part in audio.split(1):
        encoder(part).square().sum().backward()
    for name, grad in gradients(encoder).items():
        assert torch.allclose(grad, whole[name], atol=1e-5), name


def two_processes(rank: int, folder: str, port: int) -> None:
    """One of two ranks: other scores at first, other audio; DDP makes them agree."""
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    audio = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(rank))
    states = {}
    for name, settings in (("tensor", {}), ("global", {"scope": "global"}), ("resting", {"gradient_rest": 0.5})):
        torch.manual_seed(1)
        encoder = Encoder()
        attach(encoder, MaskConfig(seed=rank, **settings))
        encoder(audio)  # masks of this rank's own scores: to be forgotten when DDP hands out those of rank 0
        model = DistributedDataParallel(
            nn.Sequential(encoder, nn.Linear(8, 2)), find_unused_parameters=name == "resting"
        )
        torch.manual_seed(2 + rank)  # each rank lets others rest
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
        states[name] = [masks_of(model)]
        for _ in range(3):
            optimizer.zero_grad()
            model(audio).square().sum().backward()
            optimizer.step()
            states[name].append(masks_of(model))
    torch.save(states, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_same_masks(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(two_processes, (str(tmp_path), port), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert list(ranks[0]) == ["tensor", "global", "resting"]
    for kind in ranks[0]:
        for first, second in zip(ranks[0][kind], ranks[1][kind], strict=True):
            assert "module.0.layers.0.fc1.weight" in first
            assert all(torch.equal(first[name], second[name]) for name in first)
        start, end = ranks[0][kind][0], ranks[0][kind][-1]
        assert any(not torch.equal(start[name], end[name]) for name in start)
