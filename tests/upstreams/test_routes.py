"""Many mask packs on one backbone, held against single models with the same masks attached."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import random
import threading

import pytest
import torch

from s3router.errors import ConfigError, PackError
from s3router.masks import MaskConfig, attach, masks_of
from s3router.packs import MaskPack, PackMeta, write_pack
from s3router.packs.fingerprint import plain_name
from s3router.upstreams import fingerprint, hub, mask_bits
from s3router.upstreams.mask_bits import pack_mask, write_masked
from s3router.upstreams.thread_choice import ThreadChoice

LANGUAGES = ("es", "en", "ru")
FORMATS = [
    ("hf_hubert_custom", "layer", ("ffn",), ()),
    ("hf_wav2vec2_custom", "group", ("ffn", "attention"), ("bias", "layer_norm", "pos_conv")),
    ("hf_wavlm_custom", "layer", ("ffn", "attention"), ()),
    ("hf_data2vec_custom", "layer", ("ffn",), ("feature_projection",)),
    ("hf_hubert_custom", "layer", ("ffn",), ("weights", "bias")),  # the masked weights are other ones, too
]
S3PRL_FORMATS = [
    ("hubert_custom", "layer_norm", ("ffn", "attention", "projection"), ("bias",)),  # attention reads weights itself
    ("wav2vec2_custom", "default", ("ffn",), ("pos_conv",)),
    ("data2vec_custom", "layer_norm", ("ffn", "attention"), ()),
    ("wavlm_local", "layer_norm", ("ffn", "attention"), ()),
]


def make(name: str, path, targets=("ffn",), train=(), routes=LANGUAGES):
    """(upstream with routes, route -> single model with the same masks attached)."""
    router = hub.build(ckpt=str(path), upstream=name).eval()
    singles = {}
    for seed, route in enumerate(routes):
        single = hub.build(ckpt=str(path), upstream=name).eval()
        config = MaskConfig(sparsity=0.3, targets=targets, train=train, seed=seed, score_init="uniform")
        attach(single.backbone, config)
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in single.backbone.named_parameters():
            if parameter.requires_grad and not key.endswith(".scores"):
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        router.add_route(as_pack(route, single, router.backbone_fingerprint))
        singles[route] = single
    return router, singles


def as_pack(route: str, single, backbone_fingerprint: str) -> MaskPack:
    trained = {
        plain_name(key): parameter.detach().clone()
        for key, parameter in single.backbone.named_parameters()
        if parameter.requires_grad and not key.endswith(".scores")
    }
    meta = PackMeta("test", backbone_fingerprint)
    return MaskPack(route, masks_of(single.backbone), trained, {}, {}, None, meta)


@torch.no_grad()
def run(upstream, wavs, dtype=torch.float32, **options) -> torch.Tensor:
    """All hidden states (layers, B, T, C)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        return torch.stack([h.float() for h in upstream(wavs, **options)["hidden_states"]])


@pytest.fixture(scope="module")
def hubert(hf_folder):
    return make("hf_hubert_custom", hf_folder("hf_hubert_custom"))


@pytest.fixture
def router(hubert):
    """Nothing is selected in it at the beginning."""
    router, _ = hubert
    router.routes._choice = ThreadChoice()
    yield router
    router.routes.working_copies = 1
    router.routes._copies.clear()


def check_equal(router, singles, wavs):
    """In any order of switching, in both arithmetics, bit by bit; and the bare backbone between them."""
    order = [(route, dtype) for route in (*singles, None) for dtype in (torch.float32, torch.bfloat16)] * 2
    random.Random(0).shuffle(order)
    bare = {dtype: run(router, wavs, dtype) for dtype in (torch.float32, torch.bfloat16)}
    expected = {(route, dtype): run(single, wavs, dtype) for route, single in singles.items() for dtype in bare}
    assert len({tuple(e.flatten()[-50:].tolist()) for e in expected.values()}) == len(expected)
    for route, dtype in order:
        with router.using(route):
            found = run(router, wavs, dtype)
        assert torch.equal(found, bare[dtype] if route is None else expected[route, dtype]), (route, dtype)


@pytest.mark.parametrize(("name", "norm", "targets", "train"), FORMATS, ids=lambda v: str(v))
def test_routes_give_what_single_models_give(name, norm, targets, train, hf_folder, wavs):
    router, singles = make(name, hf_folder(name, norm), targets, train)
    router.route(None)
    check_equal(router, singles, wavs)


@pytest.mark.parametrize(("name", "mode", "targets", "train"), S3PRL_FORMATS, ids=lambda v: str(v))
def test_routes_on_s3prl_upstreams(name, mode, targets, train, s3prl_file, wavs):
    router, singles = make(name, s3prl_file(name, mode), targets, train)
    router.route(None)
    check_equal(router, singles, wavs)


