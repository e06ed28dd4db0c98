"""The s3prl hub entry ``s3router``: any upstream that s3prl names, plus masks.

    from s3router.upstreams.hub import register
    register()
    S3PRLUpstream("s3router", path_or_url=None, extra_conf={"upstream": "tiny", "mask": {"sparsity": 0.1}})

and the same in ESPnet, with its own ``frontend: s3prl``::

    frontend_conf:
        frontend_conf:
            upstream: s3router
            path_or_url: null
            extra_conf: {upstream: tiny, mask: {sparsity: 0.1}}
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s3router.errors import CheckpointError, ConfigError
from s3router.masks import MaskConfig
from s3router.tuners.attach import attach_method, uncalled
from s3router.upstreams.dropout import DropoutConfig, set_dropout
from s3router.upstreams.formats import CHECKPOINT_SUFFIXES, load_any
from s3router.upstreams.front_end import CacheConfig
from s3router.upstreams.huggingface import FAMILIES
from s3router.upstreams.public import catalogue, find_public, load_public, local_copy
from s3router.upstreams.random_init import reinitialise
from s3router.upstreams.routed import RoutedUpstream
from s3router.upstreams.s3prl_models import known_names, load_s3prl, unknown_name
from s3router.upstreams.specaug import SpecAugConfig

TINY = "tiny"
AUTO = "auto"  # the checkpoint itself tells what it is
TINY_FOLDER = Path(__file__).parent / "tiny"


def register() -> None:
    """Make the name ``s3router`` known to s3prl, and so to ESPnet's s3prl frontend. May be called again."""
    from s3prl import hub

    hub.s3router = s3router


