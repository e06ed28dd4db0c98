"""Speech held in memory for pretraining: audio at several speeds, and the frames that targets stand on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

RATE, HOP, OFFSET, WINDOW = 16000, 320, 160, 400


def frames_of(samples: int, kernels: list[int], strides: list[int]) -> int:
    """Frames that the convolutions make of so many samples (no padding)."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return max(samples, 0)


def read_wav_scp(folders: list[Path], min_seconds: float = 0.4) -> dict[str, np.ndarray]:
    """utterance -> int16 samples at 16 kHz, shape (samples,), of all `wav.scp` in ``folders``."""
    from s3router.data.audio import read_audio

    speech: dict[str, np.ndarray] = {}
    for folder in folders:
        for line in (folder / "wav.scp").read_text(encoding="utf-8").splitlines():
            utt, source = line.split(maxsplit=1)
            samples = read_audio(source, RATE)
            if len(samples) >= min_seconds * RATE:
                speech[utt] = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return speech


def at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Played faster or slower, pitch and formants along with it: another voice for the price of a resampling."""
    if speed == 1.0:
        return samples
    import torchaudio.functional as F

    wave = F.resample(torch.from_numpy(samples).float(), round(speed * 100), 100)
    return wave.clamp(-32768, 32767).round().to(torch.int16).numpy()


def normalized(samples: np.ndarray) -> torch.Tensor:
    """Zero mean, unit variance, float32, as HuBERT checkpoints with layer-normalised extractors are fed."""
    wave = torch.from_numpy(samples.astype(np.float32))
    return (wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt()


def mfcc(samples: np.ndarray, frames: int, transform) -> np.ndarray:
    """13 MFCC with first and second differences at 10 ms, every second frame of them: (frames, 39), float32.

    Frame i is centred where the upstream's frame i is (its 45 ms of input begin at sample 320 i).
    """
    from torchaudio.functional import compute_deltas

    wave = torch.from_numpy(samples.astype(np.float32) / 32768)
    base = transform(wave)
    first = compute_deltas(base)
    out = torch.cat([base, first, compute_deltas(first)]).T[OFFSET // 160 :: HOP // 160][:frames]
    return out.numpy()


def mfcc_transform():
    import torchaudio

    return torchaudio.transforms.MFCC(
        RATE,
        n_mfcc=13,
        melkwargs={"n_fft": 512, "win_length": WINDOW, "hop_length": 160, "n_mels": 40, "center": False},
    )
