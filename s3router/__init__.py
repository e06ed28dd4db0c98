"""S3-Router: learnt weight masks on frozen speech upstreams (https://arxiv.org/abs/2211.01522).

Importing this package costs nothing: torch, ESPnet and s3prl come with the subpackage that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3router.api.results import Classification, Transcription
    from s3router.api.router import Router
    from s3router.api.training import train
    from s3router.data.convert import convert
    from s3router.sharing.pull import pull
    from s3router.sharing.push import push

__version__ = "0.1.0.dev0"

_HOMES = {
    "Classification": "s3router.api.results",
    "Router": "s3router.api.router",
    "convert": "s3router.data.convert",
    "pull": "s3router.sharing.pull",
    "push": "s3router.sharing.push",
    "train": "s3router.api.training",
    "Transcription": "s3router.api.results",
}
__all__ = ["Classification", "Router", "Transcription", "__version__", "convert", "pull", "push", "train"]


def __getattr__(name: str) -> Any:
    """The names of `__all__`, each imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
