"""Baked encoders of Whisper give what the router gives, with transformers' own class and without s3router."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s3router import cli
from s3router.data.audio import write_audio
from s3router.packs import MaskPack, write_pack
from s3router.serving import baked_model
from s3router.serving.loading import load_routes
from s3router.serving.routed_model import RoutedModel
from s3router.upstreams.hub import load_expert
from tests.serving.test_bake import make_pack
from tests.upstreams.whisper_files import openai_file, small_whisper

WINDOW = baked_model.WINDOW


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> list[str]:
    """Options that name the backbone."""
    path = openai_file(small_whisper(), tmp_path_factory.mktemp("whisper") / "base.pt")
    return ["--upstream", "auto", "--upstream-ckpt", str(path)]


def pack_of(backbone: list[str], **preprocessing) -> MaskPack:
    return make_pack(load_expert("auto", backbone[-1]).model, "auto", **preprocessing)


def classifier(pack: MaskPack) -> MaskPack:
    return replace(pack, tokens=None, meta=replace(pack.meta, labels=tuple("abcdef"), training={"task": "cls"}))


def baked(pack: MaskPack, backbone: list[str], folder: Path, *options: str) -> tuple[Path, RoutedModel]:
    write_pack(folder / "xx.pack", pack)
    assert cli.main(["bake", str(folder / "xx.pack"), *backbone, "-o", str(folder / "baked"), *options]) == 0
    return folder / "baked", load_routes([folder / "xx.pack"], "auto", backbone[-1])


def noise(samples: int) -> torch.Tensor:
    wave = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    return wave * torch.linspace(0.001, 0.3, samples)


@pytest.mark.parametrize(
    "preprocessing", [{"features": "weighted", "normalize_features": True}, {"features": "last"}], ids=str
)
@torch.inference_mode()
def test_the_outputs_are_the_routers_at_any_length(backbone, tmp_path, preprocessing):
    folder, router = baked(pack_of(backbone, **preprocessing), backbone, tmp_path)
    model = baked_model.CTC.load(folder)
    for samples in (800, 12345, WINDOW - 90, WINDOW, WINDOW + 7000):
        found, wanted = model(noise(samples)[None]), router.log_probs([noise(samples)], "xx")
        assert found.shape[1] == -(-samples // 320)
        torch.testing.assert_close(found[0], wanted[0][: found.shape[1]], atol=1e-3, rtol=0)
    both = torch.stack([noise(9000), 0.01 * noise(9000).flip(0)])
    torch.testing.assert_close(model(both)[1:], model(both[1:]), atol=1e-4, rtol=0)  # each has its own loudest value


def test_transformers_loads_the_encoder_itself(backbone, tmp_path):
    from transformers import AutoFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    pack = pack_of(backbone)
    folder, _ = baked(pack, backbone, tmp_path)
    encoder, report = WhisperEncoder.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    state = encoder.state_dict()
    assert all((state[name][~keep] == 0).all() for name, keep in pack.masks.items())
    assert "WhisperEncoder" in (folder / "README.md").read_text()
    wave = noise(WINDOW)
    mel = AutoFeatureExtractor.from_pretrained(folder)(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        found = baked_model.CTC.load(folder).hidden_states(wave[None])[-1]
        torch.testing.assert_close(found, encoder(mel["input_features"]).last_hidden_state, atol=1e-4, rtol=1e-4)


def test_the_program_needs_no_s3router(backbone, tmp_path):
    folder, _ = baked(pack_of(backbone), backbone, tmp_path)
    write_audio(tmp_path / "a.wav", noise(9000).numpy(), 16000)
    code = "import sys, ctc; sys.argv[1:] = ['../a.wav']; ctc.main(); "
    code += "sys.exit(any(name.startswith('s3') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("../a.wav ")


@torch.inference_mode()
def test_a_classifier(backbone, tmp_path):
    folder, router = baked(classifier(pack_of(backbone, gain_db=6.0)), backbone, tmp_path)
    model = baked_model.Classifier.load(folder)
    for samples in (100, 450, 12345):
        torch.testing.assert_close(
            model(noise(samples)[None])[0], router.logits([noise(samples)], "xx")[0], atol=1e-3, rtol=0
        )
    assert (folder / "classify.py").is_file()


@torch.inference_mode()
def test_onnx(backbone, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="tools/setup.sh --with-onnx")
    folder, router = baked(pack_of(backbone), backbone, tmp_path, "--onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    for samples in (800, 12345, WINDOW - 90, WINDOW):
        found = torch.from_numpy(session.run(None, {"wave": noise(samples)[None].numpy()})[0])[0]
        torch.testing.assert_close(found, router.log_probs([noise(samples)], "xx")[0], atol=1e-3, rtol=0)
    assert "30 s at most" in (folder / "README.md").read_text()
    with pytest.raises(Exception, match=r"broadcast|Add"):  # not other numbers in silence
        session.run(None, {"wave": noise(WINDOW + 7000)[None].numpy()})
