"""The files of an upstream: which weights a run was made with, and how large they are."""

from __future__ import annotations

import hashlib
import json
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
    check_files(name, checkpoint, folder)
    files = upstream_files(name, checkpoint, folder)
    if not files:
        return checkpoint or ""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def check_files(name: str, checkpoint: str | None, folder: Path = Path()) -> None:
    """Raises DataError where files of an upstream are missing."""
    missing = [str(file) for file in upstream_files(name, checkpoint, folder) if not file.is_file()]
    if missing:
        raise DataError(f"upstream {name}: {' and '.join(missing)} missing; make it or name another upstream_ckpt")


def recorded_id(results: Path) -> str:
    """The `upstream_id` that all result files of a folder name; empty where there are none, or several ids.

    It stands for an upstream that was trained here, such as a backbone of several languages, and is not in a fresh
    clone: its page can be written all the same.
    """
    found = set()
    for path in results.glob("*.json"):
        try:
            found.add(str(json.loads(path.read_text(encoding="utf-8")).get("upstream_id") or ""))
        except (ValueError, AttributeError):
            continue  # named by Known.read
    return found.pop() if len(found) == 1 else ""


def size(paths: Iterable[Path]) -> int:
    """Bytes of files, links followed."""
    return sum(path.stat().st_size for path in paths)
