"""A whole recogniser: Whisper's encoder and decoder (arXiv 2212.04356), from every format that it is published in.

    recogniser = load_recogniser("whisper_base")
    recogniser.model(features, decoder_input_ids=...)

The encoder by itself, as an upstream for other tasks, is `s3router.upstreams.whisper`; its weights are the same.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from s3router.errors import CheckpointError, ConfigError
from s3router.files import replacing_folder, write_json
from s3router.packs.fingerprint import weights_hash
from s3router.upstreams.checkpoint import first_line
from s3router.upstreams.convert_huggingface import fetch_folder, read_json, read_weights
from s3router.upstreams.convert_whisper import (
    FAMILY,
    WholeWhisper,
    looks_like_openai,
    preprocessor_of,
    whole_from_ctranslate2,
    whole_from_huggingface,
    whole_from_openai,
)
from s3router.upstreams.ctranslate2_file import looks_like_ctranslate2
from s3router.upstreams.fairseq_file import read_pickle
from s3router.upstreams.hub import AUTO, check_name
from s3router.upstreams.plain_model import fill
from s3router.upstreams.public import fetch, find_public, local_copy, refuse_another
from s3router.upstreams.whisper import log_mel, mel_filters
from s3router.upstreams.whisper_tokenizer import (
    ENGLISH_ONLY,
    NO_TIMESTAMPS,
    START,
    TASKS,
    generation_settings,
    languages_of,
    read_tokenizer,
)

_OUTPUT, _EMBEDDING = "proj_out.weight", "decoder.embed_tokens.weight"  # the same tensor
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_HUB_NAME = "hf_whisper_custom"
_STILL = {  # masks, or a few updates, leave little to regularise; layers are not left out, as for all upstreams
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "apply_spec_augment": False,
}


class WindowEncoder(WhisperEncoder):
    """transformers' WhisperEncoder for windows of any length up to 30 s, where that takes 30 s only."""

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, input_features: Tensor, attention_mask: Any = None, **kwargs: Any) -> BaseModelOutput:
        """Log-mel spectrograms (B, bins, T), T up to 3,000 -> hidden states (B, ceil(T / 2), width)."""
        hidden = F.gelu(self.conv2(F.gelu(self.conv1(input_features)))).permute(0, 2, 1)
        if hidden.size(1) > self.max_source_positions:
            raise ConfigError(
                f"a window of {input_features.size(2)} frames of 10 ms; Whisper takes {2 * self.max_source_positions}"
            )
        hidden = hidden + self.embed_positions.weight[: hidden.size(1)]
        hidden = F.dropout(hidden, p=self.dropout, training=self.training)
        for layer in self.layers:
            hidden = layer(hidden, None, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))


class WhisperRecogniser(WhisperForConditionalGeneration):
    """WhisperForConditionalGeneration with a `WindowEncoder`: names and weights are the same, 30 s give the same.

    Attributes:
        UPSTREAM: all of it is what `s3router.training.parameters` calls the upstream: there is no head.
    """

    UPSTREAM = "model"

    def __init__(self, config: WhisperConfig):
        super().__init__(config)
        self.model.encoder = WindowEncoder(config)


