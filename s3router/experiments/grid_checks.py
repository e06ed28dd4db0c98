"""Checks of a grid file: all problems are found at once, each with its place."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from s3router.experiments.figures import KNOWN
from s3router.tuners.methods import METHODS, methods_for

KINDS = ("asr", "seq2seq", "task", "command")
SPARSE = frozenset(name for name, method in METHODS.items() if method.masks)
"""Methods of the training commands that take a sparsity."""
METHOD_WORDS = ("title", "method", "sparse")
"""Entries of a method that are not options of training."""
EACH = "each"
SEARCHES = ("in turn", "all")

_REQUIRED = ("kind", "upstream", "select", "seeds", "methods", "cells")
_OPTIONAL = {
    "": (
        *("cwd", "upstream_ckpt", "axes", "train", "repeat", "sweep", "prepare", "runs", "results", "report", "notes"),
        *("table", "local", "jobs", "gpus", "slurm", "env", "routes"),
    ),
    "asr": ("data", "feature_cache", "union"),
    "seq2seq": ("data", "language", "text_language"),
    "task": ("data", "task", "feature_cache", "fold"),
    "command": ("command", "experiment"),
}
_NEEDED = {"asr": ("data",), "seq2seq": ("data",), "task": ("data", "task"), "command": ("command", "experiment")}
_DATA = {
    "asr": ("train", "dev", "test", "tokens"),
    "task": ("train", "dev", "test"),
    "seq2seq": ("train", "dev", "test"),
}
_CELL = ("methods", "sparsities", "options", "variant", "variants", "seeds", "longer", "best")


def listed(value: Any) -> list[Any]:
    """A list as it is, anything else as the one element of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def axes_of(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """axis -> value -> title, all of them text."""
    return {
        str(axis): {str(value): title for value, title in values.items()}
        if isinstance(values, dict)
        else {str(value): str(value) for value in listed(values)}
        for axis, values in (raw.get("axes") or {}).items()
    }


def sparse_methods(raw: Mapping[str, Any]) -> frozenset[str]:
    """The methods that come at several sparsities."""
    own = {name: entry or {} for name, entry in raw["methods"].items()}
    return frozenset(name for name, entry in own.items() if entry.get("sparse", entry.get("method", name) in SPARSE))


def problems(raw: Mapping[str, Any]) -> Iterator[str]:
    """All problems of a grid's content."""
    kind = raw.get("kind")
    if kind not in KINDS:
        yield f"kind {kind!r} is none of {', '.join(KINDS)}" if kind else f"kind is missing ({', '.join(KINDS)})"
        return
    required, known = (*_REQUIRED, *_NEEDED[kind]), (*_REQUIRED, *_OPTIONAL[""], *_OPTIONAL[kind])
    yield from (f"{name} is missing" for name in required if name not in raw)
    yield from (f"unknown entry {name} (known: {', '.join(known)})" for name in raw if name not in known)
    if any(name not in raw for name in required):
        return
    wrong = list(_types(raw))
    yield from wrong
    if wrong:
        return
    if raw["select"] not in KNOWN:
        yield f"select {raw['select']!r} is none of {', '.join(KNOWN)}"
    if not raw["seeds"]:
        yield "seeds is empty"
    yield from _methods(raw)
    yield from (f"data: {name} is missing" for name in _DATA.get(kind, ()) if name not in raw["data"])
    yield from _places(raw)
    yield from _commands(raw)
    yield from _table(raw)


def _commands(raw: Mapping[str, Any]) -> Iterator[str]:
    for name in ("prepare", "command"):
        try:
            if name in raw and not (isinstance(raw[name], str) and shlex.split(raw[name])):
                yield f"{name} must be a line of words, found {raw[name]!r}"
        except ValueError as error:
            yield f"{name}: {error} in {raw[name]!r}"
    if raw["kind"] == "command" and "folder" not in raw["experiment"]:
        yield "experiment: folder is missing: where does the command leave its model and figures?"


def _table(raw: Mapping[str, Any]) -> Iterator[str]:
    table = raw.get("table") or {}
    known = ("summary", "differences", "average", "against")
    yield from (f"table: unknown entry {name} (known: {', '.join(known)})" for name in table if name not in known)
    pairs = listed(table.get("differences", []))
    yield from (f"table: differences: {p!r} is no pair of methods" for p in pairs if len(listed(p)) != 2)
    named = [
        *listed(table.get("summary", [])),
        *listed(table.get("against", [])),
        *(name for pair in pairs for name in listed(pair)),
    ]
    yield from (f"table: {name!r} is not under methods" for name in dict.fromkeys(named) if name not in raw["methods"])
    if "average" in table and table["average"] not in (raw.get("axes") or {}):
        yield f"table: average {table['average']!r} is not under axes"


def _types(raw: Mapping[str, Any]) -> Iterator[str]:
    wanted = {"seeds": list, "cells": list, "methods": dict, "data": dict, "sweep": dict, "axes": dict, "train": dict}
    for name, kind in {
        **wanted,
        "table": dict,
        "experiment": dict,
        "env": dict,
        "local": dict,
        "slurm": dict,
        "union": dict,
    }.items():
        if raw.get(name) is not None and not isinstance(raw[name], kind):
            yield f"{name} must be a {'list' if kind is list else 'mapping'}, found {raw[name]!r}"
    if raw.get("repeat", "all") != "all" and not isinstance(raw["repeat"], list | dict):
        yield f"repeat must be a list of methods, a mapping of methods to sparsities, or all; found {raw['repeat']!r}"
    if isinstance(raw["seeds"], list):
        yield from (f"seeds: {seed!r} is not a whole number" for seed in raw["seeds"] if type(seed) is not int)
    if isinstance(raw["cells"], list):
        yield from (f"cell {n} must be a mapping" for n, c in enumerate(raw["cells"], 1) if not isinstance(c, dict))
    if isinstance(raw["methods"], dict):
        for name, own in raw["methods"].items():
            if own is not None and not isinstance(own, dict):
                yield f"methods: {name} must be a mapping of options, found {own!r}"


def _methods(raw: Mapping[str, Any]) -> Iterator[str]:
    known = methods_for(whole=raw["kind"] == "seq2seq")

    swept = False
    for name, own in raw["methods"].items():
        base = (own or {}).get("method", name)
        if raw["kind"] != "command" and base not in known:
            yield f"unknown method {base!r} (known: {', '.join(known)}); a name of its own needs method: one of these"
        options = {**(raw.get("train") or {}), **(own or {})}
        lists = {option: value for option, value in options.items() if isinstance(value, list)}
        yield from (f"methods: {name}: the sweep of {option} is empty" for option, value in lists.items() if not value)
        swept = swept or bool(lists)
    if swept and raw.get("sweep") is None:
        yield "sweep is missing: where are the values of the lists under methods tried?"
    if isinstance(raw.get("repeat"), list | dict):
        yield from (f"repeat: {name!r} is not under methods" for name in raw["repeat"] if name not in raw["methods"])


def _places(raw: Mapping[str, Any]) -> Iterator[str]:
    axes, sparse = axes_of(raw), sparse_methods(raw)
    for number, cell in enumerate(raw["cells"], 1):
        where = f"cell {number}"
        yield from (f"{where}: unknown entry {name}" for name in cell if name not in (*_CELL, *axes))
        yield from (f"{where}: {name} is missing" for name in (*axes, "methods") if name not in cell)
        yield from _values(where, cell, axes)
        methods = listed(cell.get("methods", []))
        yield from (f"{where}: method {m!r} is not under methods" for m in methods if m not in raw["methods"])
        if sparse & set(methods) and not cell.get("sparsities"):
            yield f"{where}: {', '.join(sorted(sparse & set(methods)))} needs sparsities"
        yield from _sparsities(where, listed(cell.get("sparsities", [])))
        for seed in listed(cell.get("seeds", [])):
            if type(seed) is not int:
                yield f"{where}: seeds: {seed!r} is not a whole number"
        if cell.get("options") and not cell.get("variant"):
            yield f"{where}: a cell with options needs a variant, the name under which the table shows it"
        yield from _best(where, cell, raw["cells"], axes)
        if cell.get("variants") and (cell.get("options") or cell.get("variant")):
            yield f"{where}: variants go with neither options nor variant"
    if isinstance(raw.get("repeat"), dict):
        yield from _sparsities("repeat", [value for value in raw["repeat"].values() if value is not None])
    sweep = raw.get("sweep")
    if sweep is not None:
        allowed = (*axes, "sparsity", "search")
        yield from (
            f"sweep: unknown entry {name} (known: {', '.join(allowed)})" for name in sweep if name not in allowed
        )
        yield from (f"sweep: {name} is missing" for name in axes if name not in sweep)
        yield from _values("sweep", {name: value for name, value in sweep.items() if value != EACH}, axes)
        if sparse and "sparsity" not in sweep:
            yield "sweep: sparsity is missing"
        yield from _sparsities("sweep", [sweep.get("sparsity", 0.0)])
        if sweep.get("search", SEARCHES[0]) not in SEARCHES:
            yield f"sweep: search {sweep['search']!r} is none of {', '.join(SEARCHES)}"


def _best(
    where: str, cell: Mapping[str, Any], cells: list[Mapping[str, Any]], axes: Mapping[str, Mapping]
) -> Iterator[str]:
    if "best" not in cell:
        return
    best = cell["best"]
    if not isinstance(best, dict) or best.keys() != {"methods", "of"} or type(best["methods"]) is not int:
        yield f"{where}: best must be like {{methods: 3, of: VARIANT}}, found {best!r}"
        return
    if best["methods"] < 1:
        yield f"{where}: best: methods must be at least 1, found {best['methods']}"
    sources = [c for c in cells if best["of"] in (c.get("variants") or {c.get("variant"): None})]
    here = set(itertools.product(*(map(str, listed(cell.get(axis, []))) for axis in axes)))
    there = {at for c in sources for at in itertools.product(*(map(str, listed(c.get(axis, []))) for axis in axes))}
    if not here <= there:
        yield f"{where}: best: variant {best['of']!r} has no cell at the same place"
        return
    known = {method for c in sources for method in listed(c.get("methods", []))}
    yield from (f"{where}: best: {m!r} is not in {best['of']!r}" for m in listed(cell["methods"]) if m not in known)


def _values(where: str, entry: Mapping[str, Any], axes: Mapping[str, Mapping]) -> Iterator[str]:
    for axis, value in [(name, each) for name in axes for each in listed(entry.get(name, []))]:
        if isinstance(value, bool) or value is None:  # the language no (Norwegian) is a truth value to YAML
            yield f"{where}: {axis}: YAML makes {value} of a word such as no, yes or null: put it in quotes"
        elif str(value) not in axes[axis]:
            yield f"{where}: {axis} {str(value)!r} is not under axes ({', '.join(axes[axis])})"


def _sparsities(where: str, values: list[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            yield f"{where}: sparsity {value} is not in [0, 1)"
