"""Whisper's encoder and decoder from all formats: one model, transformers' logits, its vocabulary, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from s3router.errors import CheckpointError, ConfigError
from s3router.upstreams.hub import build
from s3router.upstreams.whisper import WINDOW
from s3router.upstreams.whisper_recogniser import Recogniser, WhisperRecogniser, load_recogniser
from tests.upstreams.whisper_files import (
    LANGUAGES,
    SPECIAL,
    START,
    TEXT,
    ctranslate2_file,
    ctranslate2_variables,
    huggingface_folder,
    openai_file,
    small_whisper,
    tokenizer_file,
)


@pytest.fixture(scope="module")
def whisper():
    return small_whisper()


@pytest.fixture(scope="module")
def files(whisper, tmp_path_factory) -> dict[str, Path]:
    """Format -> the same weights in it."""
    root = tmp_path_factory.mktemp("whisper")
    tokenizer_file(root / "ctranslate2")
    return {
        "huggingface": huggingface_folder(whisper, root / "folder"),
        "openai": openai_file(whisper, root / "openai" / "base.pt"),
        "ctranslate2": ctranslate2_file(ctranslate2_variables(whisper), root / "ctranslate2" / "model.bin"),
    }


@pytest.fixture(scope="module")
def recogniser(files) -> Recogniser:
    return load_recogniser("auto", str(files["ctranslate2"]))


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.01, 0.3, samples)


def test_every_format_is_one_model_with_one_fingerprint(files):
    found = {name: load_recogniser("auto", str(path)) for name, path in files.items()}
    assert len({one.fingerprint for one in found.values()}) == 1
    settings = [one.model.generation_config.to_dict() for one in found.values()]
    assert settings[0] == settings[1] == settings[2]
    assert load_recogniser("hf_whisper_custom", str(files["huggingface"])).fingerprint == found["openai"].fingerprint


def test_the_encoder_is_the_upstream(files, recogniser):
    upstream = build(upstream="auto", ckpt=str(files["openai"]))
    for layer, same in zip(upstream.backbone.layers, recogniser.model.model.encoder.layers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), same.parameters(), strict=True))


@torch.no_grad()
def test_a_full_window_gives_the_logits_of_transformers(whisper, recogniser):
    from transformers import WhisperFeatureExtractor

    wave = noise(WINDOW)
    mel = WhisperFeatureExtractor()(wave.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    features = recogniser.log_mel(wave)[None]
    torch.testing.assert_close(features, mel, rtol=1e-5, atol=1e-5)
    tokens = torch.tensor([[*recogniser.prompt("fr"), 5, 9, 200]])
    expected = whisper(mel, decoder_input_ids=tokens).logits
    torch.testing.assert_close(recogniser.model(features, decoder_input_ids=tokens).logits, expected, rtol=0, atol=1e-4)


def test_short_windows_run_and_train(recogniser):
    features = recogniser.log_mel(noise(12345))[None]
    assert features.shape == (1, 80, 78)
    model = recogniser.model
    output = model(features, labels=torch.tensor([[*recogniser.prompt("yo")[1:], 7, TEXT]]))
    assert output.encoder_last_hidden_state.shape == (1, 39, 64)
    output.loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "encoder.embed_positions" not in name)
    model.zero_grad(set_to_none=True)
    with pytest.raises(ConfigError, match="3002 frames"):
        model.model.encoder(torch.zeros(1, 80, 3002))


def test_transformers_generates_with_it(recogniser):
    found = recogniser.model.generate(
        recogniser.log_mel(noise(WINDOW))[None], language="fr", task="transcribe", max_new_tokens=5
    )
    assert not set(found[0].tolist()) & set(recogniser.model.generation_config.suppress_tokens)


def test_prompts(recogniser):
    assert recogniser.languages == LANGUAGES
    known = {token: TEXT + number for number, token in enumerate(SPECIAL)}
    wanted = ["<|startoftranscript|>", "<|yo|>", "<|transcribe|>", "<|notimestamps|>"]
    assert recogniser.prompt("yo") == [known[token] for token in wanted]
    assert recogniser.prompt("fr", "translate")[2] == known["<|translate|>"]
    assert recogniser.model.config.decoder_start_token_id == START
    for language, words in (
        ("french", "mean fr"),
        ("yor", "mean yo"),
        (None, "name the language"),
        ("de", "Known: en"),
    ):
        with pytest.raises(ConfigError, match=words):
            recogniser.prompt(language)
    with pytest.raises(ConfigError, match="transcribe and translate"):
        recogniser.prompt("fr", "sing")


def test_an_english_only_model_takes_no_language(whisper, tmp_path):
    folder = huggingface_folder(whisper, tmp_path / "english")
    (folder / "generation_config.json").write_text('{"is_multilingual": false}')
    found = load_recogniser("auto", str(folder))
    assert found.languages == ()
    assert found.prompt(None) == found.prompt("en") == [START, TEXT + len(SPECIAL) - 1]
    for arguments in (("fr",), ("en", "translate")):
        with pytest.raises(ConfigError, match="English only"):
            found.prompt(*arguments)


def test_tokens_that_are_no_speech_are_suppressed(recogniser):
    settings, known = recogniser.model.generation_config, recogniser.tokenizer.get_vocab()
    assert {known["("], known["["], known["<|startoftranscript|>"], known["<|nospeech|>"]} <= {
        *settings.suppress_tokens
    }
    assert not {known["a"], known["'"], known["-"], known["<|endoftext|>"]} & {*settings.suppress_tokens}
    assert settings.begin_suppress_tokens == [known["Ġ"], TEXT]
    assert settings.lang_to_id["<|yo|>"] == known["<|yo|>"]


def test_a_saved_folder_is_complete(recogniser, tmp_path):
    from transformers import AutoProcessor, WhisperForConditionalGeneration

    folder = recogniser.save(tmp_path / "saved")
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["WhisperForConditionalGeneration"]
    assert load_recogniser("auto", str(folder)).fingerprint == recogniser.fingerprint
    plain = WhisperForConditionalGeneration.from_pretrained(folder)
    assert plain.generation_config.lang_to_id == recogniser.model.generation_config.lang_to_id
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.tokenizer.encode(" bonjour", add_special_tokens=False) == recogniser.tokenizer.encode(
        " bonjour", add_special_tokens=False
    )
    mel = processor(noise(16000).numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    assert plain.generate(mel, language="it", max_new_tokens=3).shape[0] == 1
    with pytest.raises(CheckpointError, match="is there already"):
        recogniser.save(folder)


def test_fresh_weights(files, tmp_path):
    (tmp_path / "config.json").write_text((files["huggingface"] / "config.json").read_text())
    tokenizer_file(tmp_path)
    prints = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        prints.append(load_recogniser("auto", str(tmp_path), random_init=True).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_transformers_loads_the_class_itself(files, recogniser):
    from s3router.packs.fingerprint import weights_hash

    assert weights_hash(WhisperRecogniser.from_pretrained(files["huggingface"])) == recogniser.fingerprint


def refused(error: type[Exception], upstream: str, path: Path | None, *words: str) -> None:
    with pytest.raises(error) as caught:
        load_recogniser(upstream, None if path is None else str(path))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_upstreams_that_are_no_whisper(hf_folder, tmp_path):
    for upstream, path in (("tiny", None), ("hubert_base", None), ("fbank", None), ("auto", hf_folder())):
        refused(ConfigError, upstream, path, "needs a Whisper", "--task ctc")
    torch.save({"model_cfg": {}}, tmp_path / "other.pt")
    refused(ConfigError, "auto", tmp_path / "other.pt", "needs a Whisper")
    refused(ConfigError, "whisper_bas", None, "whisper_base")


def test_an_encoder_alone(whisper, tmp_path):
    whisper.model.encoder.save_pretrained(tmp_path / "encoder")
    tokenizer_file(tmp_path / "encoder")
    refused(CheckpointError, "auto", tmp_path / "encoder", "encoder alone", "--task ctc")
    variables = {n: v for n, v in ctranslate2_variables(whisper).items() if n.startswith("encoder/")}
    refused(CheckpointError, "auto", ctranslate2_file(variables, tmp_path / "model.bin"), "encoder alone")


def test_a_file_that_lacks_a_tensor(whisper, tmp_path):
    variables = ctranslate2_variables(whisper)
    del variables["decoder/layer_1/attention/linear_2/bias"]
    tokenizer_file(tmp_path)
    path = ctranslate2_file(variables, tmp_path / "model.bin")
    refused(CheckpointError, "auto", path, "model.decoder.layers.1.encoder_attn.out_proj.bias")
    content = torch.load(openai_file(whisper, tmp_path / "base.pt"), weights_only=True)
    content["model_state_dict"]["decoder.ln_extra.weight"] = torch.ones(3)
    torch.save(content, tmp_path / "base.pt")
    refused(CheckpointError, "auto", tmp_path / "base.pt", "decoder.ln_extra.weight is no tensor of Whisper")


def test_another_size_than_the_name_says(files):
    refused(CheckpointError, "whisper_base", files["openai"], "not whisper_base", "layers 2", "--upstream auto")


def test_an_output_layer_of_its_own(files, whisper, tmp_path):
    folder = huggingface_folder(whisper, tmp_path / "untied")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    refused(CheckpointError, "auto", folder, "tie_word_embeddings")


def test_tokenizers_that_do_not_fit(whisper, tmp_path, monkeypatch):
    path = openai_file(whisper, tmp_path / "base.pt", tokenizer=False)
    refused(CheckpointError, "auto", path, "no public Whisper has a vocabulary of", "tokenizer.json")
    tokenizer_file(tmp_path, SPECIAL[:-1])
    refused(CheckpointError, "auto", path, str(tmp_path / "tokenizer.json"), "<|notimestamps|> missing")
    tokenizer_file(tmp_path, tuple(token for token in SPECIAL if token != "<|haw|>"))
    refused(CheckpointError, "auto", path, str(tmp_path / "tokenizer.json"), "tokens, but")
    (tmp_path / "tokenizer.json").write_text("{}")
    refused(CheckpointError, "auto", path, "cannot be read as a tokenizer")


def test_a_tokenizer_that_cannot_be_downloaded(tmp_path, monkeypatch):
    import dataclasses

    from s3router.upstreams import public
    from s3router.upstreams.download import RemoteFile

    nowhere = RemoteFile("http://127.0.0.1:9/tokenizer.json")
    entries = {n: dataclasses.replace(e, tokenizer=e.tokenizer and nowhere) for n, e in public.catalogue().items()}
    monkeypatch.setattr(public, "catalogue", lambda: entries)
    monkeypatch.setenv(public.FOLDER_VARIABLE, str(tmp_path / "kept"))
    with pytest.raises(CheckpointError, match=r"tokenizer of whisper_base: .*put it at .*whisper_base/tokenizer.json"):
        public.fetch_tokenizer(51865)


def test_every_whisper_of_the_catalogue_has_a_tokenizer():
    from s3router.upstreams.public import catalogue

    whispers = [entry for entry in catalogue().values() if entry.family == "whisper"]
    kept = [entry.size["vocabulary"] for entry in whispers if entry.tokenizer]
    assert sorted(kept) == sorted({entry.size["vocabulary"] for entry in whispers})


def test_heads_that_follow_the_speech(files, whisper, tmp_path, monkeypatch):
    import dataclasses

    from s3router.upstreams import public

    for entry in public.catalogue().values():
        named = [tuple(pair) for pair in entry.alignment_heads]
        assert named == sorted(set(named))
        assert bool(named) == (entry.family == "whisper")
        assert all(head < entry.size["heads"] for _, head in named)
    small = {n: dataclasses.replace(e, size={}) for n, e in public.catalogue().items()}
    monkeypatch.setattr(public, "catalogue", lambda: small)
    published = load_recogniser("whisper_tiny", str(files["openai"])).model.generation_config
    assert published.alignment_heads == [[2, 2], [3, 0], [3, 2], [3, 3], [3, 4], [3, 5]]
    folder = huggingface_folder(whisper, tmp_path / "own")
    (folder / "generation_config.json").write_text(json.dumps({"alignment_heads": [[1, 0]]}))
    assert load_recogniser("whisper_tiny", str(folder)).model.generation_config.alignment_heads == [[1, 0]]
    assert not hasattr(load_recogniser("auto", str(files["openai"])).model.generation_config, "alignment_heads")
