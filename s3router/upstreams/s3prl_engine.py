"""Importing s3prl's modules on current packages, and without ESPnet where it is not used."""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from s3router.errors import ConfigError

if TYPE_CHECKING:
    from s3prl.problem.base import Problem

ABSENT = ("sed_eval", "dcase_util", "dcase_util.containers", "chunk")
"""What s3prl.problem imports in vain: the first three, not installed, are for sound event tasks of HEAR alone; the
last is used nowhere, and CPython 3.13 no longer has it.
"""
DISTANCE = "editdistance"
"""What s3prl's metrics count edits with; it has no binary for every Python, and RapidFuzz (of jiwer) does the same."""
UNUSED = ("espnet2.tasks.hubert",)
"""What s3prl's hub imports for the one upstream of its that needs it: nine tenths of the time that s3prl takes."""


def load(name: str) -> types.ModuleType:
    """The module of s3prl of that name, unmodified; the first call takes seconds.

    Raises:
        ConfigError: it cannot be imported.
    """
    with _standing_in():
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"{name} cannot be imported ({error}); set up anew with tools/setup.sh") from error


def problem(name: str) -> Problem:
    """An instance of s3prl's problem of that name, such as ``SuperbKS``."""
    return getattr(load("s3prl.problem"), name)()


@contextlib.contextmanager
def _standing_in() -> Iterator[None]:
    """While active, what s3prl imports in vain is stood in for, where it is not installed or not imported yet."""
    replaced = {name: _Absent(name) for name in ABSENT} | {DISTANCE: _Distance(DISTANCE)}
    made = {n: m for n, m in replaced.items() if n not in sys.modules and find_spec(n.split(".")[0]) is None}
    made |= {name: _Unused(name) for name in UNUSED if name not in sys.modules}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)


class _Absent(types.ModuleType):
    """Has an attribute of any name, which is enough for imports and annotations, and for nothing else."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return _Absent(f"{self.__name__}.{attribute}")


class _Distance(types.ModuleType):
    """The one function of editdistance that s3prl calls."""

    @staticmethod
    def eval(first: Sequence, second: Sequence) -> int:
        """The fewest insertions, deletions and substitutions that make one sequence of the other."""
        from rapidfuzz.distance import Levenshtein

        return Levenshtein.distance(first, second)


class _Unused(types.ModuleType):
    """A module whose names are imported when something of them is used."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return _Later(self.__name__, attribute)


class _Later:
    """Stands for a name in a module until an attribute of it is asked for."""

    def __init__(self, module: str, name: str):
        self._where = module, name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        module, name = self._where
        return getattr(getattr(importlib.import_module(module), name), attribute)
