"""Packs of whole recognisers, beside packs of their encoder, on one resident model."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.recordings import find_recordings
from s3router.data.words import joined
from s3router.errors import ConfigError, PackError
from s3router.masks import MaskConfig, attach, masks_of
from s3router.packs import MaskPack, PackMeta, read_pack, write_pack
from s3router.packs.merging import merge
from s3router.seq2seq.decode import listen, listening_of
from s3router.seq2seq.experiment import Seq2SeqExperiment
from s3router.serving.identify_first import transcribe_identified
from s3router.serving.language_classifier import LanguageClassifier
from s3router.serving.loading import load_routes, pack_of_folder
from s3router.serving.reading import WaveReader
from s3router.serving.routed_model import RoutedModel
from s3router.serving.transcribe import Transcript, hear, transcribe
from s3router.upstreams.hub import build
from tests.asr.conftest import FIVE
from tests.upstreams.test_adapter_routes import SETTINGS, random_adapter
from tests.upstreams.whisper_files import START, huggingface_folder, small_whisper

UTTS = find_recordings([str(FIVE)])
OPTIONS = BatchOptions(batch_seconds=20.0)
TOKENS = ("<blank>", "<unk>", "a", "b", "c", "<sos/eos>")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    return huggingface_folder(small_whisper(), tmp_path_factory.mktemp("whisper") / "small")


@pytest.fixture(scope="module", autouse=True)
def in_place():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(FIVE.parents[2])
        yield


@pytest.fixture(scope="module")
def experiments(whisper, tmp_path_factory) -> dict[str, Path]:
    """Method -> folder of a short training."""
    from s3router.seq2seq.options import read_options
    from s3router.seq2seq.train import train

    root = tmp_path_factory.mktemp("seq2seq")
    rates = {"router": ["--score_lr", "3e-1", "--sparsity", "0.3"], "weight": ["--weight_lr", "1e-2"]}
    rates["houlsby"] = ["--adapter_lr", "1e-1"]
    for method, more in rates.items():
        argv = ["--train_dir", str(FIVE), "--valid_dir", str(FIVE), "--output_dir", str(root / method)]
        argv += ["--upstream", "auto", "--upstream_ckpt", str(whisper), "--language", "it", "--method", method]
        train(read_options([*argv, "--max_updates", "2", "--batch_size", "3", "--amp_dtype", "float32", *more]))
    return {method: root / method for method in rates}


def encoder_pack(whisper: Path, route: str, seed: int) -> MaskPack:
    """Masks and a CTC head at random, as training on the encoder leaves them."""
    upstream = build(upstream="auto", ckpt=str(whisper))
    generator = torch.Generator().manual_seed(seed)
    attach(upstream.backbone, MaskConfig(sparsity=0.2, seed=seed))
    meta = PackMeta(
        "auto",
        upstream.backbone_fingerprint,
        whisper.name,
        preprocessing={"sample_rate": 16000, "features": "last", "token_type": "char"},
    )
    head = {"weight": torch.randn(len(TOKENS), 64, generator=generator)}
    return MaskPack(route, masks_of(upstream.backbone), {}, {}, head, TOKENS, meta)


def whole_pack(whisper: Path, route: str, language: str, seed: int) -> MaskPack:
    """Masks at random over encoder and decoder."""
    from s3router.upstreams.whisper_recogniser import load_recogniser

    recogniser = load_recogniser("auto", str(whisper))
    attach(recogniser.model, MaskConfig(sparsity=0.2, targets=("*.fc1", "*.fc2", "*encoder_attn.q_proj"), seed=seed))
    given = {"kind": "seq2seq", "sample_rate": 16000, "language": language, "max_tokens_per_second": 9.0}
    meta = PackMeta("auto", recogniser.fingerprint, whisper.name, preprocessing=given)
    return MaskPack(route, masks_of(recogniser.model), {}, {}, {}, None, meta)


def whole_adapter_pack(whisper: Path, route: str, method: str) -> MaskPack:
    """An adapter at random behind or in feed-forward and attention layers of encoder and decoder."""
    from s3router.upstreams.whisper_recogniser import load_recogniser

    plain = whole_pack(whisper, route, "yo", 5)
    layers = [
        f"model.{stack}.layers.1.{kind}" for stack in ("encoder", "decoder") for kind in ("fc2", "self_attn.out_proj")
    ]
    adapter = random_adapter(load_recogniser("auto", str(whisper)).model, method, [*layers, CROSS])
    meta = dataclasses.replace(plain.meta, adapter=SETTINGS[method])
    return dataclasses.replace(plain, masks={}, adapter=adapter, meta=meta)


CROSS = "model.decoder.layers.0.encoder_attn.v_proj"


@pytest.fixture(scope="module")
def packs(whisper, experiments, tmp_path_factory) -> dict[str, Path]:
    from s3router.cli import main

    folder = tmp_path_factory.mktemp("packs")
    assert main(["pack", str(experiments["router"]), "-o", str(folder / "it.pack"), "--codec", "coded"]) == 0
    write_pack(folder / "yo.pack", whole_pack(whisper, "yo", "yo", 5))
    for seed, route in enumerate(("es", "ru")):
        write_pack(folder / f"{route}.pack", encoder_pack(whisper, route, seed))
    return {route: folder / f"{route}.pack" for route in ("it", "es", "yo", "ru")}


@pytest.fixture(scope="module")
def model(whisper, packs) -> RoutedModel:
    return load_routes(list(packs.values()), ckpt=str(whisper))


def texts_alone(exp: Path, options: BatchOptions = OPTIONS) -> dict[int, tuple[str, float]]:
    experiment = Seq2SeqExperiment(exp)
    how = listening_of(experiment, batch_seconds=options.batch_seconds)
    found = dict(listen(experiment.recogniser(), UTTS, how))
    return {index: (one.text, one.confidence) for index, one in found.items()}


def texts(model: RoutedModel, route: str) -> dict[int, tuple[str, float]]:
    return {index: (heard[route].text, heard[route].confidence) for index, heard in hear(model, UTTS, [route], OPTIONS)}


def test_both_kinds_share_one_encoder(model):
    encoder = model.whole.model.model.encoder
    assert all(a is b for a, b in zip(encoder.layers, model.upstream.backbone.layers, strict=True))
    assert model.routes == ("es", "ru", "it", "yo")
    assert set(model.transcribing) == {"es", "ru", "it", "yo"}


def test_text_is_that_of_the_trained_model(model, experiments):
    expected = texts_alone(experiments["router"])
    assert any(text for text, _ in expected.values())
    assert texts(model, "it") == expected
    assert texts(model, "yo") != expected


def test_encoder_routes_are_what_they_are_alone(model, whisper, packs):
    alone = RoutedModel(build(upstream="auto", ckpt=str(whisper)))
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (16000, 7000)]
    for route in ("es", "ru"):
        alone.add(packs[route])
        texts(model, "yo")  # in between
        for ours, theirs in zip(model.log_probs(waves, route), alone.log_probs(waves, route), strict=True):
            assert torch.equal(ours, theirs)


def test_routes_of_both_kinds_on_threads(model):
    expected, waves = texts(model, "it"), [torch.randn(9000, generator=torch.Generator().manual_seed(1))]
    log_probs = model.log_probs(waves, "es")[0]
    found: dict[str, list] = {"it": [], "es": []}

    def whole() -> None:
        found["it"] += [texts(model, "it") for _ in range(2)]

    def ctc() -> None:
        found["es"] += [model.log_probs(waves, "es")[0] for _ in range(20)]

    threads = [threading.Thread(target=target) for target in (whole, ctc)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["it"] == [expected] * 2
    assert len(found["es"]) == 20
    assert all(torch.equal(one, log_probs) for one in found["es"])


def test_finetuned_weights_as_a_route(whisper, experiments):
    """The output layer, which is the embedding, changes with it."""
    pack = pack_of_folder(experiments["weight"])
    assert "model.decoder.embed_tokens.weight" in pack.delta
    model = load_routes([experiments["weight"], experiments["router"]])
    assert texts(model, "weight") == texts_alone(experiments["weight"])
    assert texts(model, "router") == texts_alone(experiments["router"])


@pytest.mark.parametrize("method", ["dora", "houlsby"])
@torch.inference_mode()
def test_adapters_of_whole_recognisers(model, whisper, tmp_path, method):
    """Beside masks and CTC on one resident model; what generates does so under the adapter alone."""
    pack = whole_adapter_pack(whisper, method, method)
    write_pack(tmp_path / "x.pack", pack, "bits", model.whole.model)
    before = texts(model, "it")
    model.add(tmp_path / "x.pack")
    try:
        found = texts(model, method)
        assert found != texts(model, "yo")
        assert texts(model, method) == found
        assert texts(model, "it") == before
        alone = load_routes([tmp_path / "x.pack"], ckpt=str(whisper))
        assert texts(alone, method) == found
        if method == "dora":
            bare = load_routes([tmp_path / "x.pack"], ckpt=str(whisper))
            merge(bare.whole.model, pack)
            inputs = {"input_features": torch.randn(1, 80, 3000), "decoder_input_ids": torch.tensor([[START, 4, 5]])}
            with model.whole.routes.applied(method):
                under = model.whole.model(**inputs).logits
            assert torch.equal(under, bare.whole.model(**inputs).logits)
    finally:
        model.remove(method)


def test_a_trained_adapter_as_a_pack(model, experiments, tmp_path):
    from s3router.cli import main

    path = tmp_path / "houlsby.pack"
    assert main(["pack", str(experiments["houlsby"]), "-o", str(path), "--float32"]) == 0
    assert path.stat().st_size < 200_000
    model.add(path)
    try:
        found = texts(model, "houlsby")
    finally:
        model.remove("houlsby")
    assert found == texts_alone(experiments["houlsby"])
    assert found != texts(model, "it")


def test_weights_in_half_precision_as_a_pack(whisper, experiments, tmp_path):
    from s3router.cli import main

    sizes = {}
    for name, options in (("half", []), ("wide", ["--float32"])):
        path = tmp_path / f"{name}.pack"
        assert main(["pack", str(experiments["weight"]), "-o", str(path), *options]) == 0
        sizes[name] = path.stat().st_size
    wide, half = (read_pack(tmp_path / f"{name}.pack") for name in ("wide", "half"))
    assert sizes["half"] < 0.6 * sizes["wide"]
    for name, tensor in wide.delta.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(half.delta[name], tensor.half())
    model = load_routes([tmp_path / "wide.pack", tmp_path / "half.pack"], ckpt=str(whisper))
    assert texts(model, "wide") == texts_alone(experiments["weight"])
    scores = [{index: score for index, (_, score) in texts(model, name).items()} for name in ("half", "wide")]
    assert scores[0] == pytest.approx(scores[1], abs=2e-2)


def test_the_surest_of_both_kinds(model):
    found = dict(transcribe(model, UTTS, ["es", "it", "yo"], OPTIONS))
    assert sorted(found) == list(range(len(UTTS)))
    alone = {route: texts(model, route) for route in ("it", "yo")}
    for index, transcript in found.items():
        assert set(transcript.scores) == {"es", "it", "yo"}
        assert transcript.scores["it"] == pytest.approx(alone["it"][index][1]) or not alone["it"][index][0]
        if transcript.route in alone:
            assert transcript.text == alone[transcript.route][index][0]


def test_several_ways_of_hearing_take_turns(model, monkeypatch):
    """The first texts are there before the last recordings are read, and each is read once."""
    expected = dict(transcribe(model, UTTS, ["es", "it", "yo"], OPTIONS))
    longest = max(utt.duration for utt in UTTS)
    monkeypatch.setattr("s3router.serving.transcribe.GROUP", longest / OPTIONS.batch_seconds)
    reader, reads = WaveReader(UTTS, model.receptive_field), []

    def read(index: int) -> np.ndarray:
        reads.append(index)
        return reader(index)

    found, when = {}, []
    for index, heard in hear(model, UTTS, ["es", "it", "yo"], OPTIONS, read=read):
        found[index] = heard
        when.append(len(reads))
    assert sorted(reads) == sorted(found) == list(range(len(UTTS)))
    assert when[0] < len(UTTS)
    for index, transcript in expected.items():
        assert found[index][transcript.route].text == transcript.heard.text


def identified(model: RoutedModel, routes: Sequence[str], **more) -> Iterator[tuple[int, Transcript]]:
    """`transcribe_identified` by a classifier at random."""
    weights = np.random.default_rng(0).normal(size=(len(routes), 128)).astype(np.float32)
    flat = (np.zeros(128, np.float32), np.ones(128, np.float32), weights, np.zeros(len(routes), np.float32))
    classifier = LanguageClassifier(tuple(routes), 1, *flat, "auto", None, model.upstream.backbone_fingerprint, {})
    return transcribe_identified(model, UTTS, routes, classifier, OPTIONS, **more)


def test_a_language_classifier_asks_before(model):
    found = dict(identified(model, ("it", "yo")))
    assert sorted(found) == list(range(len(UTTS)))
    for route in {transcript.route for transcript in found.values()}:
        alone = dict(transcribe(model, UTTS, [route], OPTIONS))
        assert all(one.text == alone[index].text for index, one in found.items() if one.route == route)


def surest(model: RoutedModel, routes: Sequence[str], **more) -> Iterator[tuple[int, Transcript]]:
    return transcribe(model, UTTS, routes, OPTIONS, **more)


@pytest.mark.parametrize("find", [surest, identified])
@pytest.mark.parametrize("routes", [("es", "ru"), ("it", "yo")])
def test_words_with_times_of_both_kinds(model, find, routes):
    plain, found = dict(find(model, routes)), dict(find(model, routes, words=True))
    assert any(transcript.text for transcript in found.values())
    for index, transcript in found.items():
        tokens = model.text_head(transcript.route).tokens
        words = transcript.heard.timed(model.text_head(transcript.route), model.stride, transcript.seconds)
        assert joined(words) == transcript.text == plain[index].text
        assert transcript.scores == plain[index].scores
        assert all(0 <= word.start <= word.end <= transcript.seconds + 0.02 for word in words)
        assert plain[index].heard.words is None
        assert transcript.heard.words == (words if tokens is None else None)


def test_commands(packs, whisper, experiments, tmp_path, capsys):
    from s3router.cli import main

    routes = ["--routes", *map(str, packs.values()), "--upstream-ckpt", str(whisper), "--batch-seconds", "20"]
    assert main(["transcribe", *routes, "--lang", "it", "--json", str(FIVE)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == [
        text for _, (text, _) in sorted(texts_alone(experiments["router"]).items())
    ]

    assert main(["transcribe", *routes, "--score", f"it={FIVE}", f"es={FIVE}", "--output-dir", str(tmp_path)]) == 0
    assert "it: WER" in capsys.readouterr().out
    written = (tmp_path / "decode_it" / "text").read_text().splitlines()
    assert [line.partition(" ")[2] for line in written] == [line["text"] for line in lines]

    store = tmp_path / "it.pack"
    store.write_bytes(packs["it"].read_bytes())
    only = ["--routes", str(store), "--upstream-ckpt", str(whisper)]
    assert main(["langid", *only, "--dev", f"it={FIVE}", "--store"]) == 0
    assert load_routes([store], ckpt=str(whisper)).text_head("it").usual_confidence < 0

    capsys.readouterr()
    assert main(["inspect", str(store)]) == 0
    page = capsys.readouterr().out
    assert "for          a whole recogniser, encoder and decoder" in page
    assert "language it" in page
    assert "decoder 1" in page


def test_recordings_that_cannot_be_read_are_left_out(packs, whisper, tmp_path, capsys):
    from s3router.cli import main

    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    routes = ["--routes", str(packs["it"]), "--upstream-ckpt", str(whisper)]
    status = main(["transcribe", *routes, "--skip-bad", str(tmp_path / "bad.wav"), UTTS[0].source])
    found = capsys.readouterr()
    assert (status, len(found.out.splitlines())) == (1, 1)
    assert "bad.wav" in found.err


def test_routes_come_and_go(whisper, packs):
    model = load_routes([packs["it"], packs["es"]], ckpt=str(whisper))
    with pytest.raises(ConfigError, match="'it' is there already"):
        model.add(encoder_pack(whisper, "it", 0))
    model.remove("it")
    assert model.routes == ("es",)
    with pytest.raises(ConfigError, match="unknown route 'it'"):
        model.text_head("it")
    model.add(packs["it"])
    assert model.transcribing == ("es", "it")


def test_packs_of_one_kind_on_the_other(packs, whisper, tmp_path, small_upstream, monkeypatch):
    def refused(error: type[Exception], sources: list[Path], upstream: str, ckpt: str | None, *words: str) -> None:
        with pytest.raises(error) as caught:
            load_routes(sources, upstream, ckpt)
        message = str(caught.value)
        assert all(word in message for word in words), message
        assert "\n" not in message

    monkeypatch.setenv("S3ROUTER_TINY", str(small_upstream))
    refused(ConfigError, [packs["it"]], "tiny", None, "it.pack is for a whole recogniser", "needs a Whisper")
    refused(PackError, [packs["es"]], "tiny", None, "another backbone")
    other = huggingface_folder(small_whisper(seed=9), tmp_path / "other")
    refused(PackError, [packs["it"]], "auto", str(other), "another backbone")
    refused(PackError, [packs["es"]], "auto", str(other), "another backbone")
    alone = RoutedModel(build(upstream="auto", ckpt=str(whisper)))
    with pytest.raises(PackError, match=r"for a whole recogniser.*an encoder alone"):
        alone.add(packs["it"])
    with pytest.raises(ConfigError, match="of a whole recogniser"):
        load_routes([packs["it"]], ckpt=str(whisper)).log_probs([torch.zeros(800)], "it")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language": "de"}, "route 'yo': language 'de' is none"),
        ({"language": 3}, "is not known"),
        ({"max_tokens_per_second": None}, "is not known"),
        ({"sample_rate": 8000}, "is not known"),
        ({"window_step": 31}, "is not known"),
        ({"normalize": "other"}, "is not known"),
    ],
)
def test_packs_with_unknown_settings(whisper, changes, message):
    from s3router.serving.loading import whole_model

    model = whole_model("auto", str(whisper), "here")
    pack = whole_pack(whisper, "yo", "yo", 0)
    meta = dataclasses.replace(pack.meta, preprocessing={**pack.meta.preprocessing, **changes})
    with pytest.raises(PackError, match=message):
        model.add(dataclasses.replace(pack, meta=meta))
    assert model.routes == ()


def test_a_pack_of_a_whole_recogniser_holds_masks_alone(packs, whisper, experiments):
    from s3router.upstreams.whisper_recogniser import load_recogniser

    recogniser = load_recogniser("auto", str(whisper))
    pack = read_pack(packs["it"], recogniser.model)
    assert pack.meta.whole
    assert (pack.tokens, pack.meta.labels, pack.head, pack.featurizer, pack.delta) == (None, None, {}, {}, {})
    assert all(name.startswith(("model.encoder.layers.", "model.decoder.layers.")) for name in pack.masks)
    assert pack.meta.training["task"] == "seq2seq"


def test_a_classifier_finds_the_language_for_routes_of_both_kinds(model):
    """Whatever it finds, the text is that of the route that it found."""
    import numpy as np

    from s3router.serving.identify_first import transcribe_identified
    from s3router.serving.language_classifier import LanguageClassifier, pooled

    routes, waves = ("it", "es", "yo"), [torch.randn(8000).numpy() for _ in range(2)]
    width = pooled(model.upstream, waves, 1).shape[-1]
    weight = np.random.default_rng(0).standard_normal((3, width)).astype(np.float32)
    plain = np.zeros(width, np.float32), np.ones(width, np.float32)
    fingerprint = model.upstream.backbone_fingerprint
    classifier = LanguageClassifier(routes, 1, *plain, weight, np.zeros(3, np.float32), "auto", None, fingerprint, {})
    found = dict(transcribe_identified(model, UTTS, routes, classifier, OPTIONS))
    assert sorted(found) == list(range(len(UTTS)))
    for route in {transcript.route for transcript in found.values()}:
        alone = dict(transcribe(model, UTTS, [route], OPTIONS))
        assert all(one.text == alone[index].text for index, one in found.items() if one.route == route)
