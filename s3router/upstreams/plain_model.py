"""A speech model as configuration and weights in transformers' terms, whatever format it was read from."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import CheckpointError
from s3router.files import replacing_folder, write_json
from s3router.upstreams.checkpoint import first_line, refuse_partial, rename_weight_norm
from s3router.upstreams.huggingface import FAMILIES, MASK_EMBEDDING, HuggingFaceUpstream

logger = logging.getLogger(__name__)

FAIRSEQ_EPS = 1e-5  # fairseq, WavLM, s3prl and torchaudio normalise waveforms by torch's layer_norm, which adds this
_CLASSES = dict(FAMILIES.values())  # model_type -> class


@dataclass(frozen=True)
class PlainModel:
    """A speech model that was read from any format.

    Args:
        family: model_type of transformers, one of FAMILIES'.
        settings: fields of that family's configuration class.
        weights: parameter name in transformers' naming -> tensor; empty where they were not read.
        normalize: waveforms are brought to zero mean and unit variance.
        source: the file or folder, for messages.
        normalize_eps: added to the variance then.
    """

    family: str
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    normalize: bool
    source: Path
    normalize_eps: float = FAIRSEQ_EPS

    def config(self) -> Any:
        """The configuration, of transformers' class for the family. Raises CheckpointError."""
        try:
            return model_class(self.family).config_class.from_dict(dict(self.settings))
        except Exception as error:  # transformers raises what the wrong value leads to
            raise self._no_model(error) from error

    def sizes(self) -> dict[str, int]:
        """layers, width, ffn, heads and conv_width, as the catalogue's files call them. Raises CheckpointError."""
        config = self.config()
        return {
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "ffn": config.intermediate_size,
            "heads": config.num_attention_heads,
            "conv_width": config.conv_dim[-1],
        }

    def build(self, random_init: bool = False) -> nn.Module:
        """The transformers model, float32, in evaluation mode, with these weights or fresh ones from torch's generator.

        Raises:
            CheckpointError: weights are missing, left over, or of another shape. None is loaded then.
        """
        config = self.config()
        # Layer drop would change the number of hidden states from batch to batch, and masking is done by our SpecAug.
        config.layerdrop, config.apply_spec_augment = 0.0, False
        try:
            with contextlib.nullcontext() if random_init else torch.device("meta"):
                model = model_class(self.family)(config).float().eval()
            if not random_init and len(list(model.buffers())) > len(_saved_buffers(model)):
                model = model_class(self.family)(config).float().eval()  # tables that no file holds are computed
        except Exception as error:
            raise self._no_model(error) from error
        if random_init:
            return model
        wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
        renamed = rename_weight_norm(self.weights, wanted)
        weights = {renamed.get(name, name): tensor for name, tensor in self.weights.items()}
        if MASK_EMBEDDING in wanted and MASK_EMBEDDING not in weights:
            logger.warning(
                "%s: no embedding of masked frames in the checkpoint; time masking will use zeros", self.source
            )
            weights[MASK_EMBEDDING] = torch.zeros(wanted[MASK_EMBEDDING])
        elif MASK_EMBEDDING not in wanted:
            weights.pop(MASK_EMBEDDING, None)
        fill(model, weights, self.source)
        return model.requires_grad_(True)

    def upstream(self, random_init: bool = False) -> HuggingFaceUpstream:
        """`build` behind s3prl's interface, with the waveform normalisation of pretraining."""
        return HuggingFaceUpstream(self.build(random_init), self.normalize, self.normalize_eps)

    def save(self, folder: str | os.PathLike) -> Path:
        """Write a HuggingFace folder, whole or not at all.

        Raises:
            CheckpointError: the folder is there already, or the weights do not fill the model.
        """
        folder = Path(folder)
        if folder.exists():
            raise CheckpointError(f"{folder}: is there already. Remove it, or name another folder.")
        model = self.build()
        with replacing_folder(folder) as draft:
            model.save_pretrained(draft)
            self.config().save_pretrained(draft)
            write_json(draft / "preprocessor_config.json", self._preprocessor(), indent=2)
        return folder

    def _no_model(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.source}: no {self.family} model can be made from this configuration ({first_line(error)})."
        )

    def _preprocessor(self) -> dict[str, Any]:
        return {
            "do_normalize": self.normalize,
            "normalize_eps": self.normalize_eps,  # read by us; transformers adds 1e-7 whatever it says
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": self.settings.get("feat_extract_norm", "layer") == "layer",
            "sampling_rate": SAMPLE_RATE,
        }


def _saved_buffers(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers()} & model.state_dict().keys()


def _resized(source: Path) -> bool:
    """Whether a folder says that its layers differ in size (`s3router.prune.shrink.fit_config`)."""
    try:
        return bool(json.loads((source / "head.json").read_text(encoding="utf-8")).get("resized"))
    except (OSError, ValueError, AttributeError):
        return False


def fill(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Give a model all its tensors, as float32; its own may be on the meta device.

    Args:
        weights: names as in its state dict -> tensors of any floating type.
        source: for the message.

    Raises:
        CheckpointError: tensors are missing, left over, or of another shape. None is loaded then.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    mismatched = {
        f"{name} {tuple(weights[name].shape)} for {tuple(shape)}"
        for name, shape in wanted.items()
        if name in weights and weights[name].shape != shape
    }
    if mismatched and _resized(source):
        raise CheckpointError(
            f"{source}: s3router shrink took heads, or different numbers of units, from its layers. That runs by "
            "the program in its folder, and is no upstream. For one, remove hidden units alone, as many of every layer "
            "(--mask_conf '{granularity: group, targets: [ffn], scope: tensor}')."
        )
    refuse_partial(str(source), wanted.keys() - weights, weights.keys() - wanted, mismatched)
    # Copies: the tensors of a file may share memory, be mapped from disk, or be of half precision.
    copies = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in weights.items()}
    model.load_state_dict(copies, assign=True)


def model_class(family: str) -> Any:
    """transformers' class of the bare model."""
    import transformers

    if family == "whisper":  # its encoder has no name at the top
        return transformers.models.whisper.modeling_whisper.WhisperEncoder
    return getattr(transformers, _CLASSES[family])
