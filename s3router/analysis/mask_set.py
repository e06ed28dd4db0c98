"""The masks of many packs of one backbone, side by side as bits: 50 packs of base size take 0.4 GB."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack, read_pack
from s3router.packs.bits import pack_bits
from s3router.packs.contents import PackMeta
from s3router.packs.pack_file import read_parts
from s3router.packs.summary import place_of


@dataclass(frozen=True)
class Weight:
    """One masked matrix.

    Attributes:
        name: as in packs.
        stack: ``encoder`` or ``decoder`` of a whole recogniser; ``""`` of an encoder alone.
        layer: None outside of the layers.
        role: ``ffn``, ``attention``, ``cross-attention``, ``projection`` or ``other``.
        shape: (rows, columns).
    """

    name: str
    stack: str
    layer: int | None
    role: str
    shape: tuple[int, int]

    @property
    def count(self) -> int:
        """Weights in it."""
        return self.shape[0] * self.shape[1]

    @property
    def place(self) -> str:
        """Its layer in words: ``3``, ``decoder 3``, ``outside``."""
        return f"{self.stack} {'outside' if self.layer is None else self.layer}".strip()


@dataclass(frozen=True)
class Source:
    """Where a set of masks comes from.

    Attributes:
        label: names it, and no other of the set.
        route: the language or task; packs of one route are seeds (or settings) of it.
        path: of the pack or experiment.
        meta: of the pack.
        layer_weights: float64 (hidden states,), the softmax that features are weighted by; None where there is none.
    """

    label: str
    route: str
    path: str
    meta: PackMeta
    layer_weights: np.ndarray | None = None

    @property
    def seed(self) -> Any:
        """Of the training, else of the masks alone; None where neither is said."""
        return self.meta.training.get("seed", self.meta.mask.get("seed"))


@dataclass(frozen=True)
class MaskSet:
    """Masks over the same weights.

    Attributes:
        sources: one for each set of masks.
        weights: the masked matrices.
        removed: per matrix uint64 (sources, ⌈weights / 64⌉), bits in the order of `s3router.packs.bits`: 1 = removed.
    """

    sources: tuple[Source, ...]
    weights: tuple[Weight, ...]
    removed: tuple[np.ndarray, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the sources."""
        return tuple(source.label for source in self.sources)

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 (matrices, sources): weights removed."""
        return np.stack([np.bitwise_count(bits).sum(1, dtype=np.int64) for bits in self.removed])

    @cached_property
    def sizes(self) -> np.ndarray:
        """int64 (matrices,): weights in each."""
        return np.array([weight.count for weight in self.weights], np.int64)

    def rows(self, which: Callable[[Weight], bool]) -> np.ndarray:
        """int64: the places of the matrices that fit."""
        return np.array([n for n, weight in enumerate(self.weights) if which(weight)], np.int64)

    def scopes(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(kind, name, matrices) of everything that figures are given for: ``all``, each ``layer``, each ``role``."""
        yield "all", "all", np.arange(len(self.weights))
        for place in dict.fromkeys(weight.place for weight in self.weights):
            yield "layer", place, self.rows(lambda weight, place=place: weight.place == place)
        for role in dict.fromkeys(weight.role for weight in self.weights):
            yield "role", role, self.rows(lambda weight, role=role: weight.role == role)


