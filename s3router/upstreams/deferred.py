"""Modules that the engines import at every start and hardly ever use: imported when they are used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

DEFERRED = ("g2p_en", "tacotron_cleaner", "tacotron_cleaner.cleaners")
"""What ESPnet imports with every task and hardly ever uses: English grapheme-to-phoneme conversion and number
reading. They take a third of the time, and the first tries to download dictionaries.
"""


def defer(name: str) -> None:
    """Let ``import name`` do nothing until something of it is used. Not installed: nothing changes."""
    if name in sys.modules or importlib.util.find_spec(name.split(".")[0]) is None:
        return
    if (spec := importlib.util.find_spec(name)) is not None:
        module = sys.modules[name] = _Deferred(name)
        module.__file__, module.__spec__ = spec.origin, spec
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations


class _Deferred(types.ModuleType):
    """Stands for a module until one of its names is asked for. (`importlib.util.LazyLoader` loads at the first look,
    and `inspect` looks at every module.)
    """

    def __getattr__(self, attribute: str):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)
