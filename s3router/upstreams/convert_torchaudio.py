"""torchaudio's wav2vec 2.0, HuBERT and WavLM, in transformers' terms: bundles of `torchaudio.pipelines`, state dicts.

Their file holds weights only. The configuration is that of a file ``NAME.json`` beside ``NAME.pth`` where there is one:
the arguments of `torchaudio.models.wav2vec2_model` or `wavlm_model`, and ``"normalize"``, true or false (whether
waveforms are normalised). Else it is the bundle's, found by the name of the upstream or of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3router.errors import CheckpointError
from s3router.upstreams.plain_model import PlainModel

_HEAD = "aux."  # output layer of a finetuned model
_IN_PROJECTION = re.compile(r"^(encoder\.layers\.\d+\.attention)\.attention\.in_proj_(weight|bias)$")
_SETTINGS = {
    "encoder_embed_dim": "hidden_size",
    "encoder_num_layers": "num_hidden_layers",
    "encoder_num_heads": "num_attention_heads",
    "encoder_ff_interm_features": "intermediate_size",
    "encoder_ff_interm_dropout": "activation_dropout",
    "encoder_dropout": "hidden_dropout",
    "encoder_attention_dropout": "attention_dropout",
    "encoder_projection_dropout": "feat_proj_dropout",
    "encoder_layer_drop": "layerdrop",
    "encoder_pos_conv_kernel": "num_conv_pos_embeddings",
    "encoder_pos_conv_groups": "num_conv_pos_embedding_groups",
    "encoder_layer_norm_first": "do_stable_layer_norm",
    "extractor_conv_bias": "conv_bias",
    "encoder_num_buckets": "num_buckets",
    "encoder_max_distance": "max_bucket_distance",
}
_IGNORED = {"extractor_mode", "extractor_conv_layer_config", "aux_num_out", "normalize", "model_type"}


def looks_like_torchaudio(names: Mapping[str, Any]) -> bool:
    """Whether a state dict has torchaudio's names."""
    return any(name.startswith("encoder.transformer.layers.") for name in names)


def from_torchaudio(weights: Mapping[str, Tensor], path: Path, bundle: str | None = None) -> PlainModel:
    """The model of a state dict in torchaudio's naming.

    Args:
        bundle: name in `torchaudio.pipelines`, such as WAV2VEC2_BASE; None: found as the module's text says.

    Raises:
        CheckpointError: the configuration is not known, or does not fit.
    """
    params, normalize, kind = _configuration(path, bundle)
    unknown = set(params) - set(_SETTINGS) - _IGNORED
    convolutions = params.get("extractor_conv_layer_config")
    if unknown or not convolutions or "encoder_num_heads" not in params or "extractor_mode" not in params:
        raise CheckpointError(
            f"{path}: the configuration must be the arguments of torchaudio.models.wav2vec2_model; "
            + (f"unknown: {', '.join(sorted(unknown))}." if unknown else "extractor_* or encoder_* are missing.")
        )
    settings = {ours: params[theirs] for theirs, ours in _SETTINGS.items() if params.get(theirs) is not None}
    settings |= {
        "conv_dim": [width for width, _, _ in convolutions],
        "conv_kernel": [kernel for _, kernel, _ in convolutions],
        "conv_stride": [stride for _, _, stride in convolutions],
        "feat_extract_norm": "layer" if params["extractor_mode"] == "layer_norm" else "group",
    }
    family = "wavlm" if any("rel_attn_embed" in name for name in weights) else kind
    return PlainModel(family, settings, rename(weights), normalize, path)


def rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the encoder by transformers' names; the attention of WavLM in three parts instead of one."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith(_HEAD):
            continue
        name = re.sub(r"^encoder\.feature_projection\.", "feature_projection.", name)
        name = re.sub(r"^encoder\.transformer\.", "encoder.", name)
        if match := _IN_PROJECTION.match(name):
            for part, piece in zip("qkv", torch.chunk(tensor, 3), strict=True):
                renamed[f"{match[1]}.{part}_proj.{match[2]}"] = piece
        else:
            renamed[name.replace(".attention.attention.", ".attention.")] = tensor
    return renamed


def _configuration(path: Path, bundle: str | None) -> tuple[dict[str, Any], bool, str]:
    """(arguments of torchaudio's model, normalisation of waveforms, family)."""
    beside = path.with_suffix(".json")
    if beside.is_file():
        try:
            params = json.loads(beside.read_text(encoding="utf-8"))
            return params, params["normalize"] is True, params.get("model_type", "wav2vec2")
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{beside}: not a JSON object with 'normalize' and the model's arguments.") from error
    from torchaudio import pipelines

    known = {name: value for name, value in vars(pipelines).items() if hasattr(value, "_model_type")}
    if bundle is None:
        bundle = next((name for name, value in known.items() if Path(value._path).name == path.name), None)
    if bundle not in known:
        raise CheckpointError(
            f"{path}: a state dict of torchaudio, which says nothing of the model's configuration. Keep the name that "
            f"torchaudio downloads it by (wav2vec2_fairseq_base_ls960.pth ...), or describe it in {beside}."
        )
    found = known[bundle]
    return dict(found._params), bool(found._normalize_waveform), "hubert" if "HUBERT" in bundle else "wav2vec2"
