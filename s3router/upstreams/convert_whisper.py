"""Whisper out of OpenAI's ``.pt`` files, faster-whisper's ``model.bin``, and HuggingFace folders.

All three become one model: the encoder by itself (`PlainWhisper`, transformers' WhisperEncoder), or encoder and decoder
(`WholeWhisper`). Files of half precision have the fingerprint of their rounded weights: where these differ from another
file's, a pack made on one does not fit the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import CheckpointError
from s3router.upstreams.ctranslate2_file import STACKS, read_ctranslate2, whisper_weights
from s3router.upstreams.plain_model import PlainModel
from s3router.upstreams.whisper import WhisperSpeechEncoder, WhisperUpstream

_HEAD_WIDTH = 64  # of every published Whisper
_OPENAI = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn.query": "encoder_attn.q_proj",
    "cross_attn.key": "encoder_attn.k_proj",
    "cross_attn.value": "encoder_attn.v_proj",
    "cross_attn.out": "encoder_attn.out_proj",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}
_OPENAI_OUTSIDE = {  # outside of layers
    "positional_embedding": "embed_positions.weight",
    "token_embedding.weight": "embed_tokens.weight",
    **{f"{ln}.{kind}": f"layer_norm.{kind}" for ln in ("ln_post", "ln") for kind in ("weight", "bias")},
    **{name: name for conv in ("conv1", "conv2") for name in (f"{conv}.weight", f"{conv}.bias")},
}
_OPENAI_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)\.(weight|bias)$")
_ENCODER = "encoder."
_TYING = "tie_word_embeddings"
_VOCABULARY = 51_865  # where a config.json does not say it


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
        return preprocessor_of(self.config().num_mel_bins)


def preprocessor_of(mel_bins: int) -> dict[str, Any]:
    """``preprocessor_config.json`` of a Whisper with so many bins in its spectrogram."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": mel_bins,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "padding_value": 0.0,
    }


@dataclass(frozen=True)
class WholeWhisper:
    """Encoder and decoder as read from any format.

    Args:
        settings: fields of WhisperConfig.
        weights: name in transformers' WhisperModel -> tensor; empty where they were not read.
        source: the file or folder.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    source: Path

    @property
    def vocabulary(self) -> int:
        """Tokens, those of times included."""
        return self.settings.get("vocab_size", _VOCABULARY)

    def sizes(self) -> dict[str, int]:
        """As the catalogue's files call them: those of `PlainWhisper`, and vocabulary."""
        encoder = {name: value for name, value in self.settings.items() if name != "vocab_size"}
        return {**PlainWhisper(FAMILY, encoder, {}, False, self.source).sizes(), "vocabulary": self.vocabulary}


def _plain(path: Path, weights: Mapping[str, Tensor], heads: int | None) -> PlainWhisper:
    weights = {name.removeprefix(_ENCODER): tensor for name, tensor in weights.items()}
    return PlainWhisper(FAMILY, settings_of(weights, path, heads), weights, False, path)


def _whole(path: Path, weights: Mapping[str, Tensor], heads: int | None, decoder_heads: int | None) -> WholeWhisper:
    encoder = {n.removeprefix(_ENCODER): tensor for n, tensor in weights.items() if n.startswith(_ENCODER)}
    settings = settings_of(encoder, path, heads) | _decoder_settings(weights, path, decoder_heads)
    return WholeWhisper(settings, weights, path)


def looks_like_openai(content: Any) -> bool:
    """Whether an unpickled file has the layout of OpenAI's Whisper checkpoints."""
    return isinstance(content, Mapping) and {"dims", "model_state_dict"} <= content.keys()


def from_openai(content: Mapping[str, Any], path: Path) -> PlainWhisper:
    """The encoder in an OpenAI checkpoint.

    Raises:
        CheckpointError: names or sizes that no Whisper has.
    """
    weights = _openai_weights(content, path, ("encoder",))
    return _plain(path, weights, _openai_heads(content, path, "n_audio_head"))