def words(bits: np.ndarray) -> np.ndarray:
    """uint8 bits of a mask (1 = kept, padding 0), as in packs -> uint64 words of its removed weights (padding 0)."""
    padded = np.zeros(-(-len(bits) // 8) * 8, np.uint8)
    padded[: len(bits)] = bits
    return padded.view(np.uint64)


def removed_words(mask: Tensor) -> np.ndarray:
    """Bool mask of any shape, True = kept -> uint64 (⌈weights / 64⌉,), bit 1 = removed."""
    return words(pack_bits(~mask))


def unpack(bits: np.ndarray, count: int) -> np.ndarray:
    """uint64 words -> bool (count,)."""
    return np.unpackbits(bits.view(np.uint8), count=count, bitorder="little").view(np.bool_)


def mask_set(
    packs: Iterable[tuple[str, MaskPack]], each: Callable[[int, Mapping[str, np.ndarray]], None] | None = None
) -> MaskSet:
    """Put packs side by side.

    Args:
        packs: (path for messages, pack), read one after the other: only their bits stay in memory.
        each: called with the number of a pack and its masks, bool by name (1-D, True = removed), while they are there.

    Raises:
        PackError: a pack has no masks, or is of another backbone than the first.
        ConfigError: a pack masks other weights than the first, or there are fewer than two packs.
    """
    first: tuple[str, MaskPack] | None = None
    sources: list[Source] = []
    bits: dict[str, list[np.ndarray]] = {}
    for path, pack in packs:
        _check(path, pack, first)
        if first is None:
            first = path, MaskPack(pack.route, pack.masks, {}, {}, {}, None, pack.meta)
        for name, mask in pack.masks.items():
            bits.setdefault(name, []).append(removed_words(mask))
        if each is not None:
            each(len(sources), {name: ~mask.numpy().reshape(-1) for name, mask in pack.masks.items()})
        sources.append(Source("", pack.route, path, pack.meta, _layer_weights(pack)))
    check_enough([source.path for source in sources])
    whole = sources[0].meta.whole
    weights = tuple(Weight(name, *place_of(name, whole), tuple(mask.shape)) for name, mask in first[1].masks.items())
    return MaskSet(labelled(sources), weights, tuple(np.stack(bits.pop(weight.name)) for weight in weights))


def check_enough(paths: Sequence[str | os.PathLike]) -> None:
    """Raises ConfigError where there are no two packs to compare."""
    if len(paths) < 2:
        one = f"{os.fspath(paths[0])} is the only pack" if paths else "no packs given"
        raise ConfigError(f"{one}: name at least two to compare (s3router inspect describes a single one)")


def routes_of(sources: Sequence[str | os.PathLike]) -> list[str]:
    """The routes of packs; of experiment folders, their names. Raises PackError where a pack is damaged."""
    return [Path(s).resolve().name if Path(s).is_dir() else read_parts(s).description.route for s in sources]


def read_sources(
    sources: Sequence[str | os.PathLike], backbone: nn.Module | None = None, fingerprint: str | None = None
) -> Iterator[tuple[str, MaskPack]]:
    """(path, pack) of mask packs or experiment folders, one after the other.

    Args:
        backbone: the bare model, which packs that are coded relative to it need.
        fingerprint: of it; sources for another one are refused.

    Raises:
        PackError, CheckpointError: a pack or folder is damaged, or for another backbone.
    """
    for source in sources:
        path = os.fspath(source)
        if not Path(path).is_dir():
            yield path, read_pack(path, backbone, fingerprint=fingerprint)
            continue
        from s3router.serving.loading import pack_of_folder

        pack = pack_of_folder(path)
        if fingerprint is not None and pack.meta.fingerprint != fingerprint:
            raise PackError(
                f"{path}: trained on another backbone (fingerprint {pack.meta.fingerprint}) than the one that was "
                f"loaded ({fingerprint}); leave --upstream out, or name its own"
            )
        yield path, pack


def is_coded(source: str | os.PathLike) -> bool:
    """Whether a source can be read with its backbone only. Raises PackError where it is damaged."""
    return not Path(source).is_dir() and read_parts(source).description.codec != "bits"


def _check(path: str, pack: MaskPack, first: tuple[str, MaskPack] | None) -> None:
    if not pack.masks:
        method = pack.meta.adapter.get("method") or pack.meta.training.get("method") or "another method"
        raise PackError(f"{path}: it holds no masks ({method}), so there is nothing to compare; leave it out")
    if first is None:
        return
    there, other = first
    if pack.meta.fingerprint != other.meta.fingerprint:
        raise PackError(
            f"{path}: for another backbone ({pack.meta.backbone}, fingerprint {pack.meta.fingerprint}) than {there} "
            f"({other.meta.backbone}, {other.meta.fingerprint}); masks compare on one backbone only: analyse them apart"
        )
    shapes, others = ({name: tuple(mask.shape) for name, mask in p.masks.items()} for p in (pack, other))
    if shapes != others:
        differing = sorted(shapes.items() ^ others.items())[0][0]
        raise ConfigError(
            f"{path}: masks other weights than {there} (the first difference: {differing}); name packs that were "
            "trained with the same targets"
        )


def _layer_weights(pack: MaskPack) -> np.ndarray | None:
    if "weights" not in pack.featurizer or pack.meta.preprocessing.get("features") == "last":
        return None
    return pack.featurizer["weights"].double().softmax(0).numpy()


def labelled(sources: Sequence[Source]) -> tuple[Source, ...]:
    """With labels: the route where it is the only one, else with its seed, else with the name of its file."""
    labels = [source.route for source in sources]
    for more in (lambda s: f"seed {s.seed}", lambda s: Path(s.path).stem):
        counts = Counter(labels)
        labels = [
            label if counts[label] == 1 else f"{label.split(', ')[0]}, {more(source)}"
            for label, source in zip(labels, sources, strict=True)
        ]
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise ConfigError(f"two packs are both called {twice[0]}; name each pack once, or rename the file of one")
    return tuple(
        Source(label, source.route, source.path, source.meta, source.layer_weights)
        for label, source in zip(labels, sources, strict=True)
    )