def test_mixed_batches_come_in_the_order_of_the_input(router, hubert, wavs):
    """Within 5e-5 of each alone (padding differs); a batch of one route is that route's batch bit by bit."""
    many = [wavs[i] for i in (0, 1, 2, 1, 0, 2)]
    routes = ["es", "ru", None, "en", "ru", "es"]
    mixed = run(router, many, routes=routes)
    for row, (wav, route) in enumerate(zip(many, routes, strict=True)):
        with router.using(route):
            alone = run(router, [wav])
        frames = alone.size(2)
        torch.testing.assert_close(mixed[:, row, :frames], alone[:, 0], atol=5e-5, rtol=0)
        assert torch.equal(mixed[:, row, frames:], mixed[:, row, frames - 1 : frames].expand_as(mixed[:, row, frames:]))
    assert torch.equal(run(router, wavs, routes=["en"] * 3), run(hubert[1]["en"], wavs))
    assert torch.equal(run(router, wavs, routes="en"), run(hubert[1]["en"], wavs))


def test_mixed_batches_begin_with_what_is_ready(router, wavs, monkeypatch):
    made = []
    prepare = router.routes.prepare
    monkeypatch.setattr(router.routes, "prepare", lambda name: made.append(name) or prepare(name))
    for routes in (["es", "en", "ru"], ["en", "es", "ru"], ["es", "en", "es"]):
        run(router, wavs, routes=routes)
    assert made == ["es", "en", "ru", "ru", "en", "es", "es", "en"]


def test_switching_and_going_back(router, hubert, wavs):
    expected = {route: run(single, wavs) for route, single in hubert[1].items()}
    router.route("es")
    with router.using("en"):
        assert torch.equal(run(router, wavs), expected["en"])
        with contextlib.suppress(ZeroDivisionError), router.using("ru"):
            router.route("es")
            assert torch.equal(run(router, wavs), expected["es"])
            _ = 1 / 0
        assert router.routes.selected == "en"
    assert torch.equal(run(router, wavs), expected["es"])


def test_unknown_routes_are_errors_that_list_the_known_ones(router, wavs):
    for call in (
        lambda: router.route("sp"),
        lambda: router.using("sp"),
        lambda: router(wavs, routes="sp"),
        lambda: router(wavs, routes=["es", "sp", "en"]),
        lambda: router.remove_route("sp"),
        lambda: list(router.each_route(wavs, ["sp"])),
    ):
        with pytest.raises(ConfigError, match=r"unknown route 'sp'.*es, en, ru"):
            call()
    with pytest.raises(ConfigError, match="2 routes for 3 waveforms"):
        router(wavs, routes=["es", "en"])


def test_no_route_selected_is_no_silent_bare_backbone(router, wavs):
    with pytest.raises(ConfigError, match=r"no route is selected.*es, en, ru"):
        router(wavs)
    router.route("es")
    problems = []

    def other() -> None:
        try:
            router(wavs)
        except ConfigError as error:
            problems.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "no route is selected" in problems[0]


@pytest.mark.parametrize("copies", [1, 2])
def test_threads_do_not_see_each_others_masks(router, hubert, wavs, copies):
    short = [wav[:1200] for wav in wavs]
    expected = {route: run(single, short) for route, single in hubert[1].items()} | {None: None}
    router.route(None)
    expected[None] = run(router, short)
    router.routes.working_copies = copies
    wrong, begin = [], threading.Barrier(8)

    def hammer(number: int) -> None:
        choice = random.Random(number)
        begin.wait()
        for turn in range(25):
            route = choice.choice([*LANGUAGES, None])
            if turn % 3 == 0:
                found = run(router, short, routes=route if route else [None] * 3)
            elif turn % 3 == 1:
                with router.using(route):
                    found = run(router, short)
            else:
                router.route(route)
                found = run(router, short)
            if not torch.equal(found, expected[route]):
                wrong.append((number, turn, route))

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(router.routes._copies) == copies


def test_asyncio_tasks_have_their_own_routes(router):
    async def task(route: str) -> list:
        seen = []
        with router.using(route):
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(router.routes.selected)
        return seen

    async def both() -> list:
        return await asyncio.gather(task("es"), task("en"))

    assert asyncio.run(both()) == [["es"] * 3, ["en"] * 3]


