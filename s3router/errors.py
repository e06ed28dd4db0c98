"""The errors that a user can cause, each with one clear message: what, where, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class S3RouterError(Exception):
    """Base of every error that s3router raises on purpose.

    The command line prints its message without a traceback and exits with status 1.
    """


class ConfigError(S3RouterError):
    """An option or configuration value is wrong. All problems found are listed at once."""


class DataError(S3RouterError):
    """A data directory, transcript or audio file is missing, broken or inconsistent."""


class PackError(S3RouterError):
    """A mask pack is damaged, from a newer format, or made for another backbone."""


class CheckpointError(S3RouterError):
    """A checkpoint is missing, incomplete, unsafe to read, or not what was asked for."""


def run_script(main: Callable[[], int]) -> NoReturn:
    """End a script of a recipe with ``main``'s status; an error of ours becomes one line on stderr, and status 1."""
    try:
        sys.exit(main())
    except S3RouterError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
