"""A grid of runs in one YAML file: read, checked, and turned into cells and runs.

A run is one training with its evaluation. It is known by a hash of all that decides its outcome (`Run.key`), so that
results of another upstream, learning rate or number of updates never stand in for it. ``docs/experiments.md`` describes
the file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.experiments import grid_checks
from s3router.experiments.figures import Figure, figures_of
from s3router.experiments.grid_checks import EACH, SPARSE, axes_of, listed
from s3router.experiments.routes_grid import expand
from s3router.experiments.upstream_files import recorded_id, upstream_files, upstream_id
from s3router.files import read_yaml

Pairs = tuple[tuple[str, Any], ...]

LONGER = ("max_updates", "valid_interval")
"""Options that `Cell.longer` multiplies: more updates, as many validations."""
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|(?=\.\d))(\.\d*)?([eE][-+]?\d+)?")
"""No words such as ``nan``, and no names such as ``007``."""


@dataclass(frozen=True)
class Run:
    """One training run with its evaluation.

    Attributes:
        at: axis -> value, in the grid's order.
        method: its name in the grid; `base` is what the training command calls it.
        options: options of the training command that decide the outcome, learning rates included; sorted pairs.
        upstream_id: hash of the upstream's files.
        variant: name of a cell with options of its own, "" for the plain ones.
        what: what else decides the outcome: the task, or the command.
    """

    at: Pairs
    method: str
    sparsity: float | None
    seed: int
    upstream: str
    upstream_id: str
    options: Pairs = field(hash=False)  # values may be mappings
    variant: str = ""
    what: tuple[str, ...] = ()
    base: str = ""

    @property
    def key(self) -> str:
        """Hash of what decides the outcome, by which result files are known.

        It has neither `base`, which results are compared with where they are read (`Known.done`), nor the paths of the
        data, which may move: another corpus needs another folder of results.
        """
        content = [*self.what, *(value for _, value in self.at), self.method, self.sparsity, self.seed]
        content += [self.upstream, self.upstream_id, self.options]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """Name of the run's folder, to be read by people; the key makes it unique."""
        parts = [*(value for _, value in self.at), self.upstream, self.method]
        parts += [self.variant] if self.variant else []
        parts += [f"s{self.sparsity:.2f}"] if self.sparsity is not None else []
        return "_".join([*parts, f"seed{self.seed}", self.key])

    @property
    def updates(self) -> int | None:
        """Optimizer steps, where the grid says how many."""
        found = dict(self.options).get("max_updates")
        return None if found is None else int(found)

    def values(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Some of the options."""
        return {name: value for name, value in self.options if name in names}


@dataclass(frozen=True)
class Cell:
    """A block of the table: one place on the axes, one variant; its methods in order, some at several sparsities.

    Attributes:
        sparse: the methods that come at several sparsities.
        longer: how many times as many updates as the method has elsewhere.
        best: how many of the methods are run, those that came out best in the variant `best_of`; 0: all.
        seeds: in place of the grid's; empty: the grid's.
    """

    at: Pairs
    methods: tuple[str, ...]
    sparsities: tuple[float, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    seeds: tuple[int, ...] = ()
    sparse: frozenset[str] = SPARSE
    longer: int = 1
    best: int = 0
    best_of: str = ""

    @property
    def rows(self) -> list[tuple[str, float | None]]:
        """(method, sparsity) in order."""
        return [
            (method, sparsity)
            for method in self.methods
            for sparsity in (self.sparsities if method in self.sparse else (None,))
        ]


@dataclass(frozen=True)
class Overrides:
    """What a call of the command puts in place of what the file says.

    Attributes:
        max_updates: of every run: a trial, whose runs and results are kept apart.
        entries: entries of the file, such as {"upstream": "hubert_base"}.
    """

    max_updates: int | None = None
    seeds: tuple[int, ...] = ()
    entries: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> list[str]:
        """The options of the command that lead here."""
        words = [] if self.max_updates is None else ["--max-updates", str(self.max_updates)]
        for name, value in self.entries.items():
            words += ["--set", f"{name}={json.dumps(value)}"]
        return words


@dataclass(frozen=True)
class Grid:
    """A grid file, read and checked.

    Attributes:
        path: the file, absolute.
        typed: the file as the user named it, for messages.
        folder: where its runs are made; all relative paths in it start there.
        raw: the whole content, for what only one kind of run needs.
        upstream_id: hash of the upstream's files; where they are missing, what the result files name.
        search: ``in turn`` or ``all``: how several learning rates of a method are swept.
        repeat: the methods that are run with all seeds (at the sparsities of repeat_at), or None: every row is.
        repeat_at: those sparsities, by method; of those that are not named it is the one that dev picks.
    """

    path: Path
    typed: Path
    folder: Path
    kind: str
    raw: Mapping[str, Any]
    upstream: str
    upstream_ckpt: str | None
    upstream_id: str
    select: str
    seeds: tuple[int, ...]
    repeat: tuple[str, ...] | None
    repeat_at: Mapping[str, tuple[float, ...]]
    methods: Mapping[str, Mapping[str, Any]]
    bases: Mapping[str, str]
    titles: Mapping[str, str]
    sweep_at: Mapping[str, Any]
    search: str
    cells: tuple[Cell, ...]
    what: tuple[str, ...] = ()
    overrides: Overrides = Overrides()

    @classmethod
    def read(cls, path: Path, overrides: Overrides = Overrides()) -> Grid:
        """Read a grid file.

        Raises:
            ConfigError: every problem found, in one message.
            OSError: the file, or one that it names, cannot be read.
        """
        path = Path(path)
        raw = {**read_with_base(path), **overrides.entries}
        folder = (path.parent / str(raw.get("cwd", "."))).resolve()
        problems = list(grid_checks.seeds("--seeds", overrides.seeds))
        if "routes" in raw:
            problems += grid_checks.types(raw) if raw.get("methods") else ["methods is missing"]
            raw = raw if problems else expand(raw, path)
        problems += [] if "routes" in raw and problems else grid_checks.problems(raw)
        if problems:
            raise ConfigError(f"{path}: " + "; ".join(problems))
        methods = {name: method_options(raw, name, folder) for name in raw["methods"]}
        if overrides.max_updates is not None:
            methods = {name: {**options, "max_updates": overrides.max_updates} for name, options in methods.items()}
        if problems := list(_without_updates(raw["kind"], methods, cells_of(raw))):
            raise ConfigError(f"{path}: " + "; ".join(problems))
        sweep = dict(raw.get("sweep") or {})
        repeat, ckpt = raw.get("repeat", []), raw.get("upstream_ckpt")
        what = {
            "asr": (),
            "seq2seq": ("language", str(raw.get("language"))),
            "task": ("task", str(raw.get("task"))),
            "command": ("command", str(raw.get("command"))),
        }
        return cls(
            path=path.resolve(),
            typed=path,
            folder=folder,
            kind=raw["kind"],
            raw=raw,
            upstream=raw["upstream"],
            upstream_ckpt=ckpt,
            upstream_id=_upstream_id(raw["upstream"], ckpt, folder, results_of(raw, overrides)),
            select=raw["select"],
            seeds=overrides.seeds or tuple(raw["seeds"]),
            repeat=None if repeat == "all" else tuple(repeat),
            repeat_at={m: tuple(listed(at)) for m, at in repeat.items() if at is not None}
            if isinstance(repeat, Mapping)
            else {},
            methods=methods,
            bases={name: (raw["methods"][name] or {}).get("method", name) for name in methods},
            titles={name: raw["methods"][name]["title"] for name in methods if "title" in (raw["methods"][name] or {})},
            sweep_at=sweep,
            search=sweep.pop("search", "in turn"),
            cells=tuple(replace(cell, seeds=overrides.seeds or cell.seeds) for cell in cells_of(raw)),
            what=what[raw["kind"]],
            overrides=overrides,
        )

    @property
    def axes(self) -> Mapping[str, Mapping[str, Any]]:
        """axis -> its values and what they are called."""
        return axes_of(self.raw)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What the table shows; the one that selects is among them."""
        return figures_of(self.select)

    @property
    def figure(self) -> Figure:
        """What selects, on dev."""
        return next(figure for figure in self.figures if figure.name == self.select)

    @property
    def tests(self) -> tuple[str, ...]:
        """The test sets: where a result file holds their figures."""
        found = (self.raw.get("experiment") or {}).get("test", "test")
        return tuple(listed(found))

    @property
    def trial(self) -> bool:
        """Whether this is a trial on a reduced budget."""
        return self.overrides.max_updates is not None

    @property
    def runs(self) -> Path:
        """Where runs are made, relative to `folder`."""
        return Path("exp/trial/runs") if self.trial else Path(self.raw.get("runs", f"exp/{self.path.stem}"))

    @property
    def results(self) -> Path:
        """Where result files are gathered."""
        return results_of(self.raw, self.overrides)

    @property
    def report(self) -> Path:
        """The page."""
        return Path("exp/trial/RESULTS.md") if self.trial else Path(self.raw.get("report", "RESULTS.md"))

    def run(self, cell: Cell, method: str, sparsity: float | None, seed: int, options: Mapping[str, Any]) -> Run:
        """The run of a row of `cell` with these options."""
        pairs = tuple(sorted(options.items()))
        where = (self.upstream, self.upstream_id, pairs, cell.variant, self.what, self.bases[method])
        return Run(cell.at, method, sparsity, seed, *where)

    def options(self, cell: Cell, options: Mapping[str, Any]) -> dict[str, Any]:
        """A method's options with those of a cell in place of them; a trial's number of updates goes before both."""
        own = {**options, **cell.options}
        if self.overrides.max_updates is not None:
            own["max_updates"] = self.overrides.max_updates
        longer = {name: cell.longer * own[name] for name in LONGER if name in own and cell.longer > 1}
        return {**own, **longer}


def results_of(raw: Mapping[str, Any], overrides: Overrides) -> Path:
    """Where result files are gathered, relative to the grid's folder."""
    return Path("exp/trial/results" if overrides.max_updates is not None else raw.get("results", "results"))


def _without_updates(kind: str, methods: Mapping[str, Mapping[str, Any]], cells: Iterable[Cell]) -> Iterator[str]:
    for name, options in methods.items():
        if kind != "command" and not listed(options.get("max_updates", [])):
            yield f"methods: {name} has no max_updates"
    swept = {f"methods: {name}": listed(options.get("max_updates", [])) for name, options in methods.items()}
    own = {f"variant {cell.variant}": [n for k, n in cell.options.items() if k == "max_updates"] for cell in cells}
    for where, values in {**swept, **own}.items():
        for n in values:
            if type(n) is not int or n < 1:
                yield f"{where}: max_updates {n!r} is no whole number above 0"


def _upstream_id(name: str, checkpoint: str | None, folder: Path, results: Path) -> str:
    if all(file.is_file() for file in upstream_files(name, checkpoint, folder)):
        return upstream_id(name, checkpoint, folder)
    return recorded_id(folder / results)


def read_with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A mapping in a file; with ``base: FILE`` (from this file's folder) on top of that file's.

    Args:
        above: the files whose base it is.

    Raises:
        ConfigError: not YAML, or not a mapping; the file is its own base.
        OSError: no such file, or one that cannot be read.
    """
    raw, here = read_yaml(path), (*above, path.resolve())
    base = raw.pop("base", None)
    if base is None:
        return raw
    if (path.parent / str(base)).resolve() in here:
        raise ConfigError(f"{path}: base {base} comes back to a file that stands on it")
    return {**read_with_base(path.parent / str(base), here), **raw}


def method_options(raw: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """Options of a method: those of its configuration file (``config``), the shared ones, and its own.

    Raises:
        ConfigError: the configuration file is not YAML, or not a mapping.
        OSError: it cannot be read.
    """
    options = {**(raw.get("train") or {}), **(raw["methods"][name] or {})}
    for word in grid_checks.METHOD_WORDS:
        options.pop(word, None)
    config = options.pop("config", None)
    if config is not None:
        options = {**read_yaml(folder / config), **options}
    return numbers(options)


def cells_of(raw: Mapping[str, Any]) -> Iterator[Cell]:
    """All cells, an entry with several places or variants being several."""
    names = list(axes_of(raw))
    sparse = grid_checks.sparse_methods(raw)
    for entry in raw["cells"]:
        variants = entry.get("variants") or {entry.get("variant", ""): entry.get("options") or {}}
        places = [[(name, str(value)) for value in listed(entry[name])] for name in names]
        for (variant, options), *at in itertools.product(variants.items(), *places):
            yield Cell(
                at=tuple(at),
                methods=tuple(listed(entry["methods"])),
                sparsities=tuple(float(s) for s in listed(entry.get("sparsities", []))),
                options=numbers(options or {}),
                variant=str(variant),
                seeds=tuple(listed(entry.get("seeds", []))),
                sparse=sparse,
                longer=int(entry.get("longer", 1)),
                best=int((entry.get("best") or {}).get("methods", 0)),
                best_of=str((entry.get("best") or {}).get("of", "")),
            )


def numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with numbers that YAML takes for text (1e-3 without a point) as numbers; of updates, as whole ones."""

    def number(name: str, value: Any) -> Any:
        value = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        return int(value) if name in LONGER and isinstance(value, float) and value.is_integer() else value

    return {k: [number(k, x) for x in v] if isinstance(v, list) else number(k, v) for k, v in options.items()}


def place(cell: Cell, at: Mapping[str, Any]) -> Pairs:
    """Where the sweep of a cell's methods is made: `at` names a value of each axis, or ``each``, the cell's own."""
    return tuple((axis, value if at.get(axis, EACH) == EACH else str(at[axis])) for axis, value in cell.at)