def test_memory_is_bits_and_one_working_copy(hf_folder, wavs):
    router, singles = make("hf_hubert_custom", hf_folder(), routes=[f"r{n}" for n in range(11)])
    masked = sum(mask.numel() for mask in masks_of(singles["r0"].backbone).values())
    for route in singles:
        run(router, wavs, routes=route)
    assert router.routes.nbytes == {"routes": 11 * masked // 8, "working": 4 * masked}
    run(router, wavs, torch.bfloat16, routes="r3")
    assert router.routes.nbytes["working"] == 2 * masked
    router.routes.working_copies = 3
    for route in singles:
        run(router, wavs, routes=route)
    assert router.routes.nbytes["working"] == 3 * 4 * masked
    router.routes.working_copies, router.routes.working_bytes = 1, 5 * 4 * masked + 1
    for route in singles:
        run(router, wavs, routes=route)
    assert router.routes.nbytes["working"] == 5 * 4 * masked
    assert router.routes.ready == ("r6", "r7", "r8", "r9", "r10")


def test_what_is_forgotten_leaves_the_others_ready_and_its_memory_to_the_next(router, hubert, wavs):
    singles, router = hubert[1], copy.deepcopy(router)
    router.routes.working_copies = 2
    for route in ("es", "en"):
        run(router, wavs, routes=route)
    of_es, of_en = router.routes.prepare("es"), router.routes.prepare("en")
    router.remove_route("es")
    assert router.routes.ready == ("en",)
    router.add_route(as_pack("es", singles["en"], router.backbone_fingerprint))  # other masks of the same name
    assert router.routes.ready == ("en",)
    assert torch.equal(run(router, wavs, routes="es"), run(singles["en"], wavs))
    assert torch.equal(run(router, wavs, routes="en"), run(singles["en"], wavs))
    for before, route in ((of_es, "es"), (of_en, "en")):
        now = router.routes.prepare(route)
        assert {name: t.data_ptr() for name, t in now.items()} == {name: t.data_ptr() for name, t in before.items()}


def test_the_backbone_is_untouched(router, hubert, hf_folder, wavs):
    before = hub.build(ckpt=str(hf_folder()), upstream="hf_hubert_custom")
    run(router, wavs, routes="es")
    assert fingerprint(router) == router.backbone_fingerprint
    expected, found = before.state_dict(), router.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[key], found[key]) for key in expected)

    single = copy.deepcopy(router)
    backbone = single.detach()
    assert backbone is single.backbone
    assert single.routes.names == ()
    assert [p.requires_grad for p in before.parameters()] == [p.requires_grad for p in single.parameters()]
    assert fingerprint(backbone) == router.backbone_fingerprint
    assert torch.equal(run(single, wavs), run(before.eval(), wavs))
    assert single.routes.nbytes == {"routes": 0, "working": 0}


def test_a_backbone_with_routes_is_frozen(hf_folder, hubert):
    """torch rounds products with trainable weights differently on some processors, also where no gradients are kept."""
    router = hub.build(ckpt=str(hf_folder()), upstream="hf_hubert_custom")
    before = [p.requires_grad for p in router.parameters()]
    assert any(before)
    for route in ("es", "en"):
        router.add_route(as_pack(route, hubert[1][route], router.backbone_fingerprint))
        assert not any(p.requires_grad for p in router.parameters())
    router.remove_route("es")
    assert not any(p.requires_grad for p in router.parameters())
    router.remove_route("en")
    assert [p.requires_grad for p in router.parameters()] == before


def test_a_failing_forward_pass_leaves_the_backbone_as_it_was(router):
    with pytest.raises(Exception, match=r".+"):
        router([torch.zeros(3, 3, 3)], routes="es")
    assert fingerprint(router) == router.backbone_fingerprint
    assert all(isinstance(p, torch.nn.Parameter) for p in router.parameters())


def test_copies_have_routes_of_their_own(router, hubert, wavs):
    router.route("es")
    other = copy.deepcopy(router)
    assert other.routes.selected == "es"
    other.route("en")
    other.remove_route("ru")
    assert router.routes.selected == "es"
    assert router.routes.names == LANGUAGES
    for route, single in hubert[1].items():
        assert torch.equal(run(router, wavs, routes=route), run(single, wavs))
    assert torch.equal(run(other, wavs), run(hubert[1]["en"], wavs))


def test_choices_are_copied_within_a_thread_and_never_pickled():
    choice = ThreadChoice()
    assert not copy.deepcopy(choice).made
    choice.set("es")
    other = copy.deepcopy(choice)
    choice.set("en")
    assert (other.current, choice.current) == ("es", "en")
    assert not pickle.loads(pickle.dumps(choice)).made


def test_a_removed_route_is_unknown_at_once(router, wavs):
    other = copy.deepcopy(router)
    other.route("ru")
    other.remove_route("ru")
    with pytest.raises(ConfigError, match=r"unknown route 'ru'.*es, en"):
        other(wavs)


def test_the_outline_needs_no_route(router, wavs):
    other = copy.deepcopy(router)
    other.__dict__.pop("outline", None)
    other.routes._choice = ThreadChoice()
    states = run(router, wavs, routes="es")
    assert other.outline == (len(states), states.size(-1))


