"""Packs from a repository of a HuggingFace hub: downloaded once, pinned to a commit, checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3router.errors import PackError, RepositoryError
from s3router.files import replacing
from s3router.sharing import card
from s3router.sharing.address import Address, is_address
from s3router.sharing.hub_errors import explained
from s3router.sharing.push import PATTERN
from s3router.sharing.shared_packs import SharedPack, check_together


@dataclass(frozen=True)
class Pulled:
    """What came.

    Attributes:
        repository: ``user/name``.
        revision: the commit, whatever was asked for.
        packs: where they lie here, by name.
    """

    repository: str
    revision: str
    packs: tuple[SharedPack, ...]

    @property
    def address(self) -> str:
        """``user/name@commit``: the same packs for ever."""
        return f"{self.repository}@{self.revision}"


def pull(
    repository: str,
    revision: str | None = None,
    *,
    output: str | os.PathLike | None = None,
    token: str | None = None,
) -> Pulled:
    """Have the packs of a repository here, and check them.

    They are kept among huggingface_hub's downloads (HF_HOME), so that a commit is downloaded once, and works without a
    network from then on.

    Args:
        repository: ``user/name``, or ``user/name@revision``.
        revision: a branch, a tag or a commit; by default what the address says, else the newest state of main.
        output: a folder that gets copies.
        token: for private repositories; by default the one that was logged in with, or HF_TOKEN.

    Raises:
        RepositoryError: no such repository or revision, no network, no packs in it.
        PackError: a pack is damaged, or not the one that the repository's README describes.
        ConfigError: packs that cannot be loaded together.
    """
    from huggingface_hub import snapshot_download

    address = Address.parse(repository)
    address = Address(address.repository, revision or address.revision)
    with explained(address):
        folder = Path(
            snapshot_download(
                address.repository,
                revision=address.revision,
                allow_patterns=[PATTERN, card.NAME],
                token=token,
                library_name="s3router",
            )
        )
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise RepositoryError(f"{address}: no packs in it ({PATTERN}); name a repository that s3router push wrote")
    packs = tuple(SharedPack.read(path) for path in paths)
    check_together(packs)
    if (readme := folder / card.NAME).is_file():
        card.check_card(packs, readme.read_text("utf-8", errors="replace"), str(address))
    if output is not None:
        packs = tuple(SharedPack.read(_copy(pack.path, Path(output) / pack.name)) for pack in packs)
    return Pulled(address.repository, folder.name, packs)


def local_packs(sources: Sequence[str | os.PathLike]) -> list[str | os.PathLike]:
    """Sources of routes with addresses (``user/name@revision``) replaced by their packs; raises as `pull`."""
    found: list[str | os.PathLike] = []
    for source in sources:
        found += [pack.path for pack in pull(os.fspath(source)).packs] if is_address(source) else [source]
    return found


def check_backbone(packs: Sequence[SharedPack]) -> str | None:
    """Hold packs against the backbone that they name, where it can be loaded without a download.

    Returns:
        Its name; None: it is not here.

    Raises:
        PackError: a pack is for another one.
    """
    from s3router.serving.loading import load_backbone
    from s3router.upstreams.public import find_public

    meta = packs[0].meta
    public = find_public(meta.backbone)
    if meta.checkpoint or not (meta.backbone == "tiny" or (public is not None and public.present())):
        return None
    model = load_backbone([pack.path for pack in packs])
    for pack in packs:
        _, here = model.backbone_for(pack.meta.whole, pack.name)
        if here != pack.meta.fingerprint:
            raise PackError(
                f"{pack.path}: for a {meta.backbone} with fingerprint {pack.meta.fingerprint}, and the one here has "
                f"{here}; get that checkpoint, and name it with --upstream-ckpt"
            )
    return meta.backbone


def _copy(path: Path, target: Path) -> Path:
    with path.open("rb") as source, replacing(target, "wb") as file:
        shutil.copyfileobj(source, file)
    return target
