"""A choice that is made separately in every thread and asyncio task."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

# (key of a `ThreadChoice`) -> what is chosen. Never changed in place: contexts share it. One variable for all, since
# contexts keep theirs for ever.
_CHOSEN: ContextVar[Mapping[int, str | None]] = ContextVar("s3router_chosen", default=MappingProxyType({}))
_KEYS = itertools.count()


class ThreadChoice:
    """A name, or None, for each thread and each asyncio task; nothing in a thread that has not chosen."""

    def __init__(self) -> None:
        self._key = next(_KEYS)

    @property
    def made(self) -> bool:
        """Whether this thread or task has chosen."""
        return self._key in _CHOSEN.get()

    @property
    def current(self) -> str | None:
        """What this thread or task has chosen; None also where it has not."""
        return _CHOSEN.get().get(self._key)

    def set(self, name: str | None) -> None:
        """Choose, in this thread or task, until it chooses again."""
        _CHOSEN.set({**_CHOSEN.get(), self._key: name})

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """`set` for the length of a ``with`` block; after it, what was chosen before it."""
        made, before = self.made, self.current
        self.set(name)
        try:
            yield
        finally:
            if made:
                self.set(before)
            else:
                _CHOSEN.set({key: value for key, value in _CHOSEN.get().items() if key != self._key})

    def __deepcopy__(self, memo: dict) -> ThreadChoice:
        """Another one that starts with what this thread or task has chosen here."""
        copy = ThreadChoice()
        if self.made:
            copy.set(self.current)
        return copy

    def __reduce__(self) -> tuple[type[ThreadChoice], tuple[()]]:
        return ThreadChoice, ()  # in a pickle: nothing chosen, and never the key of another process