def test_moved_backbones_are_followed_and_changed_ones_refused(router, wavs):
    other = copy.deepcopy(router)
    other.route("es")
    single = run(other, wavs)
    other.double()
    with torch.no_grad():
        found = other([wav.double() for wav in wavs])["last_hidden_state"]
    torch.testing.assert_close(found.float(), single[-1], atol=2e-4, rtol=0)
    other.float()
    torch.testing.assert_close(run(other, wavs), single)
    other.load_state_dict(other.state_dict())
    with pytest.raises(PackError, match=r"encoder\.layers.*was changed after the routes were added"):
        other(wavs)
    other.route(None)
    attach(other.backbone, MaskConfig(sparsity=0.1))
    with pytest.raises(PackError, match=r"encoder\.layers.*was changed after the routes were added"):
        other(wavs, routes="es")


def test_weights_that_were_changed_before_the_first_pack_have_another_fingerprint(hubert, hf_folder):
    other = hub.build(ckpt=str(hf_folder()), upstream="hf_hubert_custom")
    pack = as_pack("es", hubert[1]["es"], other.backbone_fingerprint)
    with torch.no_grad():
        other.backbone.encoder.layers[1].layer_norm.weight.mul_(2)
    with pytest.raises(PackError, match="for another backbone"):
        other.add_route(pack)
    with torch.no_grad():
        other.backbone.encoder.layers[1].layer_norm.weight.mul_(0.5)
    other.add_route(pack)


def test_packs_that_do_not_fit_are_refused(router, hubert, hf_folder, tmp_path):
    pack = as_pack("fr", hubert[1]["es"], router.backbone_fingerprint)

    def but(**changes) -> MaskPack:
        return MaskPack(**{**vars(pack), **changes})

    first, mask = next(iter(pack.masks.items()))
    for wrong, message in (
        (but(route="es"), "route 'es' is there already"),
        (but(meta=PackMeta("x", "0" * 32)), "for another backbone"),
        (but(masks={"encoder.none": mask}), r"no encoder\.none"),
        (but(masks={first: mask[1:]}), "no encoder"),
        (but(delta={"feature_extractor.conv_layers.0.conv.weight": torch.zeros(8, 1, 10)}), "share the feature extr"),
    ):
        with pytest.raises((ConfigError, PackError), match=message):
            router.add_route(wrong)
    attached = hub.build(ckpt=str(hf_folder()), upstream="hf_hubert_custom", mask={"sparsity": 0.1})
    with pytest.raises(ConfigError, match="masks attached"):
        attached.add_route(pack)
    assert router.routes.names == LANGUAGES
    path = tmp_path / "fr.pack"
    write_pack(path, pack)
    other = copy.deepcopy(router)
    assert other.add_route(path) == "fr"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackError, match=r"fr\.pack"):
        other.add_route(path)


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_the_convolutions_are_computed_once_for_all_routes(norm, hf_folder, wavs):
    router, singles = make("hf_hubert_custom", hf_folder(norm=norm))
    calls = []
    router.backbone.feature_extractor.conv_layers[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        found = {route: out["hidden_states"] for route, out in router.each_route(wavs, LANGUAGES)}
    assert len(calls) == (1 if norm == "layer" else 3)  # group norm: once a length
    for route, single in singles.items():
        assert torch.equal(torch.stack(found[route]), run(single, wavs))
    run(router, wavs, routes="es")
    assert len(calls) == (2 if norm == "layer" else 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (512, 300)])  # the last one in more than one block
def test_masked_weights_are_exact(dtype, shape, monkeypatch):
    monkeypatch.setattr(mask_bits, "_BLOCK", 1 << 12)
    weight, mask = torch.randn(shape), torch.rand(shape) > 0.4
    out = torch.full(shape, float("nan"), dtype=dtype)
    version = out._version
    write_masked(weight, pack_mask(mask), out)
    expected = weight.to(dtype).masked_fill(~mask, 0)
    assert torch.equal(out, expected)
    assert not torch.signbit(out[~mask]).any()
    assert out._version > version


def test_weights_at_any_place_of_a_larger_tensor():
    weight, mask, out = torch.randn(65)[1:].view(8, 8), torch.rand(8, 8) > 0.4, torch.empty(8, 8)
    write_masked(weight, pack_mask(mask), out)
    assert torch.equal(out, weight.masked_fill(~mask, 0))


def test_gradients_through_a_working_copy_that_was_taken_over_are_refused(router, wavs):
    wav = wavs[0].clone().requires_grad_()
    hidden = router([wav], routes="es")["last_hidden_state"]
    run(router, wavs, routes="en")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hidden.sum().backward()
