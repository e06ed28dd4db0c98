"""The JSON description in a pack's file, and its checks: strict and by hand, since a file may come from anywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from s3router.packs.adapters import settings_problem
from s3router.packs.contents import CODECS, PackMeta

_KEYS = {"route", "codec", "tokens", "masks", "masks_digest", "meta"}
_ROUTE = re.compile(r"[\w+-][\w.+-]{0,63}")
_HEX = {"masks_digest": 64, "fingerprint": 32}
MAX_SIDE = 1 << 24  # rows or columns of a weight


@dataclass(frozen=True)
class MaskEntry:
    """One mask: its weight's shape, how many weights it removes, and the codec's own settings ({} for ``bits``)."""

    shape: tuple[int, int]
    removed: int
    coding: Mapping[str, Any]

    @property
    def count(self) -> int:
        """Weights under the mask."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Description:
    """Everything in a pack but its tensors."""

    route: str
    codec: str
    tokens: tuple[str, ...] | None
    masks: dict[str, MaskEntry]
    masks_digest: str
    meta: PackMeta

    @property
    def format_version(self) -> int:
        """Of the file: packs that have nothing newer are as they were before there was any."""
        return 2 if self.meta.adapter or self.codec == "gaps" else 1


class Malformed(ValueError):
    """A description that this package would not write; the message says where."""


def to_json(description: Description) -> dict[str, Any]:
    """The mapping that is written into the file."""
    meta = {field.name: getattr(description.meta, field.name) for field in fields(PackMeta)}
    if description.format_version == 1:
        del meta["adapter"]
    meta["labels"] = None if description.meta.labels is None else list(description.meta.labels)
    entries = description.masks.items()
    return {
        "route": description.route,
        "codec": description.codec,
        "tokens": None if description.tokens is None else list(description.tokens),
        "masks": {name: {"shape": list(e.shape), "removed": e.removed, **e.coding} for name, e in entries},
        "masks_digest": description.masks_digest,
        "meta": meta,
    }


def from_json(values: Mapping[str, Any], version: int) -> Description:
    """The inverse of `to_json`.

    Args:
        version: the format that the file says it is of.

    Raises:
        Malformed: a key is missing or unknown, or a value is not of its kind.
    """
    _keys(values, _KEYS, "description")
    codec = _text(values["codec"], "codec")
    if codec not in CODECS:
        raise Malformed(f"unknown codec {codec!r} (known: {', '.join(CODECS)})")
    masks = _mapping(values["masks"], "masks")
    found = Description(
        route=check_route(values["route"]),
        codec=codec,
        tokens=_names(values["tokens"], "tokens"),
        masks={_text(name, "masks"): _entry(name, entry, codec) for name, entry in masks.items()},
        masks_digest=_hex(values["masks_digest"], "masks_digest"),
        meta=_meta(_mapping(values["meta"], "meta"), version),
    )
    if found.format_version != version:
        raise Malformed(f"its content is of format {found.format_version}, and it says {version}")
    return found


def check_route(route: Any) -> str:
    """The name of a route: letters, digits and ``_ + - .`` of any script, at most 64, no dot first; not ``auto``."""
    if not isinstance(route, str) or not _ROUTE.fullmatch(route):
        raise Malformed(f"route {str(route)[:80]!r}: a name of at most 64 letters, digits, _ + - . is needed")
    if route == "auto":
        raise Malformed("route 'auto': this name lets the recording choose its route; take another")
    return route


def _entry(name: str, values: Any, codec: str) -> MaskEntry:
    where = f"mask {name!r}"
    values = dict(_mapping(values, where))
    shape, removed = values.pop("shape", None), values.pop("removed", None)
    if not (isinstance(shape, list) and len(shape) == 2 and all(_is_whole(n, 1, MAX_SIDE) for n in shape)):
        raise Malformed(f"{where}: shape {str(shape)[:80]} is not that of a matrix")
    if not _is_whole(removed, 0, shape[0] * shape[1]):
        raise Malformed(f"{where}: {str(removed)[:80]} weights removed of {shape[0] * shape[1]}")
    if codec == "bits" and values:
        raise Malformed(f"{where}: unknown {', '.join(values)[:80]}")
    return MaskEntry((shape[0], shape[1]), removed, values)


def _meta(values: Mapping[str, Any], version: int) -> PackMeta:
    _keys(values, {field.name for field in fields(PackMeta)} - ({"adapter"} if version == 1 else set()), "meta")
    adapter = _mapping(values.get("adapter", {}), "adapter")
    if adapter and (problem := settings_problem(adapter)):
        raise Malformed(f"adapter: {problem}")
    checkpoint = values["checkpoint"]
    metrics = _mapping(values["metrics"], "metrics")
    for name, figures in metrics.items():
        if not all(_is_number(value) for value in _mapping(figures, f"metrics of {name!r}").values()):
            raise Malformed(f"metrics of {name!r}: values other than numbers")
    versions = _mapping(values["versions"], "versions")
    return PackMeta(
        backbone=_text(values["backbone"], "backbone"),
        fingerprint=_hex(values["fingerprint"], "fingerprint"),
        checkpoint=None if checkpoint is None else _text(checkpoint, "checkpoint"),
        mask=_mapping(values["mask"], "mask"),
        preprocessing=_mapping(values["preprocessing"], "preprocessing"),
        labels=_names(values["labels"], "labels"),
        corpus=_text(values["corpus"], "corpus"),
        metrics=metrics,
        training=_mapping(values["training"], "training"),
        versions={name: _text(version, "versions") for name, version in versions.items()},
        licence=_text(values["licence"], "licence"),
        date=_text(values["date"], "date"),
        adapter=adapter,
    )


def _keys(values: Mapping[str, Any], wanted: set[str], where: str) -> None:
    lacking, unknown = wanted - values.keys(), values.keys() - wanted
    if lacking or unknown:
        raise Malformed(f"{where}: lacks {sorted(lacking)}, has unknown {str(sorted(unknown))[:200]}")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{where}: expected a mapping, found {type(value).__name__}")
    return dict(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{where}: expected text, found {type(value).__name__}")
    return value


def _hex(value: Any, where: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{_HEX[where]}}}", value):
        raise Malformed(f"{where}: expected {_HEX[where]} hexadecimal digits")
    return value


def _names(value: Any, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise Malformed(f"{where}: expected a list of names")
    if len(set(value)) != len(value):
        raise Malformed(f"{where}: one occurs twice")
    if any("\n" in name for name in value):
        raise Malformed(f"{where}: a line break in a name")
    return tuple(value)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # JSON has whole numbers that no float can hold
        return False
