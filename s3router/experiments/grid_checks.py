"""Checks of a grid file: all problems are found at once, each with its place."""

from __future__ import annotations

import itertools
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
_PARTS = ("train", "dev", "test", "tokens", "classes")
"""Entries of ``data`` of all kinds: a grid may have more than it needs from its base."""
_EXPERIMENT = ("folder", "dev", "test")
_FIGURES = {"asr": ("wer", "cer", "per"), "seq2seq": ("wer", "cer")}
"""What a kind of run can be selected by, where not by all figures: those that its results have."""
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
    wrong = list(types(raw))
    yield from wrong
    if wrong:
        return
    if raw["select"] not in (figures := _FIGURES.get(kind, KNOWN)):
        yield f"select {raw['select']!r} is none of the figures of kind {kind}: {', '.join(figures)}"
    yield from (f"{name} is empty" for name in ("seeds", "methods", "cells") if not raw[name])
    yield from _methods(raw)
    yield from (f"data: {name} is missing" for name in _DATA.get(kind, ()) if name not in raw["data"])
    known = ", ".join(_PARTS)
    yield from (f"data: unknown entry {n} (known: {known})" for n in raw.get("data") or {} if n not in _PARTS)
    yield from _places(raw)
    yield from _commands(raw)
    yield from _table(raw)
    yield from _names(raw)


def _names(raw: Mapping[str, Any]) -> Iterator[str]:
    """Parts of the names of runs, which are those of folders and result files."""
    variants = [str(v) for cell in raw["cells"] for v in cell.get("variants") or [cell.get("variant", "")]]
    named = {f"axes: {axis}": list(values) for axis, values in axes_of(raw).items()}
    named |= {"upstream": [raw["upstream"]], "methods": list(map(str, raw["methods"])), "variant": variants}
    for where, names in named.items():
        wrong = [name for name in dict.fromkeys(names) if "/" in name]
        yield from (f"{where}: {name!r} has a / in it, and becomes a part of a file's name" for name in wrong)


def _commands(raw: Mapping[str, Any]) -> Iterator[str]:
    for name in ("prepare", "command"):
        try:
            if name in raw and not (isinstance(raw[name], str) and shlex.split(raw[name])):
                yield f"{name} must be a line of words, found {raw[name]!r}"
        except ValueError as error:
            yield f"{name}: {error} in {raw[name]!r}"
    if raw["kind"] != "command":
        return
    where = raw["experiment"]
    if "folder" not in where:
        yield "experiment: folder is missing: where does the command leave its model and figures?"
    known = ", ".join(_EXPERIMENT)
    yield from (f"experiment: unknown entry {name} (known: {known})" for name in where if name not in _EXPERIMENT)
    for name in (name for name in _EXPERIMENT if name in where):
        texts = listed(where[name]) if name == "test" else [where[name]]
        if not texts or not all(isinstance(text, str) for text in texts):
            yield f"experiment: {name} must be text{' or a list of it' * (name == 'test')}, found {where[name]!r}"


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
    unknown = [repr(name) for name in named if not isinstance(name, str) or name not in raw["methods"]]
    yield from (f"table: {name} is not under methods" for name in dict.fromkeys(unknown))
    if "average" in table and str(table["average"]) not in axes_of(raw):
        yield f"table: average {table['average']!r} is not under axes"


_MAPPINGS = ("methods", "data", "sweep", "axes", "train", "table", "experiment", "env", "local", "slurm", "union")
_NOT_EMPTY = ("methods", "cells", "data", "experiment", "table", "upstream", "runs", "results", "report", "notes")
_TEXTS = ("upstream", "upstream_ckpt", "runs", "results", "report", "notes")


def types(raw: Mapping[str, Any]) -> Iterator[str]:
    """Entries that are not even of the right type; what else is wrong can be looked for only without them."""
    for name in (*_MAPPINGS, "seeds", "cells"):
        kind = dict if name in _MAPPINGS else list
        if raw.get(name) is not None and not isinstance(raw[name], kind):
            yield f"{name} must be a {'list' if kind is list else 'mapping'}, found {raw[name]!r}"
    yield from (f"{name} is empty" for name in _NOT_EMPTY if name in raw and raw[name] is None)
    for name in _TEXTS:
        if raw.get(name) is not None and not isinstance(raw[name], str):
            yield f"{name} must be text, found {raw[name]!r}"
    if raw.get("repeat", "all") != "all" and not isinstance(raw["repeat"], list | dict):
        yield f"repeat must be a list of methods, a mapping of methods to sparsities, or all; found {raw['repeat']!r}"
    elif isinstance(raw.get("repeat"), list):
        yield from (f"repeat: {name!r} is no name of a method" for name in raw["repeat"] if not isinstance(name, str))
    if "seeds" in raw and not isinstance(raw["seeds"], list):
        if raw["seeds"] is None:
            yield "seeds is empty"
    else:
        yield from seeds("seeds", raw.get("seeds") or [])
    yield from _plain("train", raw.get("train"))
    yield from _plain("local", raw.get("local"))
    if isinstance(raw.get("union"), dict):
        for axis, found in raw["union"].items():
            if not isinstance(found, dict) or not all(isinstance(values, list) for values in found.values()):
                yield f"union: {axis} must be a mapping of values to lists of others, found {found!r}"
    if raw.get("kind") in ("asr", "seq2seq"):
        yield from _mask_types(raw)
    if isinstance(raw.get("data"), dict):
        for name, value in raw["data"].items():
            if not isinstance(value, str | dict):
                yield f"data: {name} must be a path, or a mapping of an axis's values to paths; found {value!r}"
    if isinstance(raw.get("methods"), dict):
        for name, own in raw["methods"].items():
            yield from _method_types(f"methods: {name}", own)
    if isinstance(raw.get("cells"), list):
        for number, cell in enumerate(raw["cells"], 1):
            yield from _cell_types(f"cell {number}", cell)


