"""A grid of many masks on one backbone, from its ``routes`` section: single models, and joint ones to compare with.

``routes`` names an axis and its values (languages, say). Each of them gets weight finetuning, and masks at the sparsity
that dev picks; the joint models train on the data of all together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.experiments.grid_checks import axes_of, listed, sparse_methods

SINGLE = ("weight", "router")
JOINT = ("weight", "frozen", "router_p")
"""``router_p``: a joint model that is pruned, for a smaller backbone."""
UPDATES = ("all", "one")
LONGEST_NAME = 100
"""Of a folder for all values together."""
_ENTRIES = (
    "axis",
    "values",
    "at",
    "sparsities",
    "seed",
    "single",
    "joint",
    "joint_updates",
    "work",
    "measured",
    "kept",
    "command",
)


@dataclass(frozen=True)
class Routes:
    """The section, read and checked.

    Attributes:
        axis: which axis the routes are values of; `at` holds the other axes.
        sparsities: the candidates of which dev picks one; empty: those of the base's cells.
        single: the methods of the single models.
        joint: what trains in the joint models.
        joint_updates: ``all``: as many as the single models of a method together; ``one``: as many as one of them.
        work: folder of packs, routed transcripts and links to models.
        measured: file of what was measured on the finished models.
        kept: a page of measurements whose files were not kept; shown where `measured` is missing.
        command: what to call in messages.
    """

    axis: str
    values: tuple[str, ...]
    at: Mapping[str, str]
    sparsities: tuple[float, ...]
    seed: int
    single: tuple[str, ...]
    joint: tuple[str, ...]
    joint_updates: str
    work: Path
    measured: Path
    kept: Path | None
    command: str

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Routes:
        """Of a grid's content. Raises ConfigError with all that is wrong."""
        routes = raw.get("routes")
        problems = list(_problems(routes, raw))
        if problems:
            raise ConfigError("; ".join(problems))
        kept = routes.get("kept")
        return cls(
            axis=routes["axis"],
            values=tuple(map(str, routes["values"])),
            at={axis: str(value) for axis, value in (routes.get("at") or {}).items()},
            sparsities=tuple(map(float, listed(routes.get("sparsities") or []))),
            seed=routes.get("seed", 0),
            single=tuple(listed(routes.get("single", SINGLE))),
            joint=tuple(listed(routes.get("joint") or [])),
            joint_updates=routes.get("joint_updates", "all"),
            work=Path(routes.get("work", "exp/routes")),
            measured=Path(routes.get("measured", "results/routes/measured.json")),
            kept=None if kept is None else Path(kept),
            command=routes.get("command", "s3router experiment run"),
        )

    @property
    def joint_value(self) -> str:
        """The value of the axis that stands for all of them together, a folder of ``data`` and ``dump``."""
        name = "-".join(self.values)
        if len(name) <= LONGEST_NAME:
            return name
        return f"{self.values[0]}-and-{len(self.values) - 1}-more-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _problems(routes: Any, raw: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(routes, dict):
        yield f"routes must be a mapping, found {routes!r}"
        return
    yield from (f"routes: unknown entry {n} (known: {', '.join(_ENTRIES)})" for n in routes if n not in _ENTRIES)
    axes = list(raw.get("axes") or {})
    if routes.get("axis") not in axes:
        yield f"routes: axis {routes.get('axis')!r} is not under axes ({', '.join(axes)})"
    values = routes.get("values")
    if not isinstance(values, list) or not values or len(set(map(str, values))) < len(values):
        yield f"routes: values must be a list of different ones, found {values!r}"
    elif unknown := [str(value) for value in values if str(value) not in axes_of(raw).get(str(routes.get("axis")), {})]:
        yield f"routes: {routes.get('axis')} {', '.join(unknown)} not under axes"
    elif len(values) == 1 and routes.get("joint"):
        yield "routes: joint models need several values; leave joint empty"
    for name in ("work", "measured", "kept", "command"):
        if not isinstance(routes.get(name, ""), str):
            yield f"routes: {name} must be text, found {routes[name]!r}"
    others, at = [axis for axis in axes if axis != routes.get("axis")], routes.get("at") or {}
    if not isinstance(at, dict):
        yield f"routes: at must be a mapping (axis: value), found {at!r}"
        at = dict.fromkeys(others)
    yield from (f"routes: at: {axis} is missing" for axis in others if axis not in at)
    for entry, known in (("single", SINGLE), ("joint", JOINT)):
        for method in listed(routes.get(entry) or []):
            if method not in known:
                yield f"routes: {entry}: {method!r} is none of {', '.join(known)}"
    for value in listed(routes.get("sparsities") or []):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            yield f"routes: sparsities: {value!r} is no number from 0 up to 1"
    if routes.get("joint_updates", "all") not in UPDATES:
        yield f"routes: joint_updates {routes['joint_updates']!r} is none of {', '.join(UPDATES)}"
    if type(routes.get("seed", 0)) is not int:
        yield f"routes: seed {routes['seed']!r} is not a whole number"


def expand(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A grid's content with the cells that its ``routes`` ask for, in place of those of its base.

    Raises:
        ConfigError: something is wrong with the section, or there are no sparsities for a route.
    """
    try:
        routes = Routes.of(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    lacking = [value for value in routes.values if not candidates(routes, raw, value)]
    if lacking:
        raise ConfigError(
            f"{path}: no cell for {', '.join(lacking)} at {', '.join(routes.at.values())}, so no sparsities to pick "
            "from; name some under routes: sparsities"
        )
    shared = {**routes.at, "seeds": [routes.seed]}
    cells: list[dict[str, Any]] = [
        {routes.axis: value, **shared, "methods": list(routes.single), "sparsities": candidates(routes, raw, value)}
        for value in routes.values
        if routes.single
    ]
    times = len(routes.values) if routes.joint_updates == "all" else 1
    for method in routes.joint:
        cell = {routes.axis: routes.joint_value, **shared, "methods": [method]}
        cell |= {"sparsities": list(routes.sparsities)} if method in sparse_methods(raw) else {}
        cells.append({**cell, "longer": times, "variant": f"x{times}"} if times > 1 else cell)
    axes = axes_of(raw)
    axes[routes.axis][routes.joint_value] = "all together"
    union = {routes.axis: {routes.joint_value: list(routes.values)}}
    return {**raw, "axes": axes, "union": union, "repeat": [], "cells": cells}


def candidates(routes: Routes, raw: Mapping[str, Any], value: str) -> list[float]:
    """The sparsities of which dev picks one, in the base's order."""
    if routes.sparsities:
        return list(routes.sparsities)
    found: dict[float, None] = {}
    wanted = {**routes.at, routes.axis: value}
    for cell in raw.get("cells") or []:
        here = all(text in map(str, listed(cell.get(axis, []))) for axis, text in wanted.items())
        if here and not cell.get("variant"):
            found |= dict.fromkeys(map(float, cell.get("sparsities", ())))
    return list(found)
