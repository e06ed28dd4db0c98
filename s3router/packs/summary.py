"""Figures of a pack, and pages and tables of them; its backbone is not needed."""

from __future__ import annotations

import collections
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from s3router.files import printable
from s3router.masks.targets import role_and_layer
from s3router.packs.description import Description, MaskEntry
from s3router.packs.pack_file import Parts, read_parts

_IN_DECODER = re.compile(r"(?:^|(?<=\.))decoder\.")
_PARTS = {"masks": "masks", "coded": "masks", "gaps": "masks", "flags": "masks", "bpe_model": "sentencepiece model"}


def entropy(share: float) -> float:
    """Bits per weight of a mask that removes `share` at random: −s·log2 s − (1−s)·log2(1−s)."""
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)


def figures(path: str | os.PathLike) -> dict[str, Any]:
    """Everything that is known of a pack, as plain data for JSON; its masks are not decoded.

    Raises:
        PackError: as `s3router.packs.read_pack`.
    """
    parts = read_parts(path)
    found = parts.description
    sizes = _sizes(parts)
    count = sum(entry.count for entry in found.masks.values())
    removed = sum(entry.removed for entry in found.masks.values())
    meta = asdict(found.meta)
    return {
        "file": os.fspath(path),
        "route": found.route,
        "kind": _kind(found),
        "codec": found.codec,
        "format_version": found.format_version,
        "bytes": sizes,
        "masks": {
            "tensors": len(found.masks),
            "weights": count,
            "removed": removed,
            "sparsity": removed / count if count else 0.0,
            "bits_per_weight": 8 * sizes["masks"] / count if count else 0.0,
            "plain_entropy": entropy(removed / count) if count else 0.0,
            "by_layer_and_role": _by_place(found.masks, found.meta.whole),
        },
        "tokens": None if found.tokens is None else list(found.tokens),
        **meta,
        "adapter": _adapter(parts),
    }


def page(f: Mapping[str, Any]) -> str:
    """The readable page of `figures`."""
    masks, sizes = f["masks"], f["bytes"]
    checkpoint = f" ({f['checkpoint']})" if f["checkpoint"] else ""
    lines = [
        f"{f['file']}: route {f['route']}, mask pack of format {f['format_version']}, codec {f['codec']}",
        f"for          {f['kind']}",
        f"backbone     {f['backbone']}{checkpoint}, fingerprint {f['fingerprint']}",
        f"size         {sum(sizes.values()):,} bytes: " + ", ".join(f"{k} {v:,}" for k, v in sizes.items() if v),
    ]
    if masks["weights"]:
        lines += [
            f"masks        {masks['tensors']} tensors, {masks['removed']:,} of {masks['weights']:,} weights removed "
            f"(sparsity {masks['sparsity']:.4f})",
            f"             {masks['bits_per_weight']:.4f} bits per weight; plain entropy {masks['plain_entropy']:.4f}",
        ]
    if f["adapter"]:
        named = "".join(f" ({key} {f['adapter'][key]})" for key in ("scale", "seed") if key in f["adapter"])
        lines.append(
            f"adapter      {f['adapter']['method']}{named}, {f['adapter']['tensors']} tensors of "
            f"{f['adapter']['values']:,} values, {sizes['adapter']:,} bytes"
        )
    for name, values in (("mask", f["mask"]), ("training", f["training"]), ("input", f["preprocessing"])):
        if given := {key: value for key, value in values.items() if value not in (None, [], {})}:
            lines.append(f"{name:12s} " + ", ".join(f"{key} {_brief(value)}" for key, value in given.items()))
    for name in ("corpus", "licence", "date"):
        if f[name]:
            lines.append(f"{name:12s} {f[name]}")
    if f["versions"]:
        lines.append(f"{'versions':12s} " + ", ".join(f"{name} {version}" for name, version in f["versions"].items()))
    for name, values in f["metrics"].items():
        lines.append(f"{'on ' + name:12s} " + ", ".join(f"{key} {value:.6g}" for key, value in values.items()))
    for kind in ("tokens", "labels"):
        if f[kind] is not None:
            lines.append(f"{kind:12s} {len(f[kind])}: {' '.join(f[kind])}")
    return "\n".join(map(printable, [*lines, *_place_table(masks["by_layer_and_role"])]))


