"""Whisper's encoder (arXiv 2212.04356) as an upstream: log-mel spectrogram, two convolutions, pre-LN transformer.

Whisper pads every recording to a window of 30 s. Here an utterance is as long as it is: a frame every 20 ms, 1,500 of
them at most in a window; longer recordings are cut into windows of 30 s, which do not see each other.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3router.data.audio import SAMPLE_RATE
from s3router.upstreams.huggingface import attention_for

WINDOW_SECONDS = 30
FRAME = 320  # samples from one frame to the next: a hop of the spectrogram times the second convolution's stride
WINDOW = WINDOW_SECONDS * SAMPLE_RATE  # samples
_FFT, _HOP = 400, 160


@dataclass(frozen=True)
class WhisperLengths:
    """`s3router.upstreams.anatomy.Lengths`: a frame for every 320 samples that have begun."""

    receptive_field: int = 1
    stride: int = FRAME

    def frames(self, samples: int) -> int:
        """Frames that come out for that many samples."""
        return -(-samples // FRAME)


class LogMelConvolutions(nn.Module):
    """Waveforms (B, samples) -> features (B, width, frames): log-mel spectrogram and the two convolutions.

    Every row is taken for an utterance of that length; ``ceil(samples / 320)`` frames come out. A window's spectrogram
    is what Whisper's own extractor makes of the same window padded to 30 s, as far as the utterance reaches.
    """

    lengths = WhisperLengths()
    norm_over_time = True  # values far below the loudest one of a window are raised

    def __init__(self, conv1: nn.Conv1d, conv2: nn.Conv1d):
        super().__init__()
        self.conv1, self.conv2 = conv1, conv2
        self.register_buffer("mel_filters", mel_filters(conv1.in_channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        windows = [self._convolve(self.log_mel(part)) for part in x.split(WINDOW, dim=1)]
        return windows[0] if len(windows) == 1 else torch.cat(windows, dim=2)

    def log_mel(self, x: Tensor) -> Tensor:
        """`log_mel` of waveforms (B, samples)."""
        return log_mel(x, self.mel_filters)

    def _convolve(self, mel: Tensor) -> Tensor:
        return F.gelu(self.conv2(F.gelu(self.conv1(mel))))


def log_mel(x: Tensor, filters: Tensor) -> Tensor:
    """Waveforms, float (B, samples), 30 s at most -> log-mel spectrograms, float32 (B, bins, ceil(samples / 160)).

    They are what Whisper's own extractor makes of the same waveforms padded to 30 s, as far as these reach.

    Args:
        filters: of `mel_filters`, on the device of ``x``.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        frames = -(-x.size(1) // _HOP)
        padded = F.pad(x, (0, min(frames * _HOP + _FFT, WINDOW) - x.size(1)))
        window = torch.hann_window(_FFT, device=x.device)
        power = torch.stft(padded, _FFT, _HOP, window=window, return_complex=True)[..., :frames].abs() ** 2
        mel = (filters.T @ power).clamp(min=1e-10).log10()
        loudest = mel.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(mel, loudest - 8.0) + 4.0) / 4.0


@functools.cache
def mel_filters(bins: int) -> Tensor:
    """float32 (201, bins): Slaney's filters, as librosa and Whisper have them."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=1 + _FFT // 2,
        num_mel_filters=bins,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float()


class WhisperSpeechEncoder(nn.Module):
    """transformers' WhisperEncoder, layer by layer the same modules, for utterances of any length.

    Args:
        encoder: transformers' WhisperEncoder; its modules are taken over.

    Attributes:
        config: its WhisperConfig.
        feature_extractor: frozen in most uses, so its output can be kept (`s3router.upstreams.feature_cache`).
        feature_projection: passes features on unchanged; features are masked behind it.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.config = encoder.config
        self.feature_extractor = LogMelConvolutions(encoder.conv1, encoder.conv2)
        self.feature_projection = nn.Identity()
        self.register_buffer("embed_positions", encoder.embed_positions.weight.detach())  # sinusoids, never trained
        self.layers = encoder.layers
        self.layer_norm = encoder.layer_norm
        self._fused = self.config._attn_implementation

    def plain(self) -> nn.Module:
        """A copy as transformers' WhisperEncoder, in evaluation mode."""
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        encoder = WhisperEncoder(copy.deepcopy(self.config)).eval()
        state = {name.removeprefix("feature_extractor."): tensor for name, tensor in self.state_dict().items()}
        state["embed_positions.weight"] = state.pop("embed_positions")
        encoder.load_state_dict(state)
        return encoder

    def forward(self, x: Tensor, frames: list[int]) -> list[Tensor]:
        """Waveforms (B, samples) -> hidden states [(B, T, C)] * (layers + 1); the last one is normalised.

        Args:
            frames: valid frames of each row.
        """
        features = self.feature_projection(self.feature_extractor(x).transpose(1, 2))
        limit = self.config.max_source_positions
        if features.size(1) <= limit:
            return self._encode(features, frames)
        windows = [w for row, n in zip(features, frames, strict=True) for w in row[:n].split(limit)]
        states = self._encode(pad_sequence(windows, batch_first=True), [len(w) for w in windows])
        return [_rejoin(state, [len(w) for w in windows], frames) for state in states]

    def _encode(self, features: Tensor, frames: list[int]) -> list[Tensor]:
        hidden = features + self.embed_positions[: features.size(1)].to(features.dtype)
        hidden = F.dropout(hidden, self.config.dropout, self.training)
        mask = self._attention_mask(hidden, frames)
        states = [hidden]
        with attention_for(self.config, self._fused, hidden, hidden.size(1)):
            for layer in self.layers:
                hidden = layer(hidden, mask)
                states.append(hidden)
        states[-1] = self.layer_norm(hidden)
        return states

    def _attention_mask(self, hidden: Tensor, frames: list[int]) -> Tensor | None:
        """(B, 1, 1, T), added to the attention's logits: frames of padding are not looked at; None without padding."""
        if min(frames) == hidden.size(1):
            return None
        beyond = torch.arange(hidden.size(1)) >= torch.tensor(frames)[:, None]
        dtype = hidden.dtype
        if torch.is_autocast_enabled(hidden.device.type):
            dtype = torch.get_autocast_dtype(hidden.device.type)
        mask = torch.zeros(beyond.shape, dtype=dtype).masked_fill(beyond, torch.finfo(dtype).min)
        return mask[:, None, None, :].to(hidden.device)


def _rejoin(state: Tensor, lengths: list[int], frames: list[int]) -> Tensor:
    """Windows (W, T, C) of these lengths -> utterances (B, T', C) of so many frames."""
    pieces = iter(piece[:n] for piece, n in zip(state, lengths, strict=True))
    utterances = []
    for total in frames:
        parts: list[Tensor] = []
        while sum(map(len, parts)) < total:
            parts.append(next(pieces))
        utterances.append(torch.cat(parts))
    return pad_sequence(utterances, batch_first=True)


class WhisperUpstream(nn.Module):
    """The encoder behind s3prl's interface.

    Args:
        model: a `WhisperSpeechEncoder`.
    """

    normalize = False  # of waveforms; the spectrogram has a norm of its own

    def __init__(self, model: WhisperSpeechEncoder):
        super().__init__()
        self.model = model

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples per frame."""
        return FRAME

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        """Waveforms [(samples,)] at 16 kHz -> {"hidden_states": [(B, T, C)] * (layers + 1)}."""
        frames = [WhisperLengths().frames(len(wav)) for wav in wavs]
        return {"hidden_states": self.model(pad_sequence(wavs, batch_first=True), frames)}
