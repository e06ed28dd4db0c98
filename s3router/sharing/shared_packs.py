"""The packs of one repository: what is known of them, and what they have to have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.packs import PackMeta
from s3router.packs.contents import language_of
from s3router.packs.description import Description
from s3router.packs.pack_file import read_parts
from s3router.packs.summary import figures


@dataclass(frozen=True)
class SharedPack:
    """A pack, and its name in the repository.

    Attributes:
        name: of the file.
        path: where it lies here.
        description: what it says of itself.
        figures: of `s3router.packs.summary.figures`.
    """

    name: str
    path: Path
    description: Description
    figures: dict[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike) -> SharedPack:
        """Raises PackError where it is damaged."""
        return cls(Path(path).name, Path(path), read_parts(path).description, figures(path))

    @property
    def route(self) -> str:
        """Its route's name."""
        return self.description.route

    @property
    def meta(self) -> PackMeta:
        """Its metadata."""
        return self.description.meta

    @property
    def language(self) -> str | None:
        """The code of the language that it writes, as far as it tells."""
        return language_of(self.route, self.meta)

    @property
    def method(self) -> str:
        """What made it."""
        return str(self.figures["adapter"].get("method") or self.meta.training.get("method") or "router")


def check_together(packs: Sequence[SharedPack]) -> None:
    """Packs of one repository are loaded together: one backbone, and each name and route once.

    Raises:
        ConfigError: they cannot be.
    """
    first = packs[0]
    for number, pack in enumerate(packs):
        for other in packs[:number]:
            if other.name == pack.name:
                raise ConfigError(f"{other.path} and {pack.path} have one name; rename one of them")
            if other.route == pack.route:
                raise ConfigError(
                    f"{other.name} and {pack.name} are both of route {pack.route!r}, which a repository has once; give "
                    "them one name to replace one by the other, or pack one with another --route"
                )
        if (pack.meta.backbone, pack.meta.checkpoint) != (first.meta.backbone, first.meta.checkpoint):
            raise ConfigError(
                f"{first.name} is for {backbone_words(first.meta)}, and {pack.name} for {backbone_words(pack.meta)}; a "
                "repository is for one backbone: push one of them to another"
            )
        alike = next(other for other in packs if other.meta.whole == pack.meta.whole)
        if alike.meta.fingerprint != pack.meta.fingerprint:
            raise ConfigError(
                f"{alike.name} and {pack.name} are for {backbone_words(pack.meta)} with other weights (fingerprints "
                f"{alike.meta.fingerprint} and {pack.meta.fingerprint}); a repository is for one backbone: push one of "
                "them to another"
            )


def backbone_words(meta: PackMeta) -> str:
    """``whisper_base``, or ``auto (my-model)``."""
    return f"{meta.backbone} ({meta.checkpoint})" if meta.checkpoint else meta.backbone