def table(every: Iterable[Mapping[str, Any]]) -> str:
    """A Markdown table, one row per pack: method, sparsity, rate of the scores, bits per weight, bytes, error rates."""
    every = list(every)
    sets = list(dict.fromkeys(name for f in every for name in f["metrics"] if "wer" in f["metrics"][name]))
    head = ["pack", "route", "method", "codec", "sparsity", "score lr", "bits per weight", "plain entropy"]
    head += ["delta bytes", "adapter bytes", "bytes"]
    rows = [[*head, *(f"{name} WER %" for name in sets)], ["---"] * 4 + ["---:"] * (len(head) - 4 + len(sets))]
    for f in every:
        masks = f["masks"]
        wers = [f["metrics"].get(name, {}).get("wer") for name in sets]
        rate = f["training"].get("score_lr")
        rate = f"{rate:g}" if isinstance(rate, float) else rate if rate is None else str(rate)
        rows.append(
            [
                *(os.path.basename(f["file"]), f["route"], _method(f), f["codec"], f"{masks['sparsity']:.3f}"),
                *("–" if rate is None else rate, f"{masks['bits_per_weight']:.4f}"),
                f"{masks['plain_entropy']:.4f}",
                *(f"{size:,}" for size in (f["bytes"]["delta"], f["bytes"]["adapter"], sum(f["bytes"].values()))),
                *("–" if wer is None else f"{100.0 * wer:.2f}" for wer in wers),
            ]
        )
    return "\n".join(printable(f"| {' | '.join(row)} |") for row in rows)


def _sizes(parts: Parts) -> dict[str, int]:
    """Bytes by part. The codec's own settings, which stand in the description, count as masks."""
    sizes = dict.fromkeys(("masks", "head", "featurizer", "delta", "adapter", "sentencepiece model"), 0)
    for name, (_, array) in parts.tensors.items():
        kind = name.split(".")[0]
        sizes[_PARTS.get(kind, kind)] += array.nbytes
    codings = [entry.coding for entry in parts.description.masks.values() if entry.coding]
    settings = sum(len(json.dumps(coding, separators=(",", ":"))) for coding in codings)
    sizes["masks"] += settings
    return {**sizes, "description": parts.size - sum(sizes.values())}


def _adapter(parts: Parts) -> dict[str, Any]:
    """Method, settings, tensors and how many values they have (signs count as one each); empty without an adapter."""
    settings = dict(parts.description.meta.adapter)
    if not settings:
        return {}
    arrays = [(dtype, array) for name, (dtype, array) in parts.tensors.items() if name.startswith("adapter.")]
    values = sum(array.size * (8 if dtype == "U8" else 1) for dtype, array in arrays)
    return {**settings, "tensors": len(arrays), "values": values}


def _method(f: Mapping[str, Any]) -> str:
    """What made the pack: the adapter's method, else what training recorded."""
    found = f["adapter"].get("method") or f["training"].get("method")
    return found if isinstance(found, str) else "–"


def _kind(found: Description) -> str:
    """What the masks are for, in words."""
    if found.meta.whole:
        return "a whole recogniser, encoder and decoder; its vocabulary is the model's"
    if found.tokens is None and found.meta.labels is None:
        return "an encoder"
    return "speech recognition by CTC" if found.meta.labels is None else "classification"


def place_of(name: str, whole: bool) -> tuple[str, int | None, str]:
    """(stack, layer, role) of a masked weight.

    Args:
        name: as in packs, ``encoder.layers.0.fc1.weight``.
        whole: whether it is a whole recogniser's, whose stacks are ``encoder`` and ``decoder``; of an encoder alone the
            stack is ``""``.

    Returns:
        the layer is None outside of the layers, the role ``other`` where the name tells none.
    """
    stack = ("decoder" if _IN_DECODER.search(name) else "encoder") if whole else ""
    role, layer = role_and_layer(_IN_DECODER.sub("", name) if whole else name)
    if whole and role is None and "encoder_attn" in name:
        role = "cross-attention"
    return stack, layer, role or "other"


def _by_place(masks: Mapping[str, MaskEntry], whole: bool) -> list[dict[str, Any]]:
    """One row per layer (None: outside of the layers) with the sparsity of each role in it.

    Rows of a ``whole`` recogniser say which ``stack`` a layer is in, too.
    """
    sums: dict[tuple[str, int | None], dict[str, list[int]]] = collections.defaultdict(dict)
    for name, entry in masks.items():
        stack, layer, role = place_of(name, whole)
        cell = sums[stack, layer].setdefault(role, [0, 0])
        cell[0] += entry.removed
        cell[1] += entry.count
    order = sorted(sums, key=lambda place: (place[0] == "decoder", -1 if place[1] is None else place[1]))
    return [
        ({"stack": stack} if whole else {})
        | {"layer": layer, **{role: removed / n for role, (removed, n) in sums[stack, layer].items()}}
        for stack, layer in order
    ]


def _place_table(rows: list[dict[str, Any]]) -> list[str]:
    roles = list(dict.fromkeys(role for row in rows for role in row if role not in ("stack", "layer")))
    if not rows:
        return []
    width = max(12, *(len(role) + 2 for role in roles))
    lines = ["", "sparsity by layer  " + "".join(f"{role:>{width}s}" for role in roles)]
    for row in rows:
        name = "outside" if row["layer"] is None else f"{row['layer']}"
        name = f"{row.get('stack', '')} {name}".strip()
        cells = (f"{row[role]:{width}.4f}" if role in row else "–".rjust(width) for role in roles)
        lines.append(f"  {name:17s}" + "".join(cells))
    return lines


def _brief(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
