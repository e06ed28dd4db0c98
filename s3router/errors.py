"""Errors that a user can cause, each with one clear message: what, where, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


class S3RouterError(Exception):
    """Base of every error that s3router raises on purpose.

    The command line prints its message without a traceback and exits with status 1.
    """


class ConfigError(S3RouterError):
    """An option or configuration value is wrong. All problems found are listed at once."""


class DataError(S3RouterError):
    """A data directory, transcript or audio file is missing, broken or inconsistent."""


class TooLongError(DataError):
    """A recording is longer than whoever reads it allows."""


class PackError(S3RouterError):
    """A mask pack is damaged, from a newer format, or made for another backbone."""


class CheckpointError(S3RouterError):
    """A checkpoint is missing, incomplete, unsafe to read, or not what was asked for."""


class RepositoryError(S3RouterError):
    """A repository of packs is missing, cannot be reached or written to, or holds no packs."""


class TrainingError(S3RouterError):
    """Training cannot go on: no gradient is finite."""


def explain(error: BaseException) -> str | None:
    """One line for the user: what, where, and what to do; None for an error of the program itself."""
    if isinstance(error, S3RouterError):
        return str(error)
    if isinstance(error, OSError):
        return _explain_os(error)
    if isinstance(error, MemoryError) or _is_torchs_memory_error(error):
        return "not enough memory; take smaller batches, or a machine with more of it"
    if isinstance(error, RuntimeError) and "inline_container" in str(error):  # torch.save says no more
        return f"a checkpoint cannot be written{_free(Path())}; make room and run the same command again"
    return None


def _explain_os(error: OSError) -> str:
    if error.errno is None:  # raised by a library, with a message alone
        return " ".join(str(error).split()) or type(error).__name__
    what = (error.strerror or os.strerror(error.errno)).lower()
    names = (error.filename, error.filename2)
    place, other = (os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "" for name in names)
    shown = f"{place} -> {other}" if place and other else place
    remedy = _remedy(error.errno, Path(place) if place else None)
    return f"{shown}: {what}{remedy}" if shown else f"{what}{remedy}"


def _remedy(number: int, path: Path | None) -> str:
    if number in (errno.EACCES, errno.EPERM):
        return _whose(path)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"{_free(path)}; make room and run the same command again"
    return {
        errno.ENOENT: "; correct the path",
        errno.ENOTDIR: "; a folder is needed here: correct the path",
        errno.EISDIR: "; name a file",
        errno.EEXIST: "; remove it, or name another",
        errno.ENOTEMPTY: "; remove it, or name another",
        errno.EROFS: "; name a folder on a disk that can be written to",
        errno.ENAMETOOLONG: "; take a shorter name",
        errno.EMFILE: "; raise the limit with ulimit -n",
        errno.EIO: "; the disk or its connection is failing: try again, or take another",
    }.get(number, "")


def _whose(path: Path | None) -> str:
    """For a refused access: the owner of the file, or of the nearest folder that exists."""
    for place in [path, *path.absolute().parents] if path else []:
        try:
            status = place.stat()
        except OSError:
            continue
        if status.st_uid != os.getuid():
            return f"; {place} belongs to {_user(status.st_uid)}: work in a clone of your own, or ask for permission"
        return f"; chmod u+rwX {place} gives you access"
    return ""


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _free(path: Path | None) -> str:
    for place in [path, *path.absolute().parents] if path else []:
        if place.is_dir():
            return f" ({shutil.disk_usage(place).free >> 20} MiB free at {place})"
    return ""


def _is_torchs_memory_error(error: BaseException) -> bool:
    """torch has a class for GPUs (not imported here) and a RuntimeError for the CPU."""
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    )
