"""HuBERT, wav2vec 2.0, WavLM and data2vec-audio from HuggingFace folders, as s3prl-style upstreams.

s3prl has experts for the first two. They are not used here, because with transformers 5 they load a half-precision
file as a half-precision model, give the last layer of pre-LN models without its final layer norm, keep layer drop and
transformers' own masking on in training, let missing weights be "newly initialized", and bring the audio to the CPU.
The features are the same otherwise.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import first_line, read_tensors, refuse_partial

logger = logging.getLogger(__name__)

SHORT = 400  # frames; from here on the fused attention is the faster one (measured forwards and backwards, bfloat16)
NORMALIZE_EPS = 1e-7  # what transformers adds to the variance when it normalises a waveform
# hub name -> (model_type in config.json, class in transformers)
FAMILIES = {
    "hf_hubert_custom": ("hubert", "HubertModel"),
    "hf_wav2vec2_custom": ("wav2vec2", "Wav2Vec2Model"),
    "hf_wavlm_custom": ("wavlm", "WavLMModel"),
    "hf_data2vec_custom": ("data2vec-audio", "Data2VecAudioModel"),
}
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Heads of pretraining or of an earlier finetuning: not part of the upstream, whatever a folder holds of them.
_HEADS = re.compile(
    r"^(\w+\.)?(quantizer|project_q|project_hid|lm_head|final_proj|label_embs_concat|classifier|projector"
    r"|layer_weights|tdnn|objective|feature_extractor\.(weight|bias)$"  # classification; x-vectors
    r"|adapter)\b"  # convolutions above the encoder, for a decoder that wants fewer frames
)
MASK_EMBEDDING = "masked_spec_embed"  # only training with feature masking reads it; zeros where a checkpoint has none


class HuggingFaceUpstream(nn.Module):
    """A transformers speech model behind s3prl's interface.

    Args:
        model: HubertModel, Wav2Vec2Model, WavLMModel or Data2VecAudioModel.
        normalize: bring every waveform to zero mean and unit variance, as the model saw it in pretraining.
        normalize_eps: added to the variance. transformers adds 1e-7; fairseq, in which the public models were
            pretrained, 1e-5, which makes a difference for quiet recordings.
    """

    def __init__(self, model: nn.Module, normalize: bool, normalize_eps: float = NORMALIZE_EPS):
        super().__init__()
        self.model = model
        self.normalize = normalize
        self.normalize_eps = normalize_eps
        self._fused: str | None = None
        # part of what `RoutedUpstream` keeps features in the cache by
        self.wav_normalize = f"eps {normalize_eps:g}" if normalize and normalize_eps != NORMALIZE_EPS else None

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples per frame (320 for all public models)."""
        rate = 1
        for stride in self.model.config.conv_stride:
            rate *= stride
        return rate

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        """Waveforms [(samples,)] at 16 kHz -> {"hidden_states": [(B, T, C)] * (layers + 1)}.

        The first is the input of the first layer, the last is the encoder's output (after its final layer norm).
        """
        if self.normalize:
            wavs = [(wav - wav.mean()) / torch.sqrt(wav.var(correction=0) + self.normalize_eps) for wav in wavs]
        lengths = torch.tensor([len(wav) for wav in wavs], device=wavs[0].device)
        padded = pad_sequence(wavs, batch_first=True)
        attention_mask = (torch.arange(padded.size(1), device=padded.device) < lengths[:, None]).long()
        self._choose_attention(padded)
        output = self.model(padded, attention_mask=attention_mask, output_hidden_states=True)
        return {"hidden_states": [*output.hidden_states[:-1], output.last_hidden_state]}

    def _choose_attention(self, padded: Tensor) -> None:
        """Plain attention for short waveforms on a processor, where torch's fused one takes several times as long."""
        if self._fused is None:
            self._fused = self.model.config._attn_implementation
        short = padded.device.type == "cpu" and padded.size(1) < SHORT * self.get_downsample_rates()
        self.model.config._attn_implementation = "eager" if short else self._fused


def load_huggingface(
    name: str,
    source: str,
    random_init: bool = False,
    normalize_eps: float | None = None,
    normalize: bool | None = None,
) -> HuggingFaceUpstream:
    """Build the upstream ``name`` (a key of FAMILIES) from a folder, or from a repository of the HuggingFace hub.

    Args:
        source: folder with config.json, preprocessor_config.json and model.safetensors (or pytorch_model.bin);
            otherwise the id of a repository ("facebook/hubert-base-ls960"), which is downloaded.
        random_init: fresh weights from torch's generator; the folder needs no weight file then.
        normalize_eps: see `HuggingFaceUpstream`; None: ``normalize_eps`` of preprocessor_config.json (which
            transformers does not know), else 1e-7.
        normalize: see there, too; None: ``do_normalize`` of preprocessor_config.json.

    Raises:
        CheckpointError: a file is missing, unsafe, damaged, for another architecture, or does not fill the model.
    """
    import transformers

    model_type, class_name = FAMILIES[name]
    folder = fetch_folder(source)
    config, preprocessor = _read_configs(folder, name, model_type)
    model_class = getattr(transformers, class_name)
    settings = model_class.config_class.from_dict(config)
    # Layer drop would change the number of hidden states from batch to batch, and masking is done by our own SpecAug.
    settings.layerdrop = 0.0
    settings.apply_spec_augment = False
    if getattr(settings, "add_adapter", False):
        settings.add_adapter = False  # the last hidden state would have other frames than the rest
    model = model_class(settings).float() if random_init else _load_weights(model_class, settings, folder)
    eps = preprocessor.get("normalize_eps", NORMALIZE_EPS) if normalize_eps is None else normalize_eps
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < 1:
        raise CheckpointError(
            f"{folder}/preprocessor_config.json: normalize_eps must be a small number, found {eps!r}."
        )
    said = preprocessor["do_normalize"]
    if normalize is not None and normalize != said:
        logger.info("%s: do_normalize is %s, but pretraining had %s, which is used", folder, said, normalize)
    return HuggingFaceUpstream(model, said if normalize is None else normalize, float(eps))


