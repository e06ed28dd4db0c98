"""Packs and experiments whose removed units are taken out: smaller folders with the router's outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from s3router import cli
from s3router.data.audio import write_audio
from s3router.errors import CheckpointError, ConfigError
from s3router.masks import MaskConfig, attach, masks_of
from s3router.packs import MaskPack, write_pack
from s3router.serving import baked_model
from s3router.serving.bake import bake
from s3router.upstreams.hub import load_expert
from s3router.upstreams.whisper_recogniser import load_recogniser
from tests.serving.test_bake import expected, make_pack
from tests.serving.test_whole_routes import whole_pack
from tests.upstreams.whisper_files import huggingface_folder, small_whisper

HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}


def structured(pack: MaskPack, model: torch.nn.Module, **mask) -> MaskPack:
    """The pack with other masks: half of the hidden units, or heads, of every layer."""
    attach(model, MaskConfig(**({"granularity": "group", "sparsity": 0.5, "score_init": "normal"} | mask)))
    return replace(pack, masks=masks_of(model))


@pytest.fixture
def hubert_pack(small_upstream, tmp_path):
    """Masks -> (the pack's file, the pack)."""

    def make(features: str = "weighted", **mask) -> tuple[Path, MaskPack]:
        model = load_expert("hf_hubert_custom", str(small_upstream)).model
        pack = structured(make_pack(model, "hf_hubert_custom", features=features), model, **mask)
        write_pack(tmp_path / "xx.pack", pack)
        return tmp_path / "xx.pack", pack

    return make


def shrink(pack: Path, upstream: Path, *options: str) -> Path:
    folder = pack.parent / "small"
    assert cli.main(["shrink", str(pack), "--backbone-ckpt", str(upstream), "-o", str(folder), *options]) == 0
    return folder


WAVE = 0.1 * torch.randn(1, 12345, generator=torch.Generator().manual_seed(5))


def test_feed_forward_layers_become_a_plain_model(hubert_pack, small_upstream, capsys):
    from transformers import AutoModelForCTC

    path, pack = hubert_pack("last")
    folder = shrink(path, small_upstream)
    assert "2 feed-forward layers with 64 of 128 hidden units" in capsys.readouterr().out
    assert json.loads((folder / "config.json").read_text())["intermediate_size"] == 32
    again = load_expert("auto", str(folder)).model  # an upstream for packs of its own
    assert again.encoder.layers[1].feed_forward.output_dense.weight.shape == (32, 32)
    model = AutoModelForCTC.from_pretrained(folder).eval()
    with torch.no_grad():
        wave = (WAVE - WAVE.mean()) / (WAVE.var(correction=0) + 1e-7).sqrt()
        found = model(wave).logits.log_softmax(-1)[0]
    torch.testing.assert_close(found, expected(small_upstream, pack, WAVE), atol=1e-4, rtol=0)


@pytest.mark.parametrize("features", ["weighted", "last"])
def test_heads_need_the_program_in_the_folder(hubert_pack, small_upstream, features, capsys):
    path, pack = hubert_pack(features, targets=("ffn", "attention"))
    folder = shrink(path, small_upstream)
    said = capsys.readouterr().out
    assert "2 attention layers with 2 of 4 heads" in said
    assert "a model, its head, and a program that joins them" in said
    state = load_file(folder / "model.safetensors")
    assert state["encoder.layers.1.attention.q_proj.weight"].shape == (16, 32)
    found = baked_model.CTC.load(folder)(WAVE)[0]
    torch.testing.assert_close(found, expected(small_upstream, pack, WAVE), atol=1e-4, rtol=0)
    write_audio(folder / "a.wav", WAVE[0].numpy(), 16000)
    done = subprocess.run([sys.executable, "ctc.py", "a.wav"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "`ctc.py` (layers have fewer units" in (folder / "README.md").read_text()
    with pytest.raises(CheckpointError, match="took heads, or different numbers of units"):
        load_expert("auto", str(folder))


def test_onnx(hubert_pack, small_upstream):
    onnxruntime = pytest.importorskip("onnxruntime")
    path, pack = hubert_pack(targets=("ffn", "attention"))
    folder = shrink(path, small_upstream, "--onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"wave": WAVE.numpy()})[0])[0]
    torch.testing.assert_close(found, expected(small_upstream, pack, WAVE), atol=1e-3, rtol=0)


def test_encoders_of_whisper(tmp_path):
    ckpt = huggingface_folder(small_whisper(**HEADS), tmp_path / "whisper")
    model = load_expert("auto", str(ckpt)).model
    pack = structured(make_pack(model, "auto"), model, targets=("ffn", "attention"))
    write_pack(tmp_path / "xx.pack", pack)
    report = bake(tmp_path / "xx.pack", tmp_path / "small", "auto", str(ckpt), smaller=True)
    assert report["difference"] < 1e-4  # from the router
    assert report["parameters"] < report["parameters_before"]
    assert baked_model.CTC.load(tmp_path / "small").model.layers[1].self_attn.num_heads == 2


def test_whole_recognisers(tmp_path):
    from transformers import WhisperForConditionalGeneration

    ckpt = huggingface_folder(small_whisper(**HEADS), tmp_path / "whisper")
    pack = whole_pack(ckpt, "yo", "yo", 5)
    ffn = structured(pack, load_recogniser("auto", str(ckpt)).model, targets=("model.*.fc1", "model.*.fc2"))
    write_pack(tmp_path / "ffn.pack", ffn)
    report = bake(tmp_path / "ffn.pack", tmp_path / "small", ckpt=str(ckpt), smaller=True)
    assert report["difference"] < 1e-4
    small = WhisperForConditionalGeneration.from_pretrained(tmp_path / "small")
    assert small.model.encoder.layers[0].fc1.out_features == small.config.encoder_ffn_dim == 48
    names = ("model.*_attn.?_proj", "model.*_attn.out_proj")
    heads = structured(pack, load_recogniser("auto", str(ckpt)).model, targets=names)
    write_pack(tmp_path / "heads.pack", heads)
    with pytest.raises(ConfigError, match=r"no place for fewer heads; train with mask_conf targets: \[ffn\]"):
        bake(tmp_path / "heads.pack", tmp_path / "none", ckpt=str(ckpt), smaller=True)
    assert not (tmp_path / "none").exists()


def test_an_experiment_of_router_p(zygote, small_upstream, upstream_in_place, tmp_path):
    conf = ("--mask_conf", "granularity=group", "--method_conf", "start=importance", "--sparsity", "0.5")
    exp = zygote.run(tmp_path / "exp", "--method", "router_p", *conf, "--head_lr", "2e-2").exp
    report = bake(exp, tmp_path / "small", smaller=True)
    assert report["difference"] < 1e-4
    assert [len(each.kept) for each in report["shrunk"]] == [1, 32, 1, 32]
    assert cli.main(["pack", str(exp), "-o", str(tmp_path / "en.pack"), "--float32"]) == 0
    again = bake(
        tmp_path / "en.pack",
        tmp_path / "from_pack",
        ckpt=str(small_upstream),
        upstream="hf_hubert_custom",
        smaller=True,
    )
    assert again["parameters"] == report["parameters"]


def test_an_experiment_of_single_weights(zygote, upstream_in_place, tmp_path):
    """Packed, baked, and refused to be shrunk."""
    exp = zygote.run(tmp_path / "exp", "--method", "parp", "--sparsity", "0.7", "--head_lr", "2e-2").exp
    report = bake(exp, tmp_path / "baked")
    assert report["zeros"] == int(0.7 * 64 * 32) * 4 + int(0.7 * 32 * 32) * 8
    with pytest.raises(ConfigError, match="no hidden unit and no attention head is removed as a whole"):
        bake(exp, tmp_path / "small", smaller=True)
    assert not (tmp_path / "small").exists()
