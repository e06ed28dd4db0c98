"""HuBERT, wav2vec 2.0, WavLM, data2vec-audio and their like of transformers, as s3prl-style upstreams.

s3prl has experts for the first two. They are not used here, because with transformers 5 they load a half-precision
file as a half-precision model, give the last layer of pre-LN models without its final layer norm, keep layer drop and
transformers' own masking on in training, let missing weights be "newly initialized", and bring the audio to the CPU.
The features are the same otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

SHORT = 400  # frames; from here on the fused attention is the faster one (measured forwards and backwards, bfloat16)
NORMALIZE_EPS = 1e-7  # what transformers adds to the variance when it normalises a waveform
# hub name -> (model_type in config.json, class in transformers)
FAMILIES = {
    "hf_hubert_custom": ("hubert", "HubertModel"),
    "hf_wav2vec2_custom": ("wav2vec2", "Wav2Vec2Model"),
    "hf_wavlm_custom": ("wavlm", "WavLMModel"),
    "hf_data2vec_custom": ("data2vec-audio", "Data2VecAudioModel"),
    "hf_unispeech_custom": ("unispeech", "UniSpeechModel"),
    "hf_unispeech_sat_custom": ("unispeech-sat", "UniSpeechSatModel"),
    "hf_conformer_custom": ("wav2vec2-conformer", "Wav2Vec2ConformerModel"),
    "hf_whisper_custom": ("whisper", "WhisperEncoder"),
}
# model_type in config.json -> why such a model is no upstream here
REFUSED = dict.fromkeys(
    ("sew", "sew-d"),
    "its layers have half as many frames as its output, so its hidden states cannot be weighted and summed",
) | {"wav2vec2-bert": "it takes filter banks of an extractor of its own (SeamlessM4TFeatureExtractor), not waveforms"}
MASK_EMBEDDING = "masked_spec_embed"  # only training with feature masking reads it; zeros where a checkpoint has none


@contextlib.contextmanager
def attention_for(config: Any, fused: str, inputs: Tensor, frames: float) -> Iterator[None]:
    """Plain attention for short utterances on a processor, where torch's fused one takes several times as long.

    Args:
        config: of a transformers model, whose layers read it at every call. Others may share it, such as a decoder.
        fused: the implementation for all others, and afterwards.
        inputs: a tensor on the model's device.
        frames: that each utterance of the batch takes, padding included.
    """
    config._attn_implementation = "eager" if inputs.device.type == "cpu" and frames < SHORT else fused
    try:
        yield
    finally:
        config._attn_implementation = fused


class HuggingFaceUpstream(nn.Module):
    """A transformers speech model behind s3prl's interface.

    Args:
        model: of a class in FAMILIES, other than Whisper's.
        normalize: bring every waveform to zero mean and unit variance, as the model saw it in pretraining.
        normalize_eps: added to the variance. transformers adds 1e-7; fairseq, in which the public models were
            pretrained, 1e-5, which makes a difference for quiet recordings.
    """

    def __init__(self, model: nn.Module, normalize: bool, normalize_eps: float = NORMALIZE_EPS):
        super().__init__()
        self.model = model
        self.normalize = normalize
        self.normalize_eps = normalize_eps
        self._fused = model.config._attn_implementation
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
        with attention_for(self.model.config, self._fused, padded, padded.size(1) / self.get_downsample_rates()):
            output = self.model(padded, attention_mask=attention_mask, output_hidden_states=True)
        return {"hidden_states": [*output.hidden_states[:-1], output.last_hidden_state]}
