"""A store of frozen features on disk: memory-mapped, bfloat16, shared by any number of processes.

A store is a folder that only grows:

- ``features.bf16``: frames of all utterances, (frames, channels) each, one after the other, little-endian bfloat16;
- ``index.bin``: one fixed-size record per utterance: key, offset, frames, CRC of its data, CRC of the record;
- ``meta.json``: channels and format;
- ``lock``: writers hold an exclusive ``flock`` on it.

A writer puts data behind the end that the index states, syncs it, and only then adds the records. So a crash at any
moment leaves a readable store: data without a record are written over by the next writer, half a record is cut off,
and a reader, who takes no lock, never sees a record whose data are not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from s3router.errors import CheckpointError, ConfigError
from s3router.files import write_json

logger = logging.getLogger(__name__)

FORMAT = 1
KEY_BYTES = 16
_BODY = struct.Struct("<16sQII")  # key, offset in bytes, frames, CRC-32 of the data
_CRC = struct.Struct("<I")
_RECORD_BYTES = _BODY.size + _CRC.size


class FeatureCache:
    """Utterance keys (16 bytes) -> features (frames, channels), bfloat16.

    Args:
        folder: made where it does not exist.
        channels: of the features; fixed for the store.
        max_bytes: the data file does not grow beyond it (None: no limit). What does not fit is not stored, with one
            warning, and has to be computed each time.

    Raises:
        ConfigError: the folder cannot be written to.
        CheckpointError: the folder holds a store of another format or width.
    """

    def __init__(self, folder: str | os.PathLike, channels: int, max_bytes: int | None = None):
        self.folder = Path(folder)
        self.channels = channels
        self.max_bytes = max_bytes
        self._records: dict[bytes, tuple[int, int, int]] = {}  # key -> offset, frames, CRC
        self._checked: set[bytes] = set()
        self._index_read = 0  # bytes of the index that _records reflects
        self._end = 0  # bytes of data that the index vouches for
        self._mapping = torch.empty(0, dtype=torch.bfloat16)
        self._full = self._cut = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise ConfigError(f"feature cache {self.folder}: {error}. Give a folder that can be written to.") from error

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: bytes) -> bool:
        if key not in self._records:
            with contextlib.suppress(OSError):  # the folder was taken away: all is computed anew
                self._refresh()
        return key in self._records

    def __deepcopy__(self, memo: dict) -> FeatureCache:
        return self  # the copies of a model share their store

    @property
    def full(self) -> bool:
        """Whether something did not fit, so that nothing is stored any more."""
        return self._full

    @property
    def data_bytes(self) -> int:
        """Size of the stored features."""
        return self._end

    def get(self, key: bytes) -> Tensor | None:
        """Features (frames, channels), a view into the memory-mapped file: read only, copy before changing. Or None.

        The data of each utterance are checked against their CRC when this process first reads them; damaged ones
        count as absent, so they are computed and stored anew.
        """
        if key not in self:
            return None
        offset, frames, crc = self._records[key]
        size = frames * self.channels
        try:
            self._map(offset + 2 * size)
        except (RuntimeError, OSError):
            return None
        if self._mapping.numel() < offset // 2 + size:  # cut short, or a shared file system that shows the index first
            return None
        features = self._mapping[offset // 2 : offset // 2 + size].view(frames, self.channels)
        if key not in self._checked:
            if _crc(features) != crc:
                logger.warning("feature cache %s: damaged data of one utterance, computed anew", self.folder)
                del self._records[key]
                return None
            self._checked.add(key)
        return features

    def add(self, features: Mapping[bytes, Tensor]) -> None:
        """Store (frames, channels) tensors under their keys; what another process has stored meanwhile is left."""
        if self._full or not features:
            return
        try:
            with self._locked():
                self._append(features)
        except OSError as error:  # no room, or no locks: training goes on without storing
            self._stop(str(error))

    def _append(self, features: Mapping[bytes, Tensor]) -> None:
        self._refresh()
        records, chunks, end = [], [], self._end
        for key, value in features.items():
            if key in self._records and not self._is_cut(key):
                continue
            value = value.detach().to(device="cpu", dtype=torch.bfloat16).contiguous()
            if value.dim() != 2 or value.size(1) != self.channels or len(key) != KEY_BYTES:
                raise ValueError(
                    f"expected a key of {KEY_BYTES} bytes and (frames, {self.channels}), got {value.shape}"
                )
            data = value.view(torch.int16).numpy().tobytes()
            if self.max_bytes is not None and end + len(data) > self.max_bytes:
                self._stop(f"the limit of {self.max_bytes / 1e9:g} GB is reached")
                break
            body = _BODY.pack(key, end, value.size(0), zlib.crc32(data))
            records.append(body + _CRC.pack(zlib.crc32(body)))
            chunks.append(data)
            end += len(data)
        if not records:
            return
        _write_at(self.folder / "features.bf16", self._end, b"".join(chunks))
        _write_at(self.folder / "index.bin", self._index_read, b"".join(records), cut=True)
        self._refresh()

    def _refresh(self) -> None:
        """Take in the records that were added since the last time, by whomever."""
        path = self.folder / "index.bin"
        if os.path.getsize(path) - self._index_read < _RECORD_BYTES:
            return
        with open(path, "rb") as stream:
            stream.seek(self._index_read)
            content = stream.read()
        for start in range(0, len(content) - _RECORD_BYTES + 1, _RECORD_BYTES):
            body = content[start : start + _BODY.size]
            self._index_read += _RECORD_BYTES
            if _CRC.unpack_from(content, start + _BODY.size)[0] != zlib.crc32(body):
                logger.warning("feature cache %s: damaged record in index.bin, left out", self.folder)
                continue
            key, offset, frames, crc = _BODY.unpack(body)
            self._records[key] = (offset, frames, crc)
            self._checked.discard(key)
            self._end = max(self._end, offset + 2 * frames * self.channels)

    def _map(self, end: int) -> None:
        if self._mapping.numel() * 2 < end:
            path = self.folder / "features.bf16"
            size = min(self._end, os.path.getsize(path)) // 2
            # shared=False maps copy-on-write: no slip can write into the file, and processes still share its pages.
            self._mapping = torch.from_file(str(path), shared=False, size=size, dtype=torch.bfloat16)

    def _is_cut(self, key: bytes) -> bool:
        """Whether the data of an utterance reach beyond the file's end; only a holder of the lock can tell."""
        offset, frames, _ = self._records[key]
        if offset + 2 * frames * self.channels <= os.path.getsize(self.folder / "features.bf16"):
            return False
        if not self._cut:
            logger.warning("feature cache %s: features.bf16 was cut short; what is lost is stored anew", self.folder)
        self._cut = True
        return True

    def _open(self) -> None:
        wanted = {"format": FORMAT, "channels": self.channels, "dtype": "bfloat16"}
        meta = self.folder / "meta.json"
        with self._locked():
            for name in ("features.bf16", "index.bin"):
                (self.folder / name).touch()
            if not meta.exists():
                write_json(meta, wanted, indent=None)
        try:
            found = json.loads(meta.read_text(encoding="utf-8"))
        except ValueError:  # a machine that lost power left it empty, say
            found = "no JSON in meta.json"
        if found != wanted:
            raise CheckpointError(f"feature cache {self.folder}: expected {wanted}, found {found}. Delete the folder.")
        self._refresh()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Opened each time: a lock belongs to the open file, and one opened before a fork would be held by both sides.
        with open(self.folder / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:  # closing would not do, should another thread have forked a process that has it open too
                fcntl.flock(lock, fcntl.LOCK_UN)

    def _stop(self, reason: str) -> None:
        self._full = True
        logger.warning(
            "feature cache %s: %s; the %d utterances in it are used, the others are computed each time. "
            "Raise max_gb, or make room.",
            self.folder,
            reason,
            len(self._records),
        )


def _crc(features: Tensor) -> int:
    return zlib.crc32(features.contiguous().view(torch.int16).numpy())


def _write_at(path: Path, offset: int, content: bytes, cut: bool = False) -> None:
    """Write and sync; ``cut`` drops whatever lies behind the offset first."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if cut:
            os.ftruncate(descriptor, offset)
        view = memoryview(content)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