def _mask_types(raw: Mapping[str, Any]) -> Iterator[str]:
    """Fields of masks are a mapping, or in a sweep several: result files name the targets in it."""
    methods, cells = raw.get("methods"), raw.get("cells")
    own = [(f"methods: {name}", options) for name, options in methods.items()] if isinstance(methods, dict) else []
    for number, cell in enumerate(cells, 1) if isinstance(cells, list) else ():
        if isinstance(cell, dict):
            variants = cell.get("variants")
            found = [cell.get("options"), *(variants.values() if isinstance(variants, dict) else ())]
            own += [(f"cell {number}", options) for options in found]
    for where, options in (("train", raw.get("train")), *own):
        for value in listed(options.get("mask_conf") or {}) if isinstance(options, dict) else ():
            if not isinstance(value, dict):
                yield f"{where}: mask_conf must be a mapping such as {{targets: [ffn]}}, found {value!r}"


def seeds(where: str, values: Iterable[Any]) -> Iterator[str]:
    """What is wrong with a list of seeds; one that stands twice would count its run twice."""
    whole = [seed for seed in values if type(seed) is int]
    yield from (f"{where}: {seed!r} is not a whole number" for seed in values if type(seed) is not int)
    yield from (f"{where}: {seed} stands there twice" for seed, count in Counter(whole).items() if count > 1)


def _method_types(where: str, own: Any) -> Iterator[str]:
    if own is not None and not isinstance(own, dict):
        yield f"{where} must be a mapping of options, found {own!r}"
        return
    for name in ("method", "title", "config"):
        if not isinstance((own or {}).get(name, ""), str):
            yield f"{where}: {name} must be text, found {own[name]!r}"
    yield from _plain(where, own)


def _cell_types(where: str, cell: Any) -> Iterator[str]:
    if not isinstance(cell, dict):
        yield f"{where} must be a mapping, found {cell!r}"
        return
    names = listed(cell.get("methods", []))
    if not all(isinstance(name, str) for name in names):
        yield f"{where}: methods must be names of methods, found {names!r}"
    variant = cell.get("variant", "")
    if not isinstance(variant, str | int | float):
        yield f"{where}: variant must be a name, found {variant!r}"
    longer = cell.get("longer", 1)
    if type(longer) is not int or longer < 1:
        yield f"{where}: longer must be a whole number of at least 1, found {longer!r}"
    variants = cell.get("variants")
    if variants is not None and not isinstance(variants, dict):
        yield f"{where}: variants must be a mapping (name: options), found {variants!r}"
        variants = None
    for place, options in (
        (f"{where}: options", cell.get("options")),
        *((f"{where}: variants: {name}", found) for name, found in (variants or {}).items()),
    ):
        if options is not None and not isinstance(options, dict):
            yield f"{place} must be a mapping of options, found {options!r}"
        else:
            yield from _plain(place, options)


def _plain(where: str, options: Mapping[str, Any] | None) -> Iterator[str]:
    """Options are words of a command, and part of a run's key."""
    for name, value in options.items() if isinstance(options, dict) else ():
        if not isinstance(name, str):
            yield f"{where}: {name!r} is no name of an option"
        try:
            json.dumps(value, sort_keys=True)
        except TypeError:
            yield f"{where}: {name}: YAML makes {value!r} of it, which is no option: put it in quotes"


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
        if "methods" in cell and not methods:
            yield f"{where}: methods is empty"
        yield from (f"{where}: method {m!r} is not under methods" for m in methods if m not in raw["methods"])
        if sparse & set(methods) and not cell.get("sparsities"):
            yield f"{where}: {', '.join(sorted(sparse & set(methods)))} needs sparsities"
        yield from _sparsities(where, listed(cell.get("sparsities", [])))
        yield from seeds(f"{where}: seeds", listed(cell.get("seeds", [])))
        if cell.get("options") and not cell.get("variant"):
            yield f"{where}: a cell with options needs a variant, the name under which the table shows it"
        yield from _best(where, cell, raw["cells"], axes)
        if cell.get("variants") and (cell.get("options") or cell.get("variant")):
            yield f"{where}: variants go with neither options nor variant"
    if isinstance(raw.get("repeat"), dict):
        yield from _repeat_at(raw, sparse)
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


def _repeat_at(raw: Mapping[str, Any], sparse: frozenset[str]) -> Iterator[str]:
    given = [(name, value) for name, at in raw["repeat"].items() if at is not None for value in listed(at)]
    wrong = list(_sparsities("repeat", [value for _, value in given]))
    yield from wrong
    for name, value in given if not wrong else ():
        here = [cell for cell in raw["cells"] if name in sparse & set(listed(cell.get("methods", [])))]
        if name in raw["methods"] and not any(value in listed(cell.get("sparsities", [])) for cell in here):
            yield f"repeat: no cell has {name} at sparsity {value}"


def _best(
    where: str, cell: Mapping[str, Any], cells: list[Mapping[str, Any]], axes: Mapping[str, Mapping]
) -> Iterator[str]:
    if "best" not in cell:
        return
    best = cell["best"]
    if not isinstance(best, dict) or best.keys() != {"methods", "of"} or not _count_of(best):
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


def _count_of(best: Mapping[str, Any]) -> bool:
    return type(best["methods"]) is int and isinstance(best["of"], str)


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
