"""Speech held in memory for pretraining: audio at several speeds, and the frames that targets stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from s3router.data.audio import SAMPLE_RATE, Seconds, read_audio
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError
from s3router.upstreams.anatomy import ConvLengths

HOP, OFFSET, WINDOW = 320, 160, 400
SPAN = 720
"""Samples that one frame sees: frame i begins at sample 320 i."""
SHORTEST: Seconds = 0.4

Item = tuple[str, float]
"""An utterance at a speed."""
Samples = dict[Item, np.ndarray]
"""Item -> int16 (samples,) at 16 kHz."""


@dataclass
class Speech:
    """What a pretraining learns from.

    Attributes:
        train: recordings at every speed.
        dev: held out, at their own speed.
        synthetic: with known phones; empty where no round asks for them.
        phones: utterance of ``synthetic`` -> int16 (frames,), -100 where the phone is unknown.
        summary: minutes and numbers of all of it, for the report.
    """

    train: Samples
    dev: Samples
    synthetic: Samples = field(default_factory=dict)
    phones: dict[str, np.ndarray] = field(default_factory=dict)
    summary: dict = field(default_factory=dict)

    @classmethod
    def read(
        cls, train: Sequence[Path], dev: Sequence[Path], speeds: Sequence[float], synthetic: Path | None = None
    ) -> Speech:
        """Read Kaldi directories (``wav.scp``; transcripts are not needed).

        Args:
            train: directories to learn from.
            dev: directories that are held out.
            speeds: at which the training recordings are held.
            synthetic: what `s3router.corpora.synthetic` wrote.

        Raises:
            ConfigError: a directory is named twice for one of them.
            DataError: a directory or its audio cannot be read, an id is in two of them, or one of the sets is empty.
        """
        for name, folders in (("train", train), ("dev", dev)):
            if len({Path(folder).resolve() for folder in folders}) < len(folders):
                raise ConfigError(f"--{name}: a directory is named twice")
        sources = {folder: read_folders([folder]) for folder in [*train, *dev]}
        seen: dict[str, Path] = {}
        for folder, part in sources.items():
            for utt in part:
                if (other := seen.setdefault(utt, folder)) != folder:
                    raise DataError(f"{utt} is both in {other} and in {folder}; an id names one recording")
        raw = {utt: samples for folder in train for utt, samples in sources[folder].items()}
        held_out = {(utt, 1.0): samples for folder in dev for utt, samples in sources[folder].items()}
        for name, part in (("train", raw), ("dev", held_out)):
            if not part:
                raise DataError(f"--{name}: no recording of {SHORTEST} s or more; name other directories")
        fast_and_slow = {
            (utt, speed): at_speed(x, speed) for utt, x in tqdm(raw.items(), desc="speeds") for speed in speeds
        }
        minutes = {str(folder): sum(map(len, sources[folder].values())) / SAMPLE_RATE / 60 for folder in train}
        summary = {"minutes": sum(minutes.values()), "recordings": len(raw), "sources": minutes}
        speech = cls(fast_and_slow, held_out, summary=summary)
        if synthetic is not None:
            speech._read_synthetic(synthetic)
        return speech

    def _read_synthetic(self, folder: Path) -> None:
        try:
            with np.load(folder / "phones.npz") as stored:
                phones = dict(stored)
        except (OSError, ValueError) as error:
            raise DataError(f"{folder}: no synthetic speech ({error}); s3router prepare synthetic makes it") from None
        self.synthetic = {(utt, 1.0): x for utt, x in read_folders([folder]).items() if utt in phones}
        self.phones = {utt: phones[utt] for utt, _ in self.synthetic}
        self.summary["synthetic"] = {
            "hours": sum(map(len, self.synthetic.values())) / SAMPLE_RATE / 3600,
            "languages": len({utt.split("-")[0] for utt in phones}),
            "phones": len((folder / "phones.txt").read_text(encoding="utf-8").splitlines()),
        }


def read_folders(folders: Iterable[Path]) -> dict[str, np.ndarray]:
    """utterance -> int16 samples at 16 kHz, shape (samples,), of all data directories, without very short ones.

    Raises:
        DataError: a directory or its audio cannot be read.
    """
    speech: dict[str, np.ndarray] = {}
    for folder in folders:
        for utt in DataDir.read(folder, need_text=False).utts:
            samples = read_audio(utt.source, SAMPLE_RATE)
            if len(samples) >= SHORTEST * SAMPLE_RATE:
                speech[utt.utt] = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return speech


def frame_counter(kernels: Sequence[int], strides: Sequence[int]) -> Callable[[int], int]:
    """A function: samples -> frames that the convolutions make of them (no padding).

    Raises:
        ConfigError: frames of another rate or span than targets are made for.
    """
    layers = zip(kernels, strides, strict=True)
    frames = ConvLengths(tuple((kernel, stride, 0, 1) for kernel, stride in layers)).frames
    if frames(SPAN - 1) or frames(SPAN) != 1 or frames(SPAN + HOP) != 2:
        raise ConfigError(
            f"conv_kernel {list(kernels)} and conv_stride {list(strides)}: a frame must see {SPAN} samples, and the "
            f"next one begin {HOP} later"
        )
    return frames


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


def mfcc(samples: np.ndarray, frames: int, transform: torch.nn.Module) -> np.ndarray:
    """13 MFCC with first and second differences at 10 ms, every second frame of them: (frames, 39), float32.

    Frame i is centred where the upstream's frame i is (its 45 ms of input begin at sample 320 i).
    """
    from torchaudio.functional import compute_deltas

    wave = torch.from_numpy(samples.astype(np.float32) / 32768)
    base = transform(wave)
    first = compute_deltas(base)
    out = torch.cat([base, first, compute_deltas(first)]).T[OFFSET // 160 :: HOP // 160][:frames]
    return out.numpy()


def mfcc_transform() -> torch.nn.Module:
    """What `mfcc` needs: (samples,) -> (13, frames of 10 ms)."""
    import torchaudio

    return torchaudio.transforms.MFCC(
        SAMPLE_RATE,
        n_mfcc=13,
        melkwargs={"n_fft": 512, "win_length": WINDOW, "hop_length": 160, "n_mels": 40, "center": False},
    )
