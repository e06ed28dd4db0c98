"""Packs and their backbone, loaded once: what every command that serves routes begins with."""

from __future__ import annotations

import os
from collections.abc import Sequence

from s3router.errors import ConfigError
from s3router.packs.pack_file import read_parts
from s3router.serving.routed_model import RoutedModel


def load_routes(
    packs: Sequence[str | os.PathLike], upstream: str | None = None, ckpt: str | None = None, device: str = "cpu"
) -> RoutedModel:
    """The backbone with these packs.

    Args:
        packs: files.
        upstream: the backbone's name; by default the one that the first pack names.
        ckpt: its checkpoint.
        device: "cpu", "cuda", "cuda:1".

    Raises:
        PackError: a pack is damaged, or for another backbone; ConfigError: none are given, or two have one route.
    """
    if not packs:
        raise ConfigError("no packs given; name at least one .pack file")
    from s3router.upstreams.hub import build

    upstream, ckpt = backbone_of(packs[0], upstream, ckpt)
    model = RoutedModel(build(ckpt=ckpt, upstream=upstream)).to(device)
    for pack in packs:
        model.add(pack)
    return model.eval()


def backbone_of(
    pack: str | os.PathLike, upstream: str | None = None, ckpt: str | None = None
) -> tuple[str, str | None]:
    """(upstream, checkpoint): those that are given, else those that the pack names.

    Raises:
        PackError: the pack is damaged.
        ConfigError: the pack names a checkpoint that was a file or folder elsewhere.
    """
    if upstream is not None:
        return upstream, ckpt
    meta = read_parts(pack).description.meta
    ckpt, named = ckpt or meta.checkpoint, meta.checkpoint
    if ckpt is not None and ckpt == named and "/" not in named and not os.path.exists(named):  # and no repository
        raise ConfigError(
            f"{pack} is for the upstream {meta.backbone} with a checkpoint that was called {named}; say where it is "
            "now (--upstream-ckpt)"
        )
    return meta.backbone, ckpt
