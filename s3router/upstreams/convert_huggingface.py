"""HuggingFace folders and repositories of the families of models in `s3router.upstreams.huggingface.FAMILIES`."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import ATTACH, OTHER_MODELS, first_line, read_tensors, refuse_espnet
from s3router.upstreams.convert_whisper import from_whisper
from s3router.upstreams.huggingface import FAMILIES, NORMALIZE_EPS, REFUSED
from s3router.upstreams.plain_model import PlainModel, model_class

logger = logging.getLogger(__name__)

WEIGHT_FILES = (  # in the order in which transformers looks for them
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Heads of pretraining or of an earlier finetuning: not part of the upstream, whatever a folder holds of them.
_HEADS = re.compile(
    r"^(\w+\.)?(quantizer|project_q|project_hid|lm_head|final_proj|label_embs_concat|classifier|projector"
    r"|label_embeddings_concat|ctc_proj|speaker_proj|layer_norm_for_extract"  # UniSpeech and UniSpeech-SAT
    r"|layer_weights|tdnn|objective|feature_extractor\.(weight|bias)$"  # classification; x-vectors
    r"|adapter)\b"  # convolutions above the encoder, for a decoder that wants fewer frames
)


def from_huggingface(source: str, name: str | None = None, weights: bool = True) -> PlainModel:
    """The model in a folder, or in a repository of the HuggingFace hub, which is downloaded.

    Args:
        source: folder with config.json, preprocessor_config.json and model.safetensors (or pytorch_model.bin);
            otherwise the id of a repository ("facebook/hubert-base-ls960").
        name: the hub name (a key of FAMILIES) whose family it must be; None: any.
        weights: read them; without, the folder needs no weight file.

    Raises:
        CheckpointError: a file is missing, unsafe or damaged, or for another architecture.
    """
    folder = fetch_folder(source)
    if not (folder / "config.json").exists() and any(folder.rglob("config.yaml")):
        raise refuse_espnet(folder)
    config = read_json(folder / "config.json", "A HuggingFace upstream folder needs it.")
    family = _family(config.get("model_type"), name, folder / "config.json")
    if family == "whisper":
        path = folder / "preprocessor_config.json"
        tensors = read_weights(folder, family) if weights else {}
        return from_whisper(tensors, config, read_json(path) if path.is_file() else {}, folder)
    preprocessor = _read_preprocessor(folder)
    eps = preprocessor.get("normalize_eps", NORMALIZE_EPS)
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < 1:
        raise CheckpointError(
            f"{folder}/preprocessor_config.json: normalize_eps must be a small number, found {eps!r}."
        )
    if config.get("add_adapter"):
        config["add_adapter"] = False  # the last hidden state would have other frames than the rest
    if config.get("adapter_attn_dim"):
        logger.warning(
            "%s: the language adapters in its model file become part of the upstream; for those of another language, "
            "see docs/upstreams.md, Gallery",
            folder,
        )
    tensors = read_weights(folder, family) if weights else {}
    return PlainModel(family, config, tensors, preprocessor["do_normalize"], folder, float(eps))


def fetch_folder(source: str) -> Path:
    """The local folder that ``source`` names; the id of a repository is downloaded. Raises CheckpointError."""
    if Path(source).is_dir():
        return Path(source)
    if Path(source).exists():
        raise CheckpointError(
            f"{source}: a file, but a HuggingFace upstream is a folder with config.json and model.safetensors. "
            "Checkpoint files of any format are read by --upstream auto."
        )
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source):
        raise CheckpointError(f"{source}: no such folder. Give the folder that holds the upstream's config.json.")
    from huggingface_hub import snapshot_download

    try:
        wanted = ["*config.json", "*config.yaml", "tokenizer.json", *WEIGHT_FILES, "*.safetensors", "*.bin"]
        # MMS has an adapter file for each of a thousand languages
        return Path(snapshot_download(source, allow_patterns=wanted, ignore_patterns=["adapter.*"]))
    except Exception as error:  # the client raises a dozen kinds, from its own and from two HTTP libraries
        raise CheckpointError(
            f"{source}: no such folder, and it cannot be downloaded from huggingface.co ({first_line(error)}). "
            "Download config.json, preprocessor_config.json and model.safetensors elsewhere, put them into one folder, "
            "and give that folder as path_or_url."
        ) from error


def _family(found: Any, name: str | None, path: Path) -> str:
    wanted = FAMILIES[name][0] if name is not None else None
    names = {family: hub_name for hub_name, (family, _) in FAMILIES.items()}
    if found in names and wanted in (None, found):
        return found
    if found in REFUSED:
        raise CheckpointError(
            f"{path}: a model of type {found} is no upstream here, because {REFUSED[found]}; {ATTACH}"
        )
    if found not in names:
        raise CheckpointError(f"{path}: model_type {found!r} is none of {', '.join(names)}. {OTHER_MODELS}")
    raise CheckpointError(f"{path}: {name} wants model_type {wanted!r}, found {found!r}. Use {names[found]}, or auto.")


def _read_preprocessor(folder: Path) -> dict:
    """preprocessor_config.json, or the part of processor_config.json in which transformers 5 saves the same."""
    path, whole = folder / "preprocessor_config.json", folder / "processor_config.json"
    content = None
    if not path.exists() and whole.is_file():
        content = read_json(whole).get("feature_extractor")
    if not isinstance(content, dict):
        content = read_json(path, "A HuggingFace upstream folder needs it.")
    if content.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise CheckpointError(f"{folder}: made for {content['sampling_rate']} Hz; upstreams here take {SAMPLE_RATE}.")
    if not isinstance(content.get("do_normalize"), bool):
        raise CheckpointError(
            f"{path}: do_normalize (true or false) is missing; without it the scale of the waveforms that the model "
            "was trained on is not known."
        )
    return content


def read_json(path: Path, why: str = "") -> dict:
    """A JSON object. Raises CheckpointError, with ``why`` where the file is missing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing. {why}".rstrip()) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}). Copy or download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}.")
    return content


def read_weights(folder: Path, family: str) -> dict[str, Tensor]:
    """The folder's weights, heads left out, by their names in the bare model. Raises CheckpointError."""
    present = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not present:
        raise CheckpointError(f"{folder}: no weights. Expected one of {', '.join(WEIGHT_FILES)}.")
    first = present[0]
    shards = [first]
    if first.name.endswith(".index.json"):
        mapped = read_json(first).get("weight_map", {})
        shards = sorted({folder / str(shard) for shard in mapped.values()}) if isinstance(mapped, dict) else []
        lacking = [shard.name for shard in shards if not shard.is_file()]
        if lacking or not shards:
            raise CheckpointError(f"{first}: shards missing from the folder: {', '.join(lacking) or 'all of them'}.")
    tensors = {name: tensor for shard in shards for name, tensor in read_tensors(shard).items()}
    inside = f"{model_class(family).base_model_prefix}."  # of a model with a head
    weights = {name.removeprefix(inside): tensor for name, tensor in tensors.items() if not _HEADS.match(name)}
    if left_out := len(tensors) - len(weights):
        logger.info("%s: left out %d tensors of heads that are not part of the upstream", folder, left_out)
    return weights
