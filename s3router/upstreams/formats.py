"""One reader for every format in which speech upstreams are published; the name ``auto`` of the hub.

=============  ==============================================================================================
huggingface    folder with config.json, preprocessor_config.json, model.safetensors (or pytorch_model.bin)
fairseq        .pt with ``cfg`` or ``args``, and ``model``: wav2vec 2.0, HuBERT, data2vec-audio, XLS-R, XLSR, MMS
wavlm          .pt with ``cfg`` and ``model`` as Microsoft publishes them
s3prl          .pt that s3prl made of a fairseq file: ``model_cfg``, ``task_cfg``, ``model_weight``
torchaudio     .pth: the state dict of a torchaudio bundle
openai         .pt of Whisper: ``dims`` and ``model_state_dict``; its encoder is taken
ctranslate2    model.bin of Whisper, as faster-whisper takes it; its encoder is taken
=============  ==============================================================================================

Each vendor has an importer, which gives a `PlainModel`. Whatever the format, the same weights become the same
transformers model, with the same names and the same fingerprint: a pack that was trained on one fits all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import read_tensors, refuse_espnet
from s3router.upstreams.convert_fairseq import from_fairseq
from s3router.upstreams.convert_huggingface import from_huggingface
from s3router.upstreams.convert_torchaudio import from_torchaudio, looks_like_torchaudio
from s3router.upstreams.convert_whisper import from_ctranslate2, from_openai, looks_like_openai
from s3router.upstreams.ctranslate2_file import looks_like_ctranslate2
from s3router.upstreams.fairseq_file import fairseq_parts, is_tensor_mapping, read_pickle
from s3router.upstreams.huggingface import HuggingFaceUpstream
from s3router.upstreams.plain_model import PlainModel
from s3router.upstreams.whisper import WhisperUpstream

CHECKPOINT_SUFFIXES = {".pt", ".pth", ".bin", ".safetensors"}


def load_any(
    source: str | Path, random_init: bool = False, name: str | None = None
) -> HuggingFaceUpstream | WhisperUpstream:
    """The upstream in a folder or file of any format above, or in a repository of the HuggingFace hub.

    Args:
        random_init: the same architecture with fresh weights.
        name: see `read_any`.

    Raises:
        CheckpointError: missing, unsafe, damaged, partial, or of no known format.
    """
    return read_any(source, name=name, weights=not random_init).upstream(random_init)


def read_any(
    source: str | Path, bundle: str | None = None, name: str | None = None, weights: bool = True
) -> PlainModel:
    """Configuration and weights in a folder, repository or file of any format above.

    Args:
        bundle: name of the torchaudio bundle, where the file is one and its name does not tell.
        name: ``hf_..._custom``: only a folder or repository of that family will do.
        weights: read them; HuggingFace folders need no weights without.

    Raises:
        CheckpointError: missing, unsafe, damaged, or of no known format.
    """
    path = Path(source)
    if path.suffix in CHECKPOINT_SUFFIXES and not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint file.")
    if name is not None or path.is_dir() or not path.exists():
        return from_huggingface(str(source), name, weights)
    if looks_like_ctranslate2(path):
        return from_ctranslate2(path)
    content = read_tensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a checkpoint, found {type(content).__name__}.")
    if looks_like_openai(content):
        return from_openai(content, path)
    if is_tensor_mapping(content):
        if looks_like_torchaudio(content):
            return from_torchaudio(content, path, bundle)
        if any(name.startswith("encoder.encoders.") for name in content):
            raise refuse_espnet(path)
        raise CheckpointError(
            f"{path}: weights without a configuration. Give the folder that holds config.json beside them, or the "
            "checkpoint that they were taken from."
        )
    return from_fairseq(fairseq_parts(content, path), path)