def whole_from_openai(content: Mapping[str, Any], path: Path) -> WholeWhisper:
    """Encoder and decoder in an OpenAI checkpoint. Raises CheckpointError as `from_openai`."""
    heads = [_openai_heads(content, path, name) for name in ("n_audio_head", "n_text_head")]
    return _whole(path, _openai_weights(content, path, STACKS), *heads)


def _openai_heads(content: Mapping[str, Any], path: Path, name: str) -> int:
    try:
        return int(content["dims"][name])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: its 'dims' name no {name}; not a checkpoint of Whisper.") from None


def _openai_weights(content: Mapping[str, Any], path: Path, stacks: Collection[str]) -> dict[str, Tensor]:
    parted = ((name, *name.partition(".")[::2]) for name in content["model_state_dict"])
    found = {name: (stack, rest) for name, stack, rest in parted if stack in stacks}
    return {
        f"{stack}.{_openai_name(stack, rest, path)}": content["model_state_dict"][name]
        for name, (stack, rest) in found.items()
    }


def _openai_name(stack: str, name: str, path: Path) -> str:
    if name in _OPENAI_OUTSIDE:
        return _OPENAI_OUTSIDE[name]
    if (block := _OPENAI_BLOCK.match(name)) and block[2] in _OPENAI:
        return f"layers.{block[1]}.{_OPENAI[block[2]]}.{block[3]}"
    raise CheckpointError(f"{path}: {stack}.{name} is no tensor of Whisper.")


def from_ctranslate2(path: Path) -> PlainWhisper:
    """The encoder in a CTranslate2 file. Raises CheckpointError (`read_ctranslate2`)."""
    variables = read_ctranslate2(path)
    return _plain(path, whisper_weights(variables, ("encoder",)), _ctranslate2_heads(variables, "encoder"))


def whole_from_ctranslate2(path: Path) -> WholeWhisper:
    """Encoder and decoder in a CTranslate2 file. Raises CheckpointError (`read_ctranslate2`)."""
    variables = read_ctranslate2(path)
    return _whole(path, whisper_weights(variables), *(_ctranslate2_heads(variables, stack) for stack in STACKS))


def _ctranslate2_heads(variables: Mapping[str, Tensor], stack: str) -> int | None:
    heads = variables.get(f"{stack}/num_heads")
    return None if heads is None else int(heads)


def whole_from_huggingface(
    state: Mapping[str, Tensor], config: Mapping[str, Any], preprocessor: Mapping[str, Any], folder: Path
) -> WholeWhisper:
    """Encoder and decoder in a HuggingFace folder; arguments as of `from_whisper`.

    Raises:
        CheckpointError: the features are not those that Whisper takes, the output layer is not the embedding, or there
            is no decoder.
    """
    if config.get(_TYING) is False:
        raise CheckpointError(f"{folder}/config.json: {_TYING} is false; Whisper's output layer is its embedding.")
    if state and not any(name.startswith("decoder.") for name in state):
        raise _encoder_alone(folder)
    from_whisper({}, config, preprocessor, folder)
    return WholeWhisper(config, {n: tensor for n, tensor in state.items() if n.partition(".")[0] in STACKS}, folder)


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


def _decoder_settings(weights: Mapping[str, Tensor], path: Path, heads: int | None) -> dict[str, Any]:
    """As `settings_of`, of the decoder; names of the weights are those of WhisperModel."""
    try:
        vocabulary, width = weights["decoder.embed_tokens.weight"].shape
        ffn = weights["decoder.layers.0.fc1.weight"].shape[0]
        positions = weights["decoder.embed_positions.weight"].shape[0]
    except (KeyError, ValueError):
        raise _encoder_alone(path) from None
    return {
        "vocab_size": vocabulary,
        "decoder_layers": 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("decoder.layers.")),
        "decoder_attention_heads": heads or width // _HEAD_WIDTH,
        "decoder_ffn_dim": ffn,
        "max_target_positions": positions,
    }


def _encoder_alone(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: holds Whisper's encoder alone. A whole recogniser needs the decoder, too; with the encoder take "
        "--task ctc."
    )
