"""One loader for every format in which public speech upstreams are found; the name ``auto`` of the hub.

=============  ==============================================================================================
huggingface    folder with config.json, preprocessor_config.json, model.safetensors (or pytorch_model.bin)
fairseq        .pt with ``cfg`` or ``args``, and ``model``: wav2vec 2.0, HuBERT, data2vec-audio, XLS-R, XLSR, MMS
wavlm          .pt with ``cfg`` and ``model`` as Microsoft publishes them
s3prl          .pt that s3prl made of a fairseq file: ``model_cfg``, ``task_cfg``, ``model_weight``
torchaudio     .pth: the state dict of a torchaudio bundle
=============  ==============================================================================================

Whatever the format, the same weights become the same transformers model, with the same names and the same fingerprint:
a pack that was trained on one fits all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import read_tensors
from s3router.upstreams.convert_fairseq import from_fairseq
from s3router.upstreams.convert_torchaudio import from_torchaudio, looks_like_torchaudio
from s3router.upstreams.fairseq_file import fairseq_parts, is_tensor_mapping, read_pickle
from s3router.upstreams.huggingface import FAMILIES, HuggingFaceUpstream, load_huggingface
from s3router.upstreams.plain_model import PlainModel

_FILES = {".pt", ".pth", ".bin", ".safetensors"}


def load_any(
    source: str | Path,
    random_init: bool = False,
    normalize_eps: float | None = None,
    bundle: str | None = None,
    normalize: bool | None = None,
) -> HuggingFaceUpstream:
    """The upstream in a folder or file of any format above, or in a repository of the HuggingFace hub.

    Args:
        random_init: the same architecture with fresh weights.
        normalize_eps: added to the variance when waveforms are normalised; None: what the format implies (1e-5 as in
            pretraining; 1e-7, transformers' own, for a folder that says nothing of it).
        bundle: name of the torchaudio bundle, where the file is one and its name does not tell.
        normalize: whether waveforms are normalised, against what a folder says; None: as it says. Files know it.

    Raises:
        CheckpointError: missing, unsafe, damaged, partial, or of no known format.
    """
    path = Path(source)
    if path.suffix in _FILES and not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint file.")
    if path.is_dir() or not path.exists():
        return load_huggingface(_family_name(path, str(source)), str(source), random_init, normalize_eps, normalize)
    return read_any(path, bundle).upstream(random_init)


def read_any(path: Path, bundle: str | None = None) -> PlainModel:
    """Configuration and weights in a file of any format above."""
    content = read_tensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a checkpoint, found {type(content).__name__}.")
    if is_tensor_mapping(content):
        if looks_like_torchaudio(content):
            return from_torchaudio(content, path, bundle)
        raise CheckpointError(
            f"{path}: weights without a configuration. Give the folder that holds config.json beside them, or the "
            "checkpoint that they were taken from."
        )
    return from_fairseq(fairseq_parts(content, path), path)


def _family_name(path: Path, source: str) -> str:
    """The hub name for the family that a folder's config.json states."""
    if not path.is_dir():
        from s3router.upstreams.huggingface import fetch_folder

        path = fetch_folder(source)
    try:
        kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}/config.json: missing, or no JSON object. An upstream's folder needs it."
        ) from error
    for name, (model_type, _) in FAMILIES.items():
        if model_type == kind:
            return name
    known = ", ".join(model_type for model_type, _ in FAMILIES.values())
    raise CheckpointError(f"{path}/config.json: model_type {kind!r} is none of {known}.")
