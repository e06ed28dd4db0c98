"""s3prl's problems, imported on current packages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from functools import lru_cache
from typing import TYPE_CHECKING

from s3router.asr.engine import DEFERRED, defer
from s3router.errors import ConfigError

if TYPE_CHECKING:
    from s3prl.problem.base import Problem

STOOD_IN = ("sed_eval", "dcase_util", "dcase_util.containers")
"""What s3prl.problem imports and only HEAR's sound event tasks use; the environment does without them."""


@lru_cache(maxsize=1)
def problems() -> types.ModuleType:
    """The module ``s3prl.problem``, unmodified; the first call takes seconds."""
    for name in DEFERRED:  # s3prl.problem asks for g2p, which would try to download dictionaries
        defer(name)
    missing = [name for name in STOOD_IN if _is_absent(name.split(".")[0])]
    sys.modules.update({name: _Absent(name) for name in missing})
    try:
        return importlib.import_module("s3prl.problem")
    except ImportError as error:
        raise ConfigError(f"s3prl.problem cannot be imported ({error}); set up anew with tools/setup.sh") from error
    finally:
        for name in missing:
            del sys.modules[name]


def problem(name: str) -> Problem:
    """An instance of s3prl's problem of that name, such as ``SuperbKS``."""
    return getattr(problems(), name)()


def _is_absent(name: str) -> bool:
    return name not in sys.modules and importlib.util.find_spec(name) is None


class _Absent(types.ModuleType):
    """Has an attribute of any name, which is enough for imports and annotations, and for nothing else."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, attribute: str):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return _Absent(f"{self.__name__}.{attribute}")
