"""Loading of packs or experiments, with their backbone; every command that serves routes begins here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import ConfigError
from s3router.packs import MaskPack
from s3router.packs.contents import WHOLE
from s3router.packs.pack_file import read_parts
from s3router.serving.routed_model import RoutedModel


def load_routes(
    sources: Sequence[str | os.PathLike], upstream: str | None = None, ckpt: str | None = None, device: str = "cpu"
) -> RoutedModel:
    """The backbone with these routes.

    Args: as of `load_backbone`.

    Raises:
        PackError: a pack is for another backbone.
        ConfigError: two sources have one route, or an experiment has no backbone that could be shared.
        Others: as `load_backbone`.
    """
    model = load_backbone(sources, upstream, ckpt, device)
    for source in sources:
        model.add(pack_of_folder(source) if Path(source).is_dir() else source)
    return model.eval()


def load_backbone(
    sources: Sequence[str | os.PathLike], upstream: str | None = None, ckpt: str | None = None, device: str = "cpu"
) -> RoutedModel:
    """The model that these routes are for, without any; the whole recogniser if one of them needs its decoder.

    Args:
        sources: mask packs; or experiment folders, whose routes are called as the folders are.
        upstream: the backbone's name; by default the one that the first source names.
        ckpt: its checkpoint.
        device: "cpu", "cuda", "cuda:1".

    Raises:
        PackError: a pack is damaged.
        CheckpointError: a folder holds no experiment, or a damaged one.
        ConfigError: no sources are given, or there is no such device.
    """
    if not sources:
        raise ConfigError("no packs given; name at least one .pack file")
    from s3router.training.processes import check_device
    from s3router.upstreams.hub import build

    check_device(device)
    upstream, ckpt = backbone_of(sources[0], upstream, ckpt)
    whole = next((source for source in sources if is_whole(source)), None)
    if whole is None:
        return RoutedModel(build(ckpt=ckpt, upstream=upstream)).to(device)
    return whole_model(upstream, ckpt, str(whole)).to(device)


def whole_model(upstream: str, ckpt: str | None, where: str) -> RoutedModel:
    """A whole recogniser, with its encoder as the upstream of routes that need no more.

    Args:
        where: names in messages what needs it.

    Raises:
        ConfigError: the upstream is no Whisper.
        CheckpointError: as `s3router.upstreams.whisper_recogniser.load_recogniser`.
    """
    from s3router.upstreams.routed import RoutedUpstream
    from s3router.upstreams.whisper import WhisperSpeechEncoder, WhisperUpstream
    from s3router.upstreams.whisper_recogniser import load_recogniser

    try:
        recogniser = load_recogniser(upstream, ckpt)
    except ConfigError as error:
        raise ConfigError(f"{where} is for a whole recogniser, encoder and decoder. {error}") from None
    encoder = WhisperUpstream(WhisperSpeechEncoder(recogniser.model.model.encoder))
    return RoutedModel(RoutedUpstream(encoder), recogniser)


def is_whole(source: str | os.PathLike) -> bool:
    """Whether a pack or an experiment is of a whole recogniser.

    Raises:
        PackError, CheckpointError: it is damaged, or neither.
    """
    if not Path(source).is_dir():
        return read_parts(source).description.meta.whole
    from s3router.serving.opening import open_experiment

    return open_experiment(source).task == WHOLE


def pack_of_folder(folder: str | os.PathLike) -> MaskPack:
    """What an experiment has learnt, as a pack in memory; weights that it trained are in its ``delta``.

    Raises:
        CheckpointError: no experiment, or a damaged one; and as `Experiment.parts`.
        ConfigError: it was trained from scratch, or has changed what routes share.
    """
    from s3router.serving.opening import open_experiment
    from s3router.serving.packing import pack_of, routable
    from s3router.training.logs import errors_only

    exp = open_experiment(folder)
    if exp.method == "scratch":
        raise ConfigError(
            f"{folder}: trained from scratch, so it shares no backbone; s3router bake makes a model of it"
        )
    with errors_only():  # not ESPnet's remarks while it builds the model
        return pack_of(exp, routable(exp.parts(), exp.path), Path(folder).resolve().name)


def backbone_of(
    source: str | os.PathLike, upstream: str | None = None, ckpt: str | None = None
) -> tuple[str, str | None]:
    """(upstream, checkpoint): those that are given, else those that the pack or the experiment names.

    Raises:
        PackError: the pack is damaged.
        CheckpointError: the folder holds no experiment, or a damaged one.
        ConfigError: the pack names a checkpoint that was a file or folder elsewhere.
    """
    if upstream is not None:
        return upstream, ckpt
    if Path(source).is_dir():
        from s3router.serving.opening import open_experiment

        exp = open_experiment(source)
        return exp.upstream, ckpt or exp.upstream_ckpt
    meta = read_parts(source).description.meta
    ckpt, named = ckpt or meta.checkpoint, meta.checkpoint
    if ckpt is not None and ckpt == named and "/" not in named and not os.path.exists(named):  # and no repository
        raise ConfigError(
            f"{source} is for the upstream {meta.backbone} with a checkpoint that was called {named}; say where it is "
            "now (--upstream-ckpt)"
        )
    return meta.backbone, ckpt
