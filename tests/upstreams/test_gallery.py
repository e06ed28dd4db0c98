"""Models that users will try: each works through ``auto``, or is refused in one sentence that names a way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from s3router.errors import CheckpointError
from s3router.upstreams.hub import build
from tests.upstreams import conftest as models

WORKING = {  # name -> hub name, changes of the configuration, masks per layer on ffn, attention
    "UniSpeech": ("hf_unispeech_custom", {}, 2, 4),
    "UniSpeech-SAT": ("hf_unispeech_sat_custom", {}, 2, 4),
    "Conformer, relative": ("hf_conformer_custom", {}, 4, 4),
    "Conformer, rotary": ("hf_conformer_custom", {"position_embeddings_type": "rotary"}, 4, 4),
    "MMS with adapters": ("hf_wav2vec2_custom", {"adapter_attn_dim": 4}, 2, 4),
    "mHuBERT-147": ("hf_hubert_custom", {"do_stable_layer_norm": False}, 2, 4),
}


def learnt_statistics(model: torch.nn.Module) -> torch.nn.Module:
    """Batch norms whose statistics are not those of a new one."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return model


@pytest.fixture(params=WORKING)
def case(request, tmp_path) -> tuple[str, Path, torch.nn.Module, int, int]:
    name, changes, ffn, attention = WORKING[request.param]
    model = learnt_statistics(models.hf_model(name, **changes))
    return name, models.save_hf(model, tmp_path / "model"), model, ffn, attention


@torch.no_grad()
def test_features_are_those_of_transformers_in_any_batch(case, wavs, tmp_path):
    _, folder, model, _, _ = case
    upstream = build(upstream="auto", ckpt=str(folder)).eval()
    cached = build(upstream="auto", ckpt=str(folder), feature_cache=str(tmp_path / "cache")).eval()
    together, kept = upstream(wavs)["hidden_states"], cached(wavs)["hidden_states"]
    assert torch.equal(cached(wavs)["hidden_states"][-1], kept[-1])
    for row, wav in enumerate(wavs):
        wav = (wav - wav.mean()) / (wav.var(correction=0) + 1e-7).sqrt()
        output = model(wav[None], output_hidden_states=True)
        expected = [*output.hidden_states[:-1], output.last_hidden_state]
        assert len(together) == len(kept) == len(expected) == 4
        for ours, rounded, theirs in zip(together, kept, expected, strict=True):
            frames = theirs.size(1)
            torch.testing.assert_close(ours[row, :frames], theirs[0], atol=5e-5, rtol=0)
            assert (rounded[row, :frames] - theirs[0]).abs().max() < 0.1 * theirs.std()


@pytest.mark.parametrize("target", ["ffn", "attention"])
def test_masks_are_found_and_trained(case, wavs, target):
    name, folder, model, ffn, attention = case
    upstream = build(upstream=name, ckpt=str(folder), mask={"targets": [target]}, specaug={}).train()
    scores = {n: p for n, p in upstream.named_parameters() if p.requires_grad}
    assert len(scores) == 3 * {"ffn": ffn, "attention": attention}[target]
    upstream(wavs)["hidden_states"][-1].pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in scores.values())
    buffers = dict(model.named_buffers())
    for key, buffer in upstream.backbone.named_buffers():  # the statistics are not trained along
        if "running" in key:
            assert torch.equal(buffer, buffers[key]), key


@pytest.mark.parametrize(
    ("name", "changes"),
    [("hf_conformer_custom", {}), ("hf_hubert_custom", {"conv_pos_batch_norm": True, "layerdrop": 0.0})],
)
def test_training_mode_does_not_depend_on_the_batch(tmp_path, wavs, name, changes):
    model = learnt_statistics(models.hf_model(name, **changes))
    folder = models.save_hf(model, tmp_path / "model")
    upstream = build(upstream="auto", ckpt=str(folder), dropout=0.0).train()
    with torch.no_grad():
        for module in upstream.backbone.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        alone, together = upstream(wavs[2:])["hidden_states"][1], upstream(wavs)["hidden_states"][1]
    torch.testing.assert_close(together[2, : alone.size(1)], alone[0], atol=5e-5, rtol=0)
    buffers = dict(model.named_buffers())
    assert all(torch.equal(b, buffers[key]) for key, b in upstream.backbone.named_buffers() if "running" in key)


def test_adapters_of_another_language(tmp_path, wavs, caplog):
    """As docs/upstreams.md says: transformers puts them in, and saves the folder."""
    plain = models.hf_model("hf_wav2vec2_custom", adapter_attn_dim=4)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**(plain.config.to_dict() | {"vocab_size": 7})))
    folder = models.save_hf(model, tmp_path / "mms")
    adapters = {name: tensor + 0.5 for name, tensor in model._get_adapters().items()}
    save_file({name: tensor.contiguous() for name, tensor in adapters.items()}, folder / "adapter.fra.safetensors")
    french = transformers.Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra", ignore_mismatched_sizes=True)
    french.save_pretrained(tmp_path / "fra")
    models.save_hf(french, tmp_path / "fra")
    english, other = (build(upstream="auto", ckpt=str(tmp_path / name)).eval() for name in ("mms", "fra"))
    assert "language adapters in its model file become part of the upstream" in caplog.text
    assert english.backbone_fingerprint != other.backbone_fingerprint
    key = "encoder.layers.0.adapter_layer.linear_1.weight"
    assert torch.equal(other.backbone.state_dict()[key], adapters[f"wav2vec2.{key}"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SEW", "half as many frames"),
        ("SEWD", "half as many frames"),
        ("Wav2Vec2Bert", "SeamlessM4TFeatureExtractor"),
    ],
)
def test_models_of_transformers_that_are_refused(tmp_path, name, reason):
    config = getattr(transformers, f"{name}Config")(**models.SIZES)
    config.save_pretrained(tmp_path)
    refused(tmp_path, reason)


@pytest.fixture
def xeus() -> dict[str, torch.Tensor]:
    """The weights of a small E-Branchformer of ESPnet behind convolutions, by the names of its SSL task."""
    from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder

    encoder = EBranchformerEncoder(
        20,
        output_size=16,
        attention_heads=2,
        linear_units=32,
        num_blocks=2,
        cgmlp_linear_units=32,
        use_flash_attn=False,
    )
    return {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}


def test_xeus_is_refused(tmp_path, xeus):
    (tmp_path / "model").mkdir()
    torch.save(xeus, tmp_path / "model" / "xeus_checkpoint.pth")
    refused(tmp_path / "model" / "xeus_checkpoint.pth", "ESPnet (XEUS")
    (tmp_path / "model" / "config.yaml").write_text("encoder: e_branchformer\n")
    refused(tmp_path, "ESPnet (XEUS")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    refused(tmp_path, "model_type 'gpt2' is none of")


def refused(path: Path, reason: str) -> None:
    with pytest.raises(CheckpointError) as error:
        build(upstream="auto", ckpt=str(path))
    said = str(error.value)
    assert said.startswith(str(path))
    assert reason in said
    assert "s3router.masks.attach" in said
    assert "\n" not in said
