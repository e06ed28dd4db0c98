"""A small random Whisper, and files of it in every format in which Whisper is published."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch

from s3router.upstreams.convert_whisper import preprocessor_of

LANGUAGES = ("en", "fr", "it", "yo", "haw")
SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>"),
    *(f"<|{code}|>" for code in LANGUAGES),
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)
TIMES = 1501
TEXT = 256 + len(words := ("Ġbon", "jour", "Ġdo", "main"))  # bytes and some longer pieces
START = TEXT + 1
SIZES = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 1,
    "decoder_attention_heads": 1,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 32,
    "vocab_size": TEXT + len(SPECIAL) + TIMES,
    "pad_token_id": TEXT,
    "bos_token_id": TEXT,
    "eos_token_id": TEXT,
    "decoder_start_token_id": START,
    "dropout": 0.0,
}
OPENAI = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}


def small_whisper(seed: int = 3, **sizes) -> torch.nn.Module:
    """A WhisperForConditionalGeneration in evaluation mode whose weights half precision holds exactly."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(WhisperConfig(**SIZES | sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
        model.model.decoder.embed_tokens.weight[START:] = 0  # the most probable token is one of text
    return model


def tokenizer_file(folder: Path, special: tuple[str, ...] = SPECIAL) -> Path:
    """Write tokenizer.json: byte pairs and Whisper's special tokens, those of times not listed."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = {piece: number for number, piece in enumerate((*alphabet, *words))}
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def huggingface_folder(model: torch.nn.Module, folder: Path) -> Path:
    """Write a folder as transformers does, with its tokenizer."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_of(80)))
    tokenizer_file(folder)
    return folder


def openai_file(model: torch.nn.Module, path: Path, tokenizer: bool = True) -> Path:
    """Write OpenAI's .pt, and tokenizer.json beside it."""
    state = {}
    for stack, ln in (("encoder", "ln_post"), ("decoder", "ln")):
        for name, tensor in getattr(model.model, stack).state_dict().items():
            head, _, kind = name.rpartition(".")
            if name == "embed_positions.weight":
                state[f"{stack}.positional_embedding"] = tensor
            elif name == "embed_tokens.weight":
                state[f"{stack}.token_embedding.weight"] = tensor
            elif name.startswith("layers."):
                _, number, part = head.split(".", 2)
                state[f"{stack}.blocks.{number}.{OPENAI[part]}.{kind}"] = tensor
            else:
                state[f"{stack}.{name.replace('layer_norm', ln)}"] = tensor
    dims = {"n_audio_head": 1, "n_audio_state": 64, "n_text_head": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"dims": dims, "model_state_dict": state}, path)
    if tokenizer:
        tokenizer_file(path.parent)
    return path


def ctranslate2_variables(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The arrays of faster-whisper's model.bin, in half precision, by their names there."""
    found: dict[str, np.ndarray] = {}
    for stack in ("encoder", "decoder"):
        module = getattr(model.model, stack)
        state = {name: tensor.numpy().astype(np.float16) for name, tensor in module.state_dict().items()}
        found[f"{stack}/num_heads"] = np.array(1, np.int16)
        found[f"{stack}/position_encodings/encodings"] = state["embed_positions.weight"]
        for name in {"encoder": ("conv1", "conv2"), "decoder": ("embed_tokens",)}[stack]:
            for kind in ("weight", "bias"):
                if f"{name}.{kind}" in state:
                    theirs = name.replace("embed_tokens", "embeddings")
                    found[f"{stack}/{theirs}/{kind}"] = state[f"{name}.{kind}"]
        _norm(found, f"{stack}/layer_norm", state, "layer_norm")
        for n in range(len(module.layers)):
            of, to = f"layers.{n}", f"{stack}/layer_{n}"
            _norm(found, f"{to}/self_attention/layer_norm", state, f"{of}.self_attn_layer_norm")
            _norm(found, f"{to}/ffn/layer_norm", state, f"{of}.final_layer_norm")
            if stack == "decoder":
                _norm(found, f"{to}/attention/layer_norm", state, f"{of}.encoder_attn_layer_norm")
            for kind in ("weight", "bias"):
                own = _attention(state, f"{of}.self_attn", kind)
                found[f"{to}/self_attention/linear_0/{kind}"] = np.concatenate([own[x] for x in "qkv"])
                found[f"{to}/self_attention/linear_1/{kind}"] = state[f"{of}.self_attn.out_proj.{kind}"]
                found[f"{to}/ffn/linear_0/{kind}"] = state[f"{of}.fc1.{kind}"]
                found[f"{to}/ffn/linear_1/{kind}"] = state[f"{of}.fc2.{kind}"]
                if stack == "decoder":
                    cross = _attention(state, f"{of}.encoder_attn", kind)
                    found[f"{to}/attention/linear_0/{kind}"] = cross["q"]
                    found[f"{to}/attention/linear_1/{kind}"] = np.concatenate([cross[x] for x in "kv"])
                    found[f"{to}/attention/linear_2/{kind}"] = state[f"{of}.encoder_attn.out_proj.{kind}"]
    return found


def _norm(found: dict[str, np.ndarray], to: str, state: dict[str, np.ndarray], of: str) -> None:
    found[f"{to}/gamma"], found[f"{to}/beta"] = state[f"{of}.weight"], state[f"{of}.bias"]


def _attention(state: dict[str, np.ndarray], of: str, kind: str) -> dict[str, np.ndarray]:
    q, v = (state[f"{of}.{x}_proj.{kind}"] for x in "qv")
    return {"q": q, "k": state.get(f"{of}.k_proj.{kind}", np.zeros_like(q)), "v": v}


def ctranslate2_file(variables: dict[str, np.ndarray], path: Path, version: int = 6, kind: str = "WhisperSpec") -> Path:
    """Write a model.bin of CTranslate2, which keeps equal arrays once, under several names."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    codes = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "uint16": 5}  # the last: bits of bfloat16
    first: dict[tuple, str] = {}
    aliases: dict[str, str] = {}
    for name, value in variables.items():
        if (same := first.setdefault((value.shape, value.dtype, value.tobytes()), name)) != name:
            aliases[name] = same
    kept = {name: value for name, value in variables.items() if name not in aliases}
    parts = [struct.pack("<I", version), text(kind), struct.pack("<II", 3, len(kept))]
    for name, value in kept.items():
        parts += [text(name), struct.pack("<B", value.ndim), struct.pack(f"<{value.ndim}I", *value.shape)]
        parts += [struct.pack("<BI", codes[value.dtype.name], value.nbytes), value.tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [text(name) for pair in aliases.items() for name in pair]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts))
    return path
