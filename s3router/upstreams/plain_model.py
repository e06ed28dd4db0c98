"""A model as configuration and weights in transformers' terms: what every foreign format is brought to."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import first_line, refuse_partial, rename_weight_norm
from s3router.upstreams.huggingface import FAMILIES, MASK_EMBEDDING, SAMPLE_RATE, HuggingFaceUpstream

logger = logging.getLogger(__name__)

FAIRSEQ_EPS = 1e-5  # fairseq, WavLM, s3prl and torchaudio normalise waveforms by torch's layer_norm, which adds this
_CLASSES = dict(FAMILIES.values())  # model_type -> class


@dataclass(frozen=True)
class PlainModel:
    """A speech model that was read from another format.

    Args:
        family: model_type of transformers: wav2vec2, hubert, wavlm or data2vec-audio.
        settings: fields of that family's configuration class.
        weights: parameter name in transformers' naming -> tensor.
        normalize: waveforms are brought to zero mean and unit variance.
        source: the file, for messages.
    """

    family: str
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    normalize: bool
    source: Path

    def build(self, random_init: bool = False) -> nn.Module:
        """The transformers model, float32, with these weights (or fresh ones from torch's generator).

        Raises:
            CheckpointError: weights are missing, left over, or of another shape. None is loaded then.
        """
        try:
            model_class, settings = self._class_and_settings()
            settings.layerdrop, settings.apply_spec_augment = 0.0, False  # as in `load_huggingface`
            with contextlib.nullcontext() if random_init else torch.device("meta"):
                model = model_class(settings).float()
        except Exception as error:  # transformers raises what the wrong value leads to
            raise CheckpointError(
                f"{self.source}: no {self.family} model can be made from this configuration ({first_line(error)})."
            ) from error
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
        mismatched = {
            f"{name} {tuple(weights[name].shape)} for {tuple(shape)}"
            for name, shape in wanted.items()
            if name in weights and weights[name].shape != shape
        }
        refuse_partial(str(self.source), wanted.keys() - weights, weights.keys() - wanted, mismatched)
        # Copies: the tensors of a file may share memory, be mapped from disk, or be of half precision.
        weights = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in weights.items()}
        model.load_state_dict(weights, assign=True)
        return model.requires_grad_(True)

    def upstream(self, random_init: bool = False) -> HuggingFaceUpstream:
        """`build` behind s3prl's interface, with the waveform normalisation of pretraining."""
        return HuggingFaceUpstream(self.build(random_init), self.normalize, FAIRSEQ_EPS)

    def save(self, folder: str | os.PathLike) -> Path:
        """Write a HuggingFace folder, whole or not at all.

        Raises:
            CheckpointError: the folder is there already, or the weights do not fill the model.
        """
        folder = Path(folder)
        if folder.exists():
            raise CheckpointError(f"{folder}: is there already. Remove it, or name another folder.")
        model = self.build()
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            model.save_pretrained(unfinished)
            self._class_and_settings()[1].save_pretrained(unfinished)
            (unfinished / "preprocessor_config.json").write_text(json.dumps(self._preprocessor(), indent=2) + "\n")
            for file in unfinished.iterdir():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder

    def _class_and_settings(self) -> tuple[Any, Any]:
        import transformers

        model_class = getattr(transformers, _CLASSES[self.family])
        return model_class, model_class.config_class(**self.settings)

    def _preprocessor(self) -> dict[str, Any]:
        return {
            "do_normalize": self.normalize,
            "normalize_eps": FAIRSEQ_EPS,  # read by us; transformers adds 1e-7 instead
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": self.settings.get("feat_extract_norm", "layer") == "layer",
            "sampling_rate": SAMPLE_RATE,
        }
