"""All trained models of a set of packs on one backbone, held against the ESPnet models that training left."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from s3router.asr.ctc_decode import emissions
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, PackError

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"


@pytest.fixture(scope="module")
def singles(route_experiments, upstream_in_place) -> dict:
    """The trained models, the slow independent way."""
    from s3router.asr.experiment import ASRExperiment

    return {route: ASRExperiment(exp).model() for route, exp in route_experiments.items()}


@pytest.fixture(scope="module")
def model(route_packs, upstream_in_place):
    from s3router.serving.loading import load_routes

    return load_routes(route_packs)


@pytest.fixture(scope="module")
def waves(upstream_in_place) -> list:
    read = [read_audio(utt.source) for utt in DataDir.read(FIVE).utts]
    return [*read, read[0][:3000]]


@pytest.mark.parametrize("bf16", [False, True])
def test_equal_to_the_trained_models_bit_by_bit(model, singles, waves, bf16):
    inputs = [torch.from_numpy(wave) for wave in waves]
    turns = list(singles) * 2
    random.Random(1).shuffle(turns)
    for route in turns:
        expected, lengths = emissions(singles[route], waves, bf16=bf16)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = model.log_probs(inputs, route)
        assert [len(f) for f in found] == lengths.tolist()
        for row, values in enumerate(found):
            assert torch.equal(values, expected[row, : lengths[row]]), route


def test_very_short_recordings_too(model, singles, waves):
    short = [waves[0][:450], waves[1][:500]]
    expected, lengths = emissions(singles["it"], short)
    found = model.log_probs([torch.from_numpy(wave) for wave in short], "it")
    assert [len(f) for f in found] == lengths.tolist()
    assert all(torch.equal(f, e[: len(f)]) for f, e in zip(found, expected, strict=True))


def test_mixed_batches(model, singles, waves):
    """Each utterance under its own route: float32 noise against the single model alone (the largest seen is 4e-6)."""
    routes = ["it", "ru", "es", "fr.CA", "it", "ru"]
    found = model.log_probs([torch.from_numpy(wave) for wave in waves], routes)
    for values, wave, route in zip(found, waves, routes, strict=True):
        expected, _ = emissions(singles[route], [wave])
        torch.testing.assert_close(values, expected[0], atol=5e-5, rtol=0)


def test_every_route_of_one_batch(model, singles, waves):
    calls = []
    hook = model.upstream.backbone.feature_extractor.conv_layers[0].register_forward_hook(lambda *_: calls.append(1))
    inputs = [torch.from_numpy(wave) for wave in waves]
    with torch.inference_mode():
        found = {route: log_probs for route, log_probs, _ in model.each_route(inputs, list(singles))}
    hook.remove()
    assert len(calls) == 1
    for route, log_probs in found.items():
        assert torch.equal(log_probs, emissions(singles[route], waves)[0])


def test_routes_come_and_go(route_packs, upstream_in_place, waves):
    from s3router.serving.loading import load_routes

    model = load_routes(route_packs[:2], "tiny")
    assert model.routes == ("es", "fr.CA")
    wave = [torch.from_numpy(waves[0])]
    with pytest.raises(ConfigError, match=r"unknown route 'it'.*es, fr\.CA"):
        model.log_probs(wave, "it")
    assert model.add(route_packs[2]) == "it"
    model.log_probs(wave, "it")
    model.remove("fr.CA")
    with pytest.raises(ConfigError, match=r"unknown route 'fr\.CA'.*es, it"):
        model.log_probs(wave, ["fr.CA"])
    with pytest.raises(ConfigError, match="is there already"):
        model.add(route_packs[0])
    with pytest.raises(ConfigError, match="no packs given"):
        load_routes([])
    model.upstream.add_route(route_packs[3])
    with pytest.raises(ConfigError, match="'ru' was added to the upstream alone and has no head"):
        model.log_probs(wave, "ru")
    model.remove("ru")
    assert model.routes == ("es", "it")


def test_heads_stay_in_float32_when_the_model_is_cast(route_packs, upstream_in_place, waves):
    from s3router.serving.loading import load_routes

    model, wave = load_routes(route_packs[:1]), torch.from_numpy(waves[0])
    expected = model.log_probs([wave], "es")[0]
    model.bfloat16()
    assert all(tensor.dtype == torch.float32 for tensor in model.head("es").buffers())
    with torch.autocast("cpu", torch.bfloat16):
        found = model.log_probs([wave], "es")[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.2, rtol=0.1)


def test_packs_that_cannot_transcribe(route_packs, upstream_in_place, tmp_path):
    import dataclasses

    from s3router.packs import read_pack, write_pack
    from s3router.serving.loading import load_routes

    model = load_routes(route_packs[:1])
    pack = dataclasses.replace(read_pack(route_packs[1]), route="new")
    meta = dataclasses.replace(pack.meta, preprocessing={"features": "weighted", "token_type": "bpe"})
    weighted = dataclasses.replace(pack.meta, preprocessing={"features": "weighted"})
    bpe = dataclasses.replace(pack, meta=meta, bpe_model=b"no sentencepiece model")
    for wrong in (
        dataclasses.replace(pack, tokens=None),
        dataclasses.replace(pack, meta=dataclasses.replace(pack.meta, preprocessing={"features": "third"})),
        bpe,
        dataclasses.replace(bpe, bpe_model=b""),
        dataclasses.replace(pack, head={**pack.head, "weight": pack.head["weight"][:, :5]}),
        dataclasses.replace(pack, featurizer={"weights": torch.zeros(99)}, meta=weighted),
    ):
        with pytest.raises(PackError, match="route 'new'"):
            model.add(wrong)
    assert model.routes == ("es",)
    meta = dataclasses.replace(pack.meta, backbone="hf_hubert_custom", checkpoint="my-model")
    write_pack(tmp_path / "new.pack", dataclasses.replace(pack, meta=meta))
    with pytest.raises(ConfigError, match=r"new\.pack is for .* checkpoint that was called my-model; say where"):
        load_routes([tmp_path / "new.pack"])
