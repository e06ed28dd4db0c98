"""Hidden states of a set of recordings on disk, one file per layer, for tasks that go through them layer by layer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from s3router.data.audio import SAMPLE_RATE, file_stamp, read_audio
from s3router.data.kaldi import DataDir, summary, too_short
from s3router.errors import CheckpointError, ConfigError, DataError
from s3router.files import write_json

INDEX = "index.json"


@dataclass(frozen=True)
class HiddenStates:
    """What `store` has left in a folder.

    Attributes:
        folder: holds ``layer_NN.f32``, all frames of all utterances one after the other.
        frames: utterance -> (first frame, frame after its last), in the set's order.
        width: of a frame.
        layers: number of files.
        stride: samples of 16 kHz from one frame to the next.
    """

    folder: Path
    frames: dict[str, tuple[int, int]]
    width: int
    layers: int
    stride: int

    @classmethod
    def read(cls, folder: Path) -> HiddenStates:
        """Raises CheckpointError where the folder is not complete."""
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            index.pop("key")
            found = cls(folder, **{**index, "frames": {utt: tuple(span) for utt, span in index["frames"].items()}})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder} holds no complete hidden states ({error}); delete it, run again") from None
        total = max(end for _, end in found.frames.values())
        for path in map(found.path, range(found.layers)):
            if not path.is_file() or path.stat().st_size != 4 * total * found.width:
                raise CheckpointError(f"{path} is missing or cut short; delete {folder} and run again")
        return found

    def path(self, layer: int) -> Path:
        """The file of a layer."""
        return self.folder / f"layer_{layer:02d}.f32"

    def layer(self, layer: int) -> dict[str, np.ndarray]:
        """utterance -> float32 (frames, width), mapped into memory from the file."""
        all_frames = np.memmap(self.path(layer), np.float32, "r").reshape(-1, self.width)
        return {utt: all_frames[start:end] for utt, (start, end) in self.frames.items()}


@torch.no_grad()
def store(
    upstream: nn.Module, data: DataDir, folder: Path, receptive_field: int, gain_db: float = 0.0, device: str = "cpu"
) -> HiddenStates:
    """Run the recordings, one at a time, through the upstream, and keep all layers; a complete folder is kept as it is.

    Args:
        upstream: s3prl's S3PRLUpstream of the entry ``s3router``.
        data: the recordings.
        folder: where they are kept; 4 bytes × width × layers per frame.
        receptive_field: samples that the upstream needs for a frame.
        gain_db: applied to the waveform.
        device: of the upstream.

    Raises:
        DataError: recordings that are too short, all of them listed.
        ConfigError: layers of several frame rates.
        CheckpointError: a folder that is damaged.
    """
    key = _key(upstream, data, gain_db)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads((folder / INDEX).read_text(encoding="utf-8")).get("key") == key:
            return HiddenStates.read(folder)
    data = data.with_durations()
    if short := too_short(data.utts, receptive_field):
        raise DataError(summary(data.path, short))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    strides = sorted(set(upstream.downsample_rates))
    if len(strides) > 1:
        raise ConfigError(f"the upstream's layers have several frame rates ({strides}); take another upstream")
    upstream.eval()
    frames, total, width, gain = {}, 0, 0, np.float32(10 ** (gain_db / 20))
    with contextlib.ExitStack() as stack:
        paths = [folder / f"layer_{n:02d}.f32" for n in range(upstream.num_layers)]
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for utt in data.utts:
            wav = torch.from_numpy(read_audio(utt.source, SAMPLE_RATE) * gain).to(device)
            layers, lengths = upstream(wav.unsqueeze(0), torch.tensor([len(wav)]))
            count = int(lengths[0][0])
            for file, layer in zip(files, layers, strict=True):
                file.write(layer[0, :count].float().cpu().numpy().tobytes())
            frames[utt.utt], total, width = (total, total + count), total + count, layers[0].size(2)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    index = {"key": key, "frames": frames, "width": width, "layers": len(paths), "stride": int(strides[0])}
    write_json(folder / INDEX, index, indent=None)
    return HiddenStates.read(folder)


def _key(upstream: nn.Module, data: DataDir, gain_db: float) -> str:
    """All that shapes the states, hashed: the upstream and each recording's file as it is now."""
    fingerprint = upstream.upstream.backbone_fingerprint
    state = hashlib.blake2b(f"{fingerprint} {gain_db}\n".encode(), digest_size=16)
    for utt in data.utts:
        state.update(f"{utt.utt} {utt.source} {file_stamp(utt.source)}\n".encode())
    return state.hexdigest()