def _load_weights(model_class: Any, settings: Any, folder: Path) -> nn.Module:
    from transformers.utils import logging as transformers_logging

    _check_weight_files(folder)
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)  # its report of keys: ours below says the same
    transformers_logging.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(
            folder, config=settings, dtype=torch.float32, output_loading_info=True, local_files_only=True
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the weights cannot be loaded ({first_line(error)}).") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    heads = {key for key in unexpected if _HEADS.match(key)}
    if heads:
        logger.info("%s: left out %d tensors of heads that are not part of the upstream", folder, len(heads))
    if MASK_EMBEDDING in missing:
        logger.warning("%s: no %s in the checkpoint; time masking will use zeros", folder, MASK_EMBEDDING)
        nn.init.zeros_(getattr(model, MASK_EMBEDDING))
    mask_names = {key for key in unexpected | missing if key.split(".")[-1] == MASK_EMBEDDING}
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]]
    refuse_partial(str(folder), missing - mask_names, unexpected - heads - mask_names, mismatched)
    return model


def fetch_folder(source: str) -> Path:
    """The local folder that ``source`` names; the id of a repository is downloaded. Raises CheckpointError."""
    if Path(source).is_dir():
        return Path(source)
    if Path(source).exists():
        raise CheckpointError(
            f"{source}: a file, but a HuggingFace upstream is a folder with config.json and model.safetensors. "
            "For s3prl or fairseq .pt files use hubert_custom, wav2vec2_custom, data2vec_custom or wavlm_local."
        )
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source):
        raise CheckpointError(f"{source}: no such folder. Give the folder that holds the upstream's config.json.")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, allow_patterns=["*config.json", *_WEIGHT_FILES, "*.safetensors", "*.bin"])
        )
    except Exception as error:  # the client raises a dozen kinds, from its own and from two HTTP libraries
        raise CheckpointError(
            f"{source}: no such folder, and it cannot be downloaded from huggingface.co ({first_line(error)}). "
            "Download config.json, preprocessor_config.json and model.safetensors elsewhere, put them into one folder, "
            "and give that folder as path_or_url."
        ) from error


def _read_configs(folder: Path, name: str, model_type: str) -> tuple[dict, dict]:
    config, preprocessor = _read_json(folder / "config.json"), _read_preprocessor(folder)
    found = config.get("model_type")
    if found != model_type:
        fitting = [other for other, (kind, _) in FAMILIES.items() if kind == found]
        known = ", ".join(f"{other} ({kind})" for other, (kind, _) in FAMILIES.items())
        hint = f"Use {fitting[0]}." if fitting else f"Known: {known}."
        raise CheckpointError(f"{folder}/config.json: {name} wants model_type {model_type!r}, found {found!r}. {hint}")
    if preprocessor.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise CheckpointError(
            f"{folder}: made for {preprocessor['sampling_rate']} Hz; upstreams here take {SAMPLE_RATE}."
        )
    if not isinstance(preprocessor.get("do_normalize"), bool):
        raise CheckpointError(
            f"{folder}/preprocessor_config.json: do_normalize (true or false) is missing; without it the scale of the "
            "waveforms that the model was trained on is not known."
        )
    return config, preprocessor


def _read_preprocessor(folder: Path) -> dict:
    """preprocessor_config.json, or the part of processor_config.json in which transformers 5 saves the same."""
    if not (folder / "preprocessor_config.json").exists() and (folder / "processor_config.json").is_file():
        part = _read_json(folder / "processor_config.json").get("feature_extractor")
        if isinstance(part, dict):
            return part
    return _read_json(folder / "preprocessor_config.json")


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing. A HuggingFace upstream folder needs it.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}). Copy or download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}.")
    return content


def _check_weight_files(folder: Path) -> None:
    """Read the weights once on our terms, so that transformers only sees files that are whole and carry no code."""
    present = [folder / name for name in _WEIGHT_FILES if (folder / name).is_file()]
    if not present:
        raise CheckpointError(f"{folder}: no weights. Expected one of {', '.join(_WEIGHT_FILES)}.")
    first = present[0]  # the order in which transformers looks for them
    if first.name.endswith(".index.json"):
        shards = sorted({folder / shard for shard in _read_json(first).get("weight_map", {}).values()})
        lacking = [shard.name for shard in shards if not shard.is_file()]
        if lacking or not shards:
            raise CheckpointError(f"{first}: shards missing from the folder: {', '.join(lacking) or 'all of them'}.")
    else:
        shards = [first]
    for shard in shards:
        read_tensors(shard)