def s3router(ckpt: str | None = None, refresh: bool = False, **extra_conf: Any) -> RoutedUpstream:
    """The hub entry itself; s3prl passes ``path_or_url`` as ``ckpt`` and ``extra_conf`` as keywords (see `build`)."""
    known = set(inspect.signature(build).parameters) - {"ckpt", "refresh"}
    if unknown := sorted(set(extra_conf) - known):
        raise ConfigError(f"extra_conf of s3router: unknown {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    return build(ckpt=ckpt, refresh=refresh, **extra_conf)


def build(
    ckpt: str | None = None,
    refresh: bool = False,
    upstream: str = "tiny",
    mask: dict[str, Any] | None = None,
    adapter: dict[str, Any] | None = None,
    specaug: dict[str, Any] | None = None,
    feature_cache: str | dict[str, Any] | None = None,
    random_init: bool = False,
    dropout: float | dict[str, Any] | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> RoutedUpstream:
    """Load an upstream and put on it what is asked for.

    The convolutional feature extractor comes frozen (with ``random_init`` trainable); everything else is trainable,
    unless a mask or an adapter is given: all is frozen then but what these train.

    Args:
        ckpt: file, folder, URL or HuggingFace repository; None for ``tiny`` and for names that download their own (the
            public ones are looked for, and kept, in `s3router.upstreams.public.upstreams_folder`).
        refresh: download again.
        upstream: ``tiny``, ``auto`` (ckpt is a file or folder of any format), a public upstream of conf/upstreams,
            a single family (``hf_hubert_custom`` …), or any name of s3prl's hub.
        mask: fields of `s3router.masks.MaskConfig`; None: no mask.
        adapter: ``method`` (one of `s3router.tuners.METHODS` that is attached; with ``mask``: ``router`` or
            ``magnitude``) and fields of its configuration; None: masks, if there are any, whose scores train.
        specaug: fields of `SpecAugConfig` ({} for its defaults); None: no masking of features.
        feature_cache: folder, or {path, max_gb}: keep the output of the feature extractor there (`CacheConfig`).
        random_init: the same architecture with fresh weights. s3prl's upstreams still read the checkpoint to learn
            the architecture; a HuggingFace folder needs its configuration files only.
        dropout: probability for every dropout of the transformer in training mode, or fields of `DropoutConfig`
            (hidden, attention, activation, input, layerdrop); None: what the checkpoint says, without LayerDrop.
        seed: of the fresh weights.
        options: further keyword arguments of s3prl's function of that name.

    Raises:
        ConfigError: unknown upstream (with close matches), or values that do not fit.
        CheckpointError: the checkpoint is missing, unsafe, damaged or partial.
    """
    specaug_config = None if specaug is None else SpecAugConfig.from_dict(specaug)
    cache = None if feature_cache is None else CacheConfig.of(feature_cache)
    dropouts = None if dropout is None else DropoutConfig.of(dropout)
    masks = None if mask is None else MaskConfig.from_dict(mask)
    conf = {} if adapter is None else dict(adapter)
    method = conf.pop("method", None if masks is None else "router")
    if masks is not None and "mask_embedding" in masks.train and specaug is None:
        raise ConfigError("mask train mask_embedding: without feature masking (specaug) it is not used; leave it out.")
    if random_init and cache is not None:
        raise ConfigError("feature_cache: random_init trains the feature extractor, so its output cannot be kept.")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs anew as well
        expert = load_expert(upstream, ckpt, refresh, random_init, options)
    routed = RoutedUpstream(expert, specaug_config, cache, train_front_end=random_init)
    if dropouts is not None:
        set_dropout(routed.backbone, dropouts)
    if method is not None:
        attach_method(routed.backbone, method, masks, conf, seed)
        _refuse_uncalled(routed, method)
    return routed


def _refuse_uncalled(routed: RoutedUpstream, method: str) -> None:
    """Refuse additions to layers that the model does not call: they would never train."""

    @torch.no_grad()
    def run() -> None:
        modes = {part: part.training for part in routed.modules()}
        routed.eval()
        with routed.without_cache():
            routed([torch.zeros(8000)])
        for part, training in modes.items():
            part.training = training

    if names := uncalled(routed.backbone, run):
        raise ConfigError(
            f"method {method}: the model reads the weights of {', '.join(names[:3])} without calling these layers, so "
            "that additions to them would have no effect; take method_conf targets ffn"
        )


def load_expert(
    name: str, ckpt: str | None, refresh: bool = False, random_init: bool = False, options: dict[str, Any] | None = None
) -> nn.Module:
    """The bare s3prl-style upstream ``name``; see `build`."""
    check_name(name, ckpt)
    if name == TINY:
        name, ckpt = "hf_hubert_custom", ckpt or str(tiny_folder())
    if name in FAMILIES:
        return load_any(str(ckpt), random_init, name)
    if name == AUTO:
        return load_any(local_copy(str(ckpt), refresh), random_init)
    if not options and (public := find_public(name)):
        return load_public(public, None if ckpt is None else str(ckpt), refresh, random_init)
    expert = load_s3prl(name, None if ckpt is None else str(ckpt), refresh, options)
    if random_init:
        reinitialise(expert)
    return expert


def check_name(name: str, ckpt: str | None = None) -> None:
    """Refuse a name that `build` does not know, or that lacks its checkpoint, before anything is read or downloaded.

    Raises:
        ConfigError: as said; with close matches.
        CheckpointError: ckpt names a local file or folder that is not there.
    """
    if name in (*FAMILIES, AUTO) and ckpt is None:
        kinds = "file, folder" if name == AUTO else "folder"
        raise ConfigError(f"upstream {name} needs a {kinds} or repository name as path_or_url (--upstream-ckpt).")
    if name not in (TINY, AUTO, *FAMILIES) and find_public(name) is None and name not in known_names():
        raise unknown_name(name, all_names())
    local = ckpt is not None and (Path(ckpt).is_absolute() or Path(ckpt).suffix in CHECKPOINT_SUFFIXES)
    if local and not str(ckpt).startswith(("http://", "https://")) and not Path(ckpt).exists():
        raise CheckpointError(f"{ckpt}: no such checkpoint file or folder. Check the path given for upstream {name}.")


def all_names() -> list[str]:
    """Every name that ``upstream`` may have, ours first."""
    public = [name for entry in catalogue().values() for name in (entry.name, *entry.aliases)]
    ours = [TINY, AUTO, *FAMILIES, *public]
    return [*ours, *(name for name in known_names() if name not in ours)]


def tiny_folder() -> Path:
    """Where the upstream that ships with this package is; the environment variable S3ROUTER_TINY overrides it."""
    folder = Path(os.environ.get("S3ROUTER_TINY") or TINY_FOLDER)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: the upstream 'tiny' is not there (no config.json). Reinstall s3router with its package data, "
            "pretrain it with egs/asterisk/ssl1/run.sh, or let S3ROUTER_TINY name a HuBERT folder."
        )
    return folder
