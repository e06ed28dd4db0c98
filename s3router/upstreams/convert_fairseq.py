"""Checkpoints of fairseq (wav2vec 2.0, HuBERT, data2vec-audio) and of Microsoft's WavLM, in transformers' terms.

The layout of the three is that of fairseq's wav2vec 2.0: one transformer encoder over seven convolutions. Which options
exist, and what they default to, was read off fairseq's and WavLM's configuration classes; the names off their modules.
"""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import OTHER_MODELS
from s3router.upstreams.fairseq_file import FairseqFile, nested
from s3router.upstreams.plain_model import PlainModel

logger = logging.getLogger(__name__)

# what the configuration calls the model -> family in transformers
_FAMILIES = {
    "wav2vec2": "wav2vec2",
    "wav2vec_ctc": "wav2vec2",
    "hubert": "hubert",
    "hubert_ctc": "hubert",
    "data2vec_audio": "data2vec-audio",
}
_WRAPPERS = ("w2v_encoder.w2v_model.", "w2v_encoder.", "encoder.w2v_model.")  # of a model finetuned with CTC
_HEADS = re.compile(
    r"^(quantizer|input_quantizer|project_q|project_inp|target_glu|final_proj|label_embs_concat|_ema|proj|encoder\.proj)\b"
)
_NAMES = [
    (r"^mask_emb$", r"masked_spec_embed"),
    (r"^layer_norm\.", r"feature_projection.layer_norm."),
    (r"^post_extract_proj\.", r"feature_projection.projection."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.1\.", r"\1.layer_norm."),  # between two transpositions
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.", r"\1.layer_norm."),  # group norm
    (r"^encoder\.pos_conv\.0\.(weight_[gv]|bias|parametrizations\..*)$", r"encoder.pos_conv_embed.conv.\1"),
    (r"^encoder\.pos_conv\.(\d+)\.0\.", r"encoder.pos_conv_embed.layers.\1.conv."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.relative_attention_bias\.", r"\1.attention.rel_attn_embed."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.grep_linear\.", r"\1.attention.gru_rel_pos_linear."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.grep_a$", r"\1.attention.gru_rel_pos_const"),
    (r"^(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"^(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.layer_norm."),
    (r"^(encoder\.layers\.\d+)\.fc1\.", r"\1.feed_forward.intermediate_dense."),
    (r"^(encoder\.layers\.\d+)\.fc2\.", r"\1.feed_forward.output_dense."),
]
_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _NAMES]

# fairseq's defaults; a file that was written before an option existed lacks it
_DEFAULTS: dict[str, Any] = {
    "extractor_mode": "default",
    "conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
    "conv_bias": False,
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "pos_conv_depth": 1,
    "conv_pos_batch_norm": False,
    "layer_type": "transformer",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "dropout_input": 0.0,
    "encoder_layerdrop": 0.0,
    "num_buckets": 320,
    "max_distance": 1280,
    "relative_position_embedding": False,
    "gru_rel_pos": False,
}


def from_fairseq(file: FairseqFile, path: Path) -> PlainModel:
    """The model of a fairseq, WavLM or s3prl-converted checkpoint.

    Raises:
        CheckpointError: another kind of model, or one with parts that transformers' model has no place for.
    """
    weights = _unwrapped(file.weights)
    model, task, named = file.model, file.task, file.model.get("_name") or file.model.get("arch")
    if isinstance(inner := model.get("w2v_args"), dict):  # of a finetuned model: the pretrained one's configuration
        model, inner_task = nested(inner)
        task = inner_task if isinstance(inner_task, dict) else task
    family = _family(named, weights, path)
    values = {key: _value(model, key, default, path) for key, default in _DEFAULTS.items()}
    _check(family, values, weights, path)
    normalize = task.get("normalize", model.get("normalize", False))
    if not isinstance(normalize, bool):
        raise CheckpointError(f"{path}: the configuration's normalize must be true or false, found {normalize!r}.")
    renamed = rename(weights)
    logger.info("%s: left out %d tensors of heads that are not part of the upstream", path, len(weights) - len(renamed))
    return PlainModel(family, _settings(family, values, path), renamed, normalize, path)


def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the encoder by transformers' names; heads of pretraining or finetuning are left out."""
    renamed = {}
    for name, tensor in weights.items():
        if _HEADS.match(name):
            continue
        for pattern, replacement in _RULES:
            name, found = pattern.subn(replacement, name)
            if found:
                break
        renamed[name] = tensor
    return renamed


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if any(name.startswith(f"{prefix}feature_extractor.") for name in weights):
            return {name.removeprefix(prefix).removeprefix("w2v_encoder."): tensor for name, tensor in weights.items()}
    return weights


def _family(named: Any, weights: dict[str, Tensor], path: Path) -> str:
    if any("relative_attention_bias" in name or "grep_linear" in name for name in weights):
        return "wavlm"
    if "encoder.pos_conv.1.0.weight" in weights:
        return "data2vec-audio"
    if named is not None:
        for known, family in _FAMILIES.items():  # architectures are called hubert, hubert_large ...
            if str(named) == known or str(named).startswith(f"{known}_"):
                return family
        raise CheckpointError(
            f"{path}: a fairseq model of the kind {named!r}; those that can be read are {', '.join(_FAMILIES)} and "
            f"WavLM. {OTHER_MODELS}"
        )
    return "hubert" if "label_embs_concat" in weights else "wav2vec2"


def _value(config: dict[str, Any], key: str, default: Any, path: Path) -> Any:
    value = config.get(key)
    if value is None:
        return default
    kind = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, kind) or isinstance(value, bool) != isinstance(default, bool):
        raise CheckpointError(f"{path}: the configuration's {key} should be like {default!r}, found {value!r}.")
    return value


def _check(family: str, values: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    deep, wavlm, data2vec = values["pos_conv_depth"] > 1, family == "wavlm", family == "data2vec-audio"
    relative = values["relative_position_embedding"], values["gru_rel_pos"]
    problems = [
        problem
        for wrong, problem in (
            (values["layer_type"] != "transformer", f"layers of the type {values['layer_type']!r}"),
            (values["extractor_mode"] not in ("default", "layer_norm"), f"extractor_mode {values['extractor_mode']!r}"),
            (values["conv_pos_batch_norm"], "a batch norm before its positional convolution"),
            (deep != data2vec, f"{values['pos_conv_depth']} positional convolutions"),
            (data2vec and values["extractor_mode"] != "layer_norm", "group norm in its feature extractor"),
            (data2vec and values["layer_norm_first"], "layer norms before its layers"),
            (wavlm and relative != (True, True), "no gated relative positions"),
            ("post_extract_proj.weight" not in weights, "no projection between convolutions and encoder"),
        )
        if wrong
    ]
    if problems:
        raise CheckpointError(
            f"{path}: this {family} model has {'; '.join(problems)}: transformers' model has no place for that. "
            "s3prl's loader may read it (wav2vec2_custom, hubert_custom, data2vec_custom, wavlm_local). "
            f"{OTHER_MODELS}"
        )


def _settings(family: str, values: dict[str, Any], path: Path) -> dict[str, Any]:
    layers = conv_layers(values["conv_feature_layers"], path)
    settings = {
        "hidden_size": values["encoder_embed_dim"],
        "num_hidden_layers": values["encoder_layers"],
        "num_attention_heads": values["encoder_attention_heads"],
        "intermediate_size": values["encoder_ffn_embed_dim"],
        "hidden_act": values["activation_fn"],
        "hidden_dropout": values["dropout"],
        "attention_dropout": values["attention_dropout"],
        "activation_dropout": values["activation_dropout"],
        "feat_proj_dropout": values["dropout_input"],
        "layerdrop": values["encoder_layerdrop"],
        "conv_dim": [width for width, _, _ in layers],
        "conv_kernel": [kernel for _, kernel, _ in layers],
        "conv_stride": [stride for _, _, stride in layers],
        "conv_bias": values["conv_bias"],
        "num_conv_pos_embedding_groups": values["conv_pos_groups"],
    }
    if family == "data2vec-audio":
        depth = values["pos_conv_depth"]
        return settings | {
            "num_conv_pos_embeddings": depth,
            "conv_pos_kernel_size": max(3, values["conv_pos"] // depth),
        }
    settings |= {
        "num_conv_pos_embeddings": values["conv_pos"],
        "feat_extract_norm": "layer" if values["extractor_mode"] == "layer_norm" else "group",
        "do_stable_layer_norm": values["layer_norm_first"],
    }
    if family == "wavlm":
        settings |= {"num_buckets": values["num_buckets"], "max_bucket_distance": values["max_distance"]}
    return settings


def conv_layers(text: str, path: Path) -> list[tuple[int, int, int]]:
    """[(width, kernel, stride)] from fairseq's notation, such as "[(512, 10, 5)] + [(512, 3, 2)] * 4".

    fairseq evaluates the string as Python; here only lists of numbers, + and * are understood.
    """
    try:
        layers = _list_expression(ast.parse(text.strip(), mode="eval").body)
        if layers and len(layers) < 100 and all(len(layer) == 3 for layer in layers):
            return layers
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    raise CheckpointError(
        f"{path}: conv_feature_layers should be a list of (width, kernel, stride), found {text[:200]!r}."
    )


def _list_expression(node: ast.AST) -> Any:
    match node:
        case ast.Constant(value=int(value)) if 0 < value < 100_000:
            return value
        case ast.Tuple(elts=items):
            return tuple(_list_expression(item) for item in items)
        case ast.List(elts=items):
            return [_list_expression(item) for item in items]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _list_expression(left) + _list_expression(right)
        case ast.BinOp(left=ast.List() as left, op=ast.Mult(), right=ast.Constant(value=int(times))) if times < 100:
            return _list_expression(left) * times
    raise ValueError("not a list of numbers")