@dataclass
class Recogniser:
    """A model with its vocabulary.

    Attributes:
        model: float32, in evaluation mode, without dropout.
        tokenizer: its vocabulary.
        upstream: the name that it was loaded by.
        ckpt: the file, folder or repository that was given with the name, if any.
    """

    model: WhisperRecogniser
    tokenizer: WhisperTokenizer
    upstream: str
    ckpt: str | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes such as "fr" and "yo"; none for English-only models."""
        return tuple(languages_of(self.tokenizer)) if self.model.generation_config.is_multilingual else ()

    @property
    def fingerprint(self) -> str:
        """See `s3router.packs.fingerprint.weights_hash`."""
        return weights_hash(self.model)

    def prompt(self, language: str | None, task: str = "transcribe") -> list[int]:
        """Ids of the tokens with which the decoder begins: start, language, task, no timestamps.

        Args:
            language: a code of ``languages``; None or "en" for English-only models.
            task: transcribe, or translate (into English).

        Raises:
            ConfigError: the model does not know the language or the task.
        """
        if task not in TASKS:
            raise ConfigError(f"task {task!r}: Whisper knows {' and '.join(TASKS)}.")
        known = self.tokenizer.get_vocab()
        if not self.languages:
            if language not in (None, "en") or task != TASKS[0]:
                raise ConfigError(
                    f"upstream {self.upstream} transcribes English only, not {language or 'en'} ({task}). Take a "
                    "multilingual one."
                )
            return [known[START], known[NO_TIMESTAMPS]]
        if language not in self.languages:
            raise ConfigError(_no_language(language, self.languages, self.upstream))
        return [known[f"<|{token}|>"] for token in ("startoftranscript", language, task, "notimestamps")]

    def log_mel(self, wave: Tensor) -> Tensor:
        """Waveform (samples,) at 16 kHz, 30 s at most -> log-mel spectrogram (bins, frames); see `whisper.log_mel`."""
        filters = mel_filters(self.model.config.num_mel_bins).to(wave.device)
        return log_mel(wave[None], filters)[0]

    def save(self, folder: str | os.PathLike) -> Path:
        """Write a HuggingFace folder of a WhisperForConditionalGeneration, whole or not at all.

        Raises:
            CheckpointError: the folder is there already.
        """
        folder = Path(folder)
        if folder.exists():
            raise CheckpointError(f"{folder}: is there already. Remove it, or name another folder.")
        with replacing_folder(folder) as draft:
            self.write(draft)
        return folder

    def write(self, folder: Path) -> None:
        """The files of such a folder, into one that is there."""
        with torch.device("meta"):
            plain = WhisperForConditionalGeneration(copy.deepcopy(self.model.config))
        plain.load_state_dict(self.model.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = copy.deepcopy(self.model.generation_config)
        plain.generation_config.max_length = self.model.config.max_target_positions
        plain.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", preprocessor_of(self.model.config.num_mel_bins), indent=2)


def _no_language(language: str | None, known: tuple[str, ...], upstream: str) -> str:
    codes = f"Known: {', '.join(known)}."
    if language is None:
        return f"upstream {upstream}: name the language of the recordings. {codes}"
    by_name = TO_LANGUAGE_CODE.get(language.lower())
    close = [by_name] if by_name in known else difflib.get_close_matches(language.lower(), known, 3)
    hint = f"Did you mean {' or '.join(close)}?" if close else codes
    lacking = "For training on a language that it lacks, auto takes the likeliest token."
    return f"language {language!r} is none that upstream {upstream} knows. {hint} {lacking}"


def load_recogniser(upstream: str, ckpt: str | None = None, random_init: bool = False) -> Recogniser:
    """The whole recogniser of an upstream.

    Args:
        upstream: a public Whisper (whisper_base, …), ``auto`` or ``hf_whisper_custom``.
        ckpt: as of `s3router.upstreams.hub.build`; with ``auto`` a file or folder of any format of Whisper.
        random_init: the same architecture with fresh weights, from torch's generator.

    Raises:
        ConfigError: an unknown name, or an upstream that is no Whisper.
        CheckpointError: as `build`; or the decoder or the tokenizer is missing or does not fit.
    """
    check_name(upstream, ckpt)
    public = find_public(upstream)
    if upstream not in (AUTO, _HUB_NAME) and (public is None or public.family != FAMILY):
        raise _no_whisper(f"upstream {upstream}")
    source = str(fetch(public)) if ckpt is None else local_copy(str(ckpt))
    whole = read_whole(source, weights=not random_init)
    if public is not None:
        refuse_another(public, FAMILY, whole.sizes(), whole.source)
    tokenizer = read_tokenizer(whole.source, whole.vocabulary)
    described = _described(whole.source)
    multilingual = described.get("is_multilingual", whole.vocabulary != ENGLISH_ONLY)
    settings = generation_settings(tokenizer, multilingual)
    heads = described.get("alignment_heads") or (public.alignment_heads if public is not None else None)
    if heads:  # for times of words; no property of the vocabulary
        settings["alignment_heads"] = [list(head) for head in heads]
    model = _build(whole, {name: settings[name] for name in _IDS}, random_init)
    model.generation_config = GenerationConfig(**settings)
    return Recogniser(model, tokenizer, upstream, None if ckpt is None else str(ckpt))


def read_whole(source: str, weights: bool = True) -> WholeWhisper:
    """Encoder and decoder in a folder, file or repository of the HuggingFace hub.

    Args:
        weights: read them; HuggingFace folders need no weights without.

    Raises:
        ConfigError: another model than Whisper.
        CheckpointError: missing, unsafe or damaged.
    """
    path = Path(source)
    if path.is_dir() or not path.exists():
        folder = fetch_folder(source)
        config = read_json(folder / "config.json", "A HuggingFace upstream folder needs it.")
        if config.get("model_type") != FAMILY:
            raise _no_whisper(f"{folder}/config.json: model_type {config.get('model_type')!r}")
        preprocessor = folder / "preprocessor_config.json"
        tensors = read_weights(folder, FAMILY) if weights else {}
        return whole_from_huggingface(
            tensors, config, read_json(preprocessor) if preprocessor.is_file() else {}, folder
        )
    if looks_like_ctranslate2(path):
        return whole_from_ctranslate2(path)
    if path.suffix != ".safetensors" and looks_like_openai(content := read_pickle(path)):
        return whole_from_openai(content, path)
    raise _no_whisper(str(path))


def _no_whisper(what: str) -> ConfigError:
    return ConfigError(
        f"{what}: a whole recogniser needs a Whisper (--upstream whisper_base, …; or with auto OpenAI's .pt, "
        "faster-whisper's model.bin, a HuggingFace folder). With other upstreams take --task ctc."
    )


def _described(source: Path) -> Mapping[str, Any]:
    """Settings of decoding beside the weights: transformers' in a folder, faster-whisper's beside model.bin."""
    path = source / "generation_config.json" if source.is_dir() else source.parent / "config.json"
    if not path.is_file() or source.suffix == ".pt":
        return {}
    return read_json(path)


def _build(whole: WholeWhisper, ids: Mapping[str, int], random_init: bool) -> WhisperRecogniser:
    try:
        config = WhisperConfig.from_dict({**whole.settings, **_STILL, **ids, "tie_word_embeddings": True})
        with contextlib.nullcontext() if random_init else torch.device("meta"):
            model = WhisperRecogniser(config).float().eval()
    except Exception as error:  # transformers raises what the wrong value leads to
        raise CheckpointError(
            f"{whole.source}: no Whisper can be made from this configuration ({first_line(error)})."
        ) from error
    if not random_init:
        _fill(model, whole)
    return model


def _fill(model: nn.Module, whole: WholeWhisper) -> None:
    given = {f"model.{name}": tensor for name, tensor in whole.weights.items()}
    if _EMBEDDING in whole.weights:
        given[_OUTPUT] = whole.weights[_EMBEDDING]
    fill(model, given, whole.source)
    model.tie_weights()
