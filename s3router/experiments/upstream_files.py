"""The files of an upstream: which weights a run was made with, and how large they are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from s3router.errors import DataError

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # of the Hugging Face hub


def upstream_files(name: str, checkpoint: str | None, folder: Path = Path()) -> list[Path]:
    """The files of an upstream's weights; none where its name alone stands for a download."""
    if name == "tiny" and not checkpoint:
        from s3router.upstreams.hub import tiny_folder

        checkpoint = str(tiny_folder())
    if not checkpoint or "://" in checkpoint:
        return []
    path = folder / checkpoint
    if name.startswith("hf_") and _REPOSITORY.fullmatch(checkpoint) and not path.exists():
        return []
    return [path / "config.json", path / "model.safetensors"] if path.is_dir() else [path]


def upstream_id(name: str, checkpoint: str | None, folder: Path = Path()) -> str:
    """Hash of the upstream's weights: of the shipped model's folder, or of the checkpoint named.

    Raises:
        DataError: its files are missing.
    """
    files = upstream_files(name, checkpoint, folder)
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(f"upstream {name}: {' and '.join(missing)} missing; pretrain it or name another upstream_ckpt")
    if not files:
        return checkpoint or ""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def size(paths: Iterable[Path]) -> int:
    """Bytes of files, links followed."""
    return sum(path.stat().st_size for path in paths)
