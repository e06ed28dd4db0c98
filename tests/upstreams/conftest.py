"""Small random upstreams in every format that is loaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from s3router.upstreams import public

CONV = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel, stride: those of every public model
WIDTH = 8  # of the convolutions
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
HF_MODELS = {
    "hf_hubert_custom": "HubertModel",
    "hf_wav2vec2_custom": "Wav2Vec2Model",
    "hf_wavlm_custom": "WavLMModel",
    "hf_data2vec_custom": "Data2VecAudioModel",
    "hf_unispeech_custom": "UniSpeechModel",
    "hf_unispeech_sat_custom": "UniSpeechSatModel",
    "hf_conformer_custom": "Wav2Vec2ConformerModel",
}


def hf_model(name: str, norm: str = "layer", **changes) -> torch.nn.Module:
    """A small random transformers model of the kind that ``name`` loads, pre-LN where ``norm`` is "layer"."""
    import transformers

    model_class = getattr(transformers, HF_MODELS[name])
    settings = {
        **SIZES,
        "conv_dim": [WIDTH] * 7,
        "conv_kernel": [kernel for kernel, _ in CONV],
        "conv_stride": [stride for _, stride in CONV],
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 4,
        "do_stable_layer_norm": norm == "layer",
        "feat_extract_norm": norm,
        "layerdrop": 0.5,
        "num_buckets": 32,
        "max_bucket_distance": 80,
    } | changes
    if name == "hf_data2vec_custom":
        for key in ("feat_extract_norm", "do_stable_layer_norm", "num_buckets", "max_bucket_distance"):
            settings.pop(key)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return model_class(model_class.config_class(**settings)).eval()


@pytest.fixture(scope="session", name="hf_model")
def hf_model_fixture():
    """`hf_model`: name, norm, changes of the configuration -> model."""
    return hf_model


def save_hf(model: torch.nn.Module, folder: Path, normalize: bool = True) -> Path:
    """Write a HuggingFace folder."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_normalize": normalize, "sampling_rate": 16000, "feature_size": 1, "padding_value": 0.0})
    )
    return folder


def s3prl_state(name: str, mode: str = "layer_norm", **changes) -> dict:
    """What a small checkpoint of s3prl's own format holds; ``mode`` "default" has group norm."""
    layers = repr([(WIDTH, kernel, stride) for kernel, stride in CONV])
    sizes = {
        "extractor_mode": mode,
        "conv_feature_layers": layers,
        "encoder_layers": 3,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_attention_heads": 4,
        "conv_pos": 8,
        "conv_pos_groups": 4,
        "layer_norm_first": mode == "layer_norm",
        "encoder_layerdrop": 0.5,
    } | changes
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "wavlm_local":
            from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

            cfg = {**vars(WavLMConfig()), **sizes, "normalize": True, "relative_position_embedding": True}
            cfg |= {"gru_rel_pos": True, "num_buckets": 32, "max_distance": 80}
            return {"cfg": cfg, "model": WavLM(WavLMConfig(cfg)).state_dict()}
        if name == "hubert_custom":
            from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

            symbols = [[str(i) for i in range(5)]]
            model_cfg = {**_plain(HubertConfig), **sizes, "label_rate": 50}
            task_cfg = {**_plain(HubertPretrainingConfig), "normalize": True, "sample_rate": 16000}
            model = HubertModel(HubertConfig(**model_cfg), HubertPretrainingConfig(**task_cfg), symbols)
            extra = {"dictionaries_symbols": symbols}
        elif name == "wav2vec2_custom":
            from s3prl.upstream.wav2vec2.wav2vec2_model import AudioPretrainingConfig, Wav2Vec2Config, Wav2Vec2Model

            model_cfg = {**_plain(Wav2Vec2Config), **sizes, "quantize_targets": True}
            task_cfg = {**_plain(AudioPretrainingConfig), "normalize": True}
            model, extra = Wav2Vec2Model(Wav2Vec2Config(**model_cfg)), {}
        else:
            from s3prl.upstream.data2vec.data2vec_model import Data2VecAudioConfig, Data2VecAudioModel
            from s3prl.upstream.wav2vec2.wav2vec2_model import AudioPretrainingConfig

            model_cfg = {**_plain(Data2VecAudioConfig), "pos_conv_depth": 2, **sizes}
            task_cfg = {**_plain(AudioPretrainingConfig), "normalize": True}
            model, extra = Data2VecAudioModel(Data2VecAudioConfig(**model_cfg)), {}
            model.remove_pretraining_modules()
    weights = model.state_dict()
    if name == "data2vec_custom":
        weights["_ema"] = {}
    return {"task_cfg": task_cfg, "model_cfg": model_cfg, "model_weight": weights, **extra}


def _plain(config: type) -> dict:
    """The defaults of one of s3prl's dataclasses that are plain values."""
    kept = {}
    for item in dataclasses.fields(config):
        if item.default is not dataclasses.MISSING and isinstance(item.default, str | int | float | bool | None):
            kept[item.name] = item.default if not isinstance(item.default, str) else str(item.default)
    return kept


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory):
    """name, norm -> folder of a small model, made once."""
    made: dict[tuple, Path] = {}

    def make(name: str = "hf_hubert_custom", norm: str = "layer", **changes) -> Path:
        key = (name, norm, *sorted(changes.items()))
        if key not in made:
            made[key] = save_hf(hf_model(name, norm, **changes), tmp_path_factory.mktemp(name))
        return made[key]

    return make


@pytest.fixture(scope="session")
def s3prl_file(tmp_path_factory):
    """name, mode -> .pt file of a small model, made once."""
    made: dict[tuple, Path] = {}

    def make(name: str, mode: str = "layer_norm") -> Path:
        if (name, mode) not in made:
            made[name, mode] = tmp_path_factory.mktemp(name) / "model.pt"
            torch.save(s3prl_state(name, mode), made[name, mode])
        return made[name, mode]

    return make


@pytest.fixture(scope="session")
def s3prl_content():
    """`s3prl_state`: name, mode, changes of the configuration -> what a file holds."""
    return s3prl_state


@pytest.fixture
def any_size(monkeypatch):
    """Public names take models of any size: the small ones of these tests."""
    small = {name: dataclasses.replace(entry, size={}) for name, entry in public.catalogue().items()}
    monkeypatch.setattr(public, "catalogue", lambda: small)


@pytest.fixture
def wavs() -> list[torch.Tensor]:
    """Three waveforms of different lengths, the first the longest."""
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(samples, generator=generator) for samples in (12345, 8000, 4321)]
