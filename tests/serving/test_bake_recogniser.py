"""Whole recognisers as plain folders of transformers; as faster-whisper's models where CTranslate2 is installed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from s3router.errors import ConfigError
from s3router.packs import write_pack
from s3router.packs.merging import merge
from s3router.serving.bake import bake
from s3router.serving.loading import load_routes
from s3router.upstreams.whisper import WINDOW
from s3router.upstreams.whisper_recogniser import load_recogniser
from tests.serving.test_whole_routes import whole_adapter_pack, whole_pack
from tests.upstreams.whisper_files import huggingface_folder, small_whisper


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    return huggingface_folder(small_whisper(), tmp_path_factory.mktemp("whisper") / "small")


@pytest.fixture(scope="module")
def pack(whisper, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "yo.pack"
    found = whole_pack(whisper, "yo", "yo", 5)
    delta = {"model.decoder.embed_tokens.weight": load_recogniser("auto", str(whisper)).model.proj_out.weight * 1.5}
    write_pack(path, dataclasses.replace(found, delta={name: tensor.detach() for name, tensor in delta.items()}))
    return path


@pytest.fixture(scope="module")
def baked(whisper, pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("baked") / "yo"
    report = bake(pack, folder, ckpt=str(whisper))
    assert report["kind"] == "recogniser"
    assert report["difference"] < 1e-4
    assert 0 < report["zeros"] < report["parameters"]
    assert set(report["files"]) >= {
        *("config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "README.md"),
    }
    return folder


def wave() -> torch.Tensor:
    return 0.1 * torch.randn(40000, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def test_transformers_gives_the_routers_logits(baked, whisper, pack):
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    model = load_routes([pack], ckpt=str(whisper))
    processor = WhisperProcessor.from_pretrained(baked)
    mel = processor(wave().numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    tokens = torch.tensor([[*model.whole.recogniser.prompt("yo"), 4, 5, 6]])
    with model.whole.routes.applied("yo"):
        whole_window = torch.nn.functional.pad(wave(), (0, WINDOW - 40000))
        features = model.whole.recogniser.log_mel(whole_window)[None]
        expected = model.whole.model(features, decoder_input_ids=tokens).logits
    plain = WhisperForConditionalGeneration.from_pretrained(baked).eval()
    torch.testing.assert_close(plain(mel, decoder_input_ids=tokens).logits, expected, rtol=0, atol=1e-4)
    assert plain.proj_out.weight is plain.model.decoder.embed_tokens.weight


def test_the_pipeline_speaks_the_packs_language(baked):
    from transformers import pipeline

    found = pipeline("automatic-speech-recognition", str(baked), device="cpu")
    assert found.model.generation_config.language == "yo"
    said = found({"raw": wave().numpy(), "sampling_rate": 16000}, generate_kwargs={"max_new_tokens": 5})
    asked = {"language": "yo", "task": "transcribe", "max_new_tokens": 5}
    assert said == found({"raw": wave().numpy(), "sampling_rate": 16000}, generate_kwargs=asked)
    assert said["text"]


def test_the_folder_is_an_upstream_again(baked, whisper, pack):
    again = load_recogniser("auto", str(baked))
    model = load_routes([pack], ckpt=str(whisper)).whole
    with model.routes.applied("yo"):
        for (name, ours), theirs in zip(
            again.model.state_dict().items(), model.model.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs), name


@torch.inference_mode()
def test_adapters_become_weights(whisper, tmp_path):
    from transformers import WhisperForConditionalGeneration

    packed = whole_adapter_pack(whisper, "lora", "dora")
    write_pack(tmp_path / "lora.pack", packed)
    report = bake(tmp_path / "lora.pack", tmp_path / "baked", ckpt=str(whisper))
    assert report["difference"] < 1e-4
    model = load_recogniser("auto", str(whisper)).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merge(model, packed)
    plain = WhisperForConditionalGeneration.from_pretrained(tmp_path / "baked").state_dict()
    assert all(torch.equal(plain[name], tensor) for name, tensor in model.state_dict().items())
    changed = {name for name, tensor in plain.items() if not torch.equal(tensor, before[name])}
    assert changed == {name.rpartition(".")[0] for name in packed.adapter}


def test_bottlenecks_are_refused(whisper, tmp_path):
    write_pack(tmp_path / "ho.pack", whole_adapter_pack(whisper, "ho", "houlsby"))
    with pytest.raises(ConfigError, match="plain models have no place; serve the pack instead"):
        bake(tmp_path / "ho.pack", tmp_path / "baked", ckpt=str(whisper))
    assert not (tmp_path / "baked").exists()


def test_the_command(whisper, pack, tmp_path, capsys):
    from s3router.cli import main

    folder = tmp_path / "yo"
    assert main(["bake", str(pack), "-o", str(folder), "--upstream-ckpt", str(whisper)]) == 0
    assert "WhisperForConditionalGeneration" in capsys.readouterr().out
    assert "Language token: yo" in (folder / "README.md").read_text()
    assert main(["bake", str(pack), "-o", str(folder), "--upstream-ckpt", str(whisper)]) == 1
    assert "not empty" in capsys.readouterr().err


def test_what_is_refused(whisper, pack, tmp_path):
    with pytest.raises(ConfigError, match="not for whole recognisers"):
        bake(pack, tmp_path / "out", ckpt=str(whisper), onnx=True)
    with pytest.raises(ConfigError, match=r"yo.pack is for a whole recogniser.*needs a Whisper"):
        bake(pack, tmp_path / "out", "tiny")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("ct2-transformers-converter") is None, reason="CTranslate2 is not installed")
def test_faster_whispers_converter_takes_it(baked, tmp_path):
    out = tmp_path / "fast"
    command = ["ct2-transformers-converter", "--model", str(baked), "--output_dir", str(out)]
    subprocess.run([*command, "--copy_files", "tokenizer.json", "preprocessor_config.json"], check=True)
    assert (
        load_recogniser("auto", str(out / "model.bin")).fingerprint == load_recogniser("auto", str(baked)).fingerprint
    )
    assert json.loads((out / "config.json").read_text())["lang_ids"]
