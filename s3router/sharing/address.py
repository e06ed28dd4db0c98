"""How a repository of packs is called: ``user/name``, or ``user/name@revision``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from s3router.errors import ConfigError

_ADDRESS = re.compile(r"(?P<repository>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True)
class Address:
    """A repository, and which state of it.

    Attributes:
        repository: ``user/name``.
        revision: a branch, a tag or a commit; None: the newest state.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ConfigError where it is not of that form."""
        match = _ADDRESS.fullmatch(text)
        if not match:
            raise ConfigError(f"{text}: expected a repository, USER/NAME or USER/NAME@REVISION")
        return cls(match["repository"], match["revision"])

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def is_address(text: str | os.PathLike) -> bool:
    """Whether a pack is named by a repository's address: with a revision, and nothing lies at that path."""
    match = _ADDRESS.fullmatch(os.fspath(text))
    return bool(match and match["revision"]) and not os.path.exists(text)
