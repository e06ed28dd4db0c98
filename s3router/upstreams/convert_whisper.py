"""Whisper's encoder out of OpenAI's ``.pt`` files, faster-whisper's ``model.bin``, and HuggingFace folders.

All three become one model (transformers' WhisperEncoder, `s3router.upstreams.whisper`). The decoder is left out. Files
of half precision have the fingerprint of their rounded weights: where these differ from another file's, a pack made on
one does not fit the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import CheckpointError
from s3router.upstreams.ctranslate2_file import encoder_weights, read_ctranslate2
from s3router.upstreams.plain_model import PlainModel
from s3router.upstreams.whisper import WhisperSpeechEncoder, WhisperUpstream

_HEAD_WIDTH = 64  # of every published Whisper
_OPENAI = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}
_OPENAI_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)\.(weight|bias)$")
_ENCODER = "encoder."


FAMILY = "whisper"


class PlainWhisper(PlainModel):
    """An encoder of Whisper that was read from any format; see `PlainModel`."""

    def upstream(self, random_init: bool = False) -> WhisperUpstream:
        """`build` behind s3prl's interface."""
        return WhisperUpstream(WhisperSpeechEncoder(self.build(random_init)))

    def sizes(self) -> dict[str, int]:
        """As `PlainModel.sizes`, and mel_bins."""
        config = self.config()
        return {
            "layers": config.encoder_layers,
            "width": config.d_model,
            "ffn": config.encoder_ffn_dim,
            "heads": config.encoder_attention_heads,
            "mel_bins": config.num_mel_bins,
        }

    def _preprocessor(self) -> dict[str, Any]:
        return {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": self.config().num_mel_bins,
            "sampling_rate": SAMPLE_RATE,
            "hop_length": 160,
            "n_fft": 400,
            "chunk_length": 30,
            "padding_value": 0.0,
        }


def _plain(path: Path, weights: Mapping[str, Tensor], heads: int | None) -> PlainWhisper:
    return PlainWhisper(FAMILY, settings_of(weights, path, heads), weights, False, path)


def looks_like_openai(content: Any) -> bool:
    """Whether an unpickled file has the layout of OpenAI's Whisper checkpoints."""
    return isinstance(content, Mapping) and {"dims", "model_state_dict"} <= content.keys()


def from_openai(content: Mapping[str, Any], path: Path) -> PlainWhisper:
    """The encoder in an OpenAI checkpoint.

    Raises:
        CheckpointError: names or sizes that no Whisper has.
    """
    weights = {
        _openai_name(name.removeprefix("encoder."), path): tensor
        for name, tensor in content["model_state_dict"].items()
        if name.startswith("encoder.")
    }
    try:
        heads = int(content["dims"]["n_audio_head"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: its 'dims' name no n_audio_head; not a checkpoint of Whisper.") from None
    return _plain(path, weights, heads)


def _openai_name(name: str, path: Path) -> str:
    if name == "positional_embedding":
        return "embed_positions.weight"
    if name.startswith("ln_post."):
        return name.replace("ln_post", "layer_norm")
    if (block := _OPENAI_BLOCK.match(name)) and block[2] in _OPENAI:
        return f"layers.{block[1]}.{_OPENAI[block[2]]}.{block[3]}"
    if name.startswith(("conv1.", "conv2.")):
        return name
    raise CheckpointError(f"{path}: encoder.{name} is no tensor of Whisper.")


def from_ctranslate2(path: Path) -> PlainWhisper:
    """The encoder in a CTranslate2 file. Raises CheckpointError (`read_ctranslate2`)."""
    variables = read_ctranslate2(path)
    heads = variables.get("encoder/num_heads")
    return _plain(path, encoder_weights(variables), None if heads is None else int(heads))


def from_whisper(
    state: Mapping[str, Tensor], config: Mapping[str, Any], preprocessor: Mapping[str, Any], folder: Path
) -> PlainWhisper:
    """The encoder in a HuggingFace folder of a WhisperModel, WhisperForConditionalGeneration or WhisperEncoder.

    Args:
        state: tensors by their names in WhisperModel or WhisperEncoder; empty where they were not read.
        config, preprocessor: what the folder's two JSON files say; the second may be empty.
        folder: for messages.

    Raises:
        CheckpointError: the features are not those that Whisper takes.
    """
    if any(name.startswith(_ENCODER) for name in state):
        state = {n.removeprefix(_ENCODER): tensor for n, tensor in state.items() if n.startswith(_ENCODER)}
    plain = PlainWhisper(FAMILY, dict(config), state, False, folder)
    wanted = plain._preprocessor()
    for name in ("feature_size", "sampling_rate", "hop_length", "n_fft"):
        if (found := preprocessor.get(name, wanted[name])) != wanted[name]:
            raise CheckpointError(
                f"{folder}/preprocessor_config.json: {name} is {found!r}; this encoder takes {wanted[name]}."
            )
    return plain


def settings_of(weights: Mapping[str, Tensor], path: Path, heads: int | None = None) -> dict[str, Any]:
    """Fields of WhisperConfig, read off the shapes of an encoder's tensors.

    Raises:
        CheckpointError: a tensor that tells a size is missing.
    """
    try:
        width, bins, _ = weights["conv1.weight"].shape
        ffn = weights["layers.0.fc1.weight"].shape[0]
        frames = weights["embed_positions.weight"].shape[0]
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not an encoder of Whisper ({error} is missing or of another shape).") from None
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    return {
        "d_model": width,
        "num_mel_bins": bins,
        "encoder_layers": layers,
        "encoder_attention_heads": heads or width // _HEAD_WIDTH,
        "encoder_ffn_dim": ffn,
        "max_source_positions": frames,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }
