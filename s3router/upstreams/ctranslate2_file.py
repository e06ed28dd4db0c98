"""Whisper as CTranslate2 keeps it: the ``model.bin`` that faster-whisper downloads.

The file is a list of named arrays behind a short header, little-endian; nothing in it is code. Format: version 6 of
CTranslate2's binary models, revision 3 of its WhisperSpec.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s3router.errors import CheckpointError

VERSIONS = (6,)
SPECIFICATION = "WhisperSpec"
_BFLOAT16 = 5  # numpy has none: its bits are read as whole numbers
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16, _BFLOAT16: np.int16}
_MAX_RANK = 8
STACKS = ("encoder", "decoder")


def looks_like_ctranslate2(path: Path) -> bool:
    """Whether a file begins as CTranslate2's models do: a small version number, then the name of a specification."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 8:
        return False
    version, length = struct.unpack_from("<IH", head)
    name = head[6 : 6 + length]
    return 0 < version < 100 and 1 < length < 58 and name.endswith(b"Spec\0")


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Variable name -> tensor, as stored (half precision stays half precision).

    Raises:
        CheckpointError: another version or specification, cut short, damaged, or quantised to integers.
    """
    reader = _Reader(path)
    version = reader.number("<I")
    if version not in VERSIONS:
        raise CheckpointError(
            f"{path}: a CTranslate2 model of version {version}; known: {', '.join(map(str, VERSIONS))}. Convert the "
            "model again with a current ct2-transformers-converter, or take its HuggingFace folder."
        )
    specification = reader.text()
    if specification != SPECIFICATION:
        raise CheckpointError(f"{path}: a CTranslate2 model of kind {specification}; only {SPECIFICATION} is read.")
    reader.number("<I")  # revision of the specification: the names of its variables are checked by whoever uses them
    tensors = dict(reader.variables(reader.number("<I")))
    tensors |= reader.aliases(tensors)
    quantised = [n for n, value in tensors.items() if n.endswith("weight") and value.dtype in (torch.int8, torch.int16)]
    if quantised:
        raise CheckpointError(
            f"{path}: quantised to integers ({quantised[0]} and {len(quantised) - 1} more), from which the weights "
            "cannot be had back. Take the float16 or float32 model."
        )
    return tensors


@dataclass
class _Reader:
    path: Path

    def __post_init__(self) -> None:
        self.data, self.at = np.memmap(self.path, mode="r"), 0

    def take(self, count: int) -> np.ndarray:
        if self.at + count > len(self.data):
            raise CheckpointError(f"{self.path}: cut short after {len(self.data)} bytes. Copy or download it again.")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)).tobytes())[0]

    def text(self) -> str:
        raw = self.take(self.number("<H")).tobytes()
        try:
            return raw.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path}: damaged near byte {self.at}. Copy or download it again.") from None

    def variables(self, count: int) -> Iterator[tuple[str, Tensor]]:
        for _ in range(count):
            name, rank = self.text(), self.number("<B")
            if rank > _MAX_RANK:
                raise CheckpointError(f"{self.path}: damaged near byte {self.at}. Copy or download it again.")
            shape = [self.number("<I") for _ in range(rank)]
            dtype, size = self.number("<B"), self.number("<I")
            items = int(np.prod(shape, dtype=np.int64))
            if dtype not in _DTYPES or items * np.dtype(_DTYPES[dtype]).itemsize != size:
                raise CheckpointError(f"{self.path}: {name} is damaged ({shape}, {size} bytes). Download it again.")
            value = torch.from_numpy(self.take(size).view(_DTYPES[dtype]).reshape(shape).copy())
            yield name, value.view(torch.bfloat16) if dtype == _BFLOAT16 else value

    def aliases(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Further names of tensors: the converter keeps what is equal once, such as layer norms that never trained."""
        count = self.number("<I") if self.at < len(self.data) else 0
        pairs = [(self.text(), self.text()) for _ in range(count)]
        if unknown := [name for _, name in pairs if name not in tensors]:
            raise CheckpointError(f"{self.path}: damaged: no tensor {unknown[0]}. Copy or download it again.")
        return {alias: tensors[name] for alias, name in pairs}


def whisper_weights(variables: Mapping[str, Tensor], stacks: Collection[str] = STACKS) -> dict[str, Tensor]:
    """The tensors of these stacks in the naming of transformers' WhisperModel; stacked projections are parted."""
    named: dict[str, Tensor] = {}
    layer_norm = {"gamma": "weight", "beta": "bias"}
    attentions = {"self_attention": ("self_attn", "qkv"), "attention": ("encoder_attn", "kv")}
    for name, value in variables.items():
        stack, *rest = name.split("/")
        if stack not in stacks:
            continue
        match rest:
            case [("conv1" | "conv2") as conv, kind]:
                named[f"{stack}.{conv}.{kind}"] = value
            case ["embeddings", "weight"]:
                named[f"{stack}.embed_tokens.weight"] = value
            case ["position_encodings", "encodings"]:
                named[f"{stack}.embed_positions.weight"] = value
            case ["layer_norm", kind]:
                named[f"{stack}.layer_norm.{layer_norm[kind]}"] = value
            case [layer, "ffn", "layer_norm", kind]:
                named[f"{_layer(stack, layer)}.final_layer_norm.{layer_norm[kind]}"] = value
            case [layer, "ffn", ("linear_0" | "linear_1") as linear, kind]:
                named[f"{_layer(stack, layer)}.fc{int(linear[-1]) + 1}.{kind}"] = value
            case [layer, ("self_attention" | "attention") as attention, "layer_norm", kind]:
                named[f"{_layer(stack, layer)}.{attentions[attention][0]}_layer_norm.{layer_norm[kind]}"] = value
            case [layer, "attention", "linear_0", kind]:
                named[f"{_layer(stack, layer)}.encoder_attn.q_proj.{kind}"] = value
            case [layer, "self_attention", "linear_1", kind] | [layer, "attention", "linear_2", kind]:
                named[f"{_layer(stack, layer)}.{attentions[rest[1]][0]}.out_proj.{kind}"] = value
            case [layer, "self_attention", "linear_0", kind] | [layer, "attention", "linear_1", kind]:
                ours, letters = attentions[rest[1]]
                for letter, piece in zip(letters, value.chunk(len(letters)), strict=True):
                    if (letter, kind) != ("k", "bias"):  # keys have none; the file has zeros in its place
                        named[f"{_layer(stack, layer)}.{ours}.{letter}_proj.{kind}"] = piece.clone()
    return named


def _layer(stack: str, name: str) -> str:
    return f"{stack}.layers.{name.removeprefix('layer_')}"
