"""Packs to a repository of a HuggingFace hub, together with a README that is made from them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.errors import ConfigError, DataError, PackError, RepositoryError
from s3router.files import read_utf8
from s3router.sharing import card
from s3router.sharing.address import Address
from s3router.sharing.hub_errors import LOG_IN, explained
from s3router.sharing.shared_packs import SharedPack, check_together

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PATTERN = "*.pack"


@dataclass(frozen=True)
class Pushed:
    """What a repository holds now.

    Attributes:
        repository: ``user/name``.
        revision: the commit.
        url: its page.
        packs: all packs in it, those that were there before included.
    """

    repository: str
    revision: str
    url: str
    packs: tuple[SharedPack, ...]


def push(
    repository: str,
    packs: Sequence[str | os.PathLike],
    *,
    private: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> Pushed:
    """Upload packs in one commit; the repository is made if it is not there.

    A pack takes the place of the one of the same file name. The README describes all packs of the repository; what
    stands in it besides the generated part is kept.

    Args:
        repository: ``user/name``, or ``user/name@branch`` for another branch than main, which has to be there.
        packs: files.
        private: where it is made: only for those who are let in.
        token: that may write; by default the one that was logged in with, or HF_TOKEN.
        message: of the commit.

    Raises:
        PackError: a pack is damaged.
        ConfigError: no packs; or packs, those in the repository included, that cannot be loaded together.
        RepositoryError: no token, no network, no right to write.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    address = Address.parse(repository)
    if not packs:
        raise ConfigError("no packs to push; name at least one .pack file")
    ours = [SharedPack.read(path) for path in packs]
    for pack in ours:
        if not fnmatch(pack.name, PATTERN):
            raise ConfigError(f"{pack.path}: {PATTERN} is what is looked for in a repository; rename it")
    check_together(ours)
    if not (token or get_token()):
        raise RepositoryError(f"{address.repository}: writing needs a token; {LOG_IN}")
    api = HfApi(token=token, library_name="s3router")
    with explained(address):
        api.create_repo(address.repository, private=private, exist_ok=True)
        head = api.model_info(address.repository, revision=address.revision)
        names = [file.rfilename for file in head.siblings or ()]
        others = [name for name in names if fnmatch(name, PATTERN) and name not in {pack.name for pack in ours}]
        there = [SharedPack.read(_fetched(api, address, head.sha, name)) for name in others]
        before = _readme(_fetched(api, address, head.sha, card.NAME), address) if card.NAME in names else ""
    together = sorted([*there, *ours], key=lambda pack: pack.name)
    check_together(together)
    content = card.card(together, address.repository, before)
    operations = [CommitOperationAdd(pack.name, pack.path) for pack in ours]
    operations.append(CommitOperationAdd(card.NAME, content.encode()))
    said = message or f"Packs {', '.join(pack.route for pack in ours)}"
    with explained(address):
        done = api.create_commit(
            address.repository, operations, commit_message=said, revision=address.revision, parent_commit=head.sha
        )
    url = f"{api.endpoint}/{address.repository}"
    return Pushed(address.repository, done.oid, url, tuple(together))


def _readme(path: Path, address: Address) -> str:
    try:
        return read_utf8(path)
    except DataError as error:
        raise PackError(f"{address.repository}: {error}. Mend its {card.NAME} on the hub.") from None


def _fetched(api: HfApi, address: Address, revision: str | None, name: str) -> Path:
    return Path(api.hf_hub_download(address.repository, name, revision=revision))
