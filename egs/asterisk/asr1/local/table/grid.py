"""The grid of the results table: its runs, their order, and what earlier results decide about later runs.

Everything here is a function of the grid file and the result files, so that a table that was killed goes on where it
was, and the report finds the runs it needs. A run is known by a hash of all that decides its outcome (`Run.key`):
results of another upstream, learning rate or number of updates never stand in for it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from s3router.errors import ConfigError, DataError

METHODS = ("frozen", "weight", "router", "scratch")
RATES = ("weight_lr", "score_lr", "head_lr")
METRICS = ("cer", "wer")
FAILED = "failed.txt"


@dataclass(frozen=True)
class Known:
    """What is known of runs: key -> content of the result file, and the keys of those that failed."""

    results: Mapping[str, dict]
    failed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, folder: Path) -> Known:
        """All result files of a folder, and the list of failed runs among them.

        Raises:
            DataError: a file is not a result file; it is named.
        """
        results = {}
        for path in sorted(folder.glob("*.json")):
            try:
                result = json.loads(path.read_text(encoding="utf-8"))
                result["dev"]["cer"], result["test"]["utts"], result["seconds"]
                results[result["key"]] = result
            except (json.JSONDecodeError, KeyError, TypeError) as err:
                raise DataError(
                    f"{path}: not a result file ({err!r}); delete it, run_table.sh makes it again"
                ) from None
        file = folder / FAILED
        lines = file.read_text(encoding="utf-8").split() if file.is_file() else []
        return cls(results, frozenset(name.rsplit("_", 1)[-1] for name in lines) - results.keys())

    def done(self, run: Run) -> bool:
        return run.key in self.results

    def settled(self, run: Run) -> bool:
        """Finished or failed: nothing more is to come."""
        return run.key in self.results or run.key in self.failed


@dataclass(frozen=True)
class Run:
    """One training run with its evaluation.

    Attributes:
        options: options of the training command that decide the outcome, learning rates included; sorted pairs.
        upstream_id: hash of the upstream's files.
        variant: name of a cell with options of its own, "" for the plain ones.
    """

    lang: str
    subset: str
    method: str
    sparsity: float | None
    seed: int
    upstream: str
    upstream_id: str
    options: tuple[tuple[str, Any], ...] = field(hash=False)  # values may be mappings
    variant: str = ""

    @property
    def key(self) -> str:
        """Hash of everything that decides the outcome."""
        content = [self.lang, self.subset, self.method, self.sparsity, self.seed, self.upstream, self.upstream_id]
        return hashlib.sha256(json.dumps([*content, self.options], sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """Name of the run's folder, to be read by people; the key makes it unique."""
        parts = [self.lang, self.subset, self.upstream, self.method]
        parts += [self.variant] if self.variant else []
        parts += [f"s{self.sparsity:.2f}"] if self.sparsity is not None else []
        return "_".join([*parts, f"seed{self.seed}", self.key])

    @property
    def updates(self) -> int:
        return int(dict(self.options)["max_updates"])

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates among the options."""
        return {name: value for name, value in self.options if name in RATES}


@dataclass(frozen=True)
class Cell:
    """A block of the table: one language, subset and variant; its methods in order, router at several sparsities."""

    lang: str
    subset: str
    methods: tuple[str, ...]
    sparsities: tuple[float, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    seeds: tuple[int, ...] = ()  # in place of the grid's

    @property
    def rows(self) -> list[tuple[str, float | None]]:
        """(method, sparsity) in order."""
        return [
            (method, sparsity)
            for method in self.methods
            for sparsity in (self.sparsities if method == "router" else (None,))
        ]


@dataclass(frozen=True)
class Sweep:
    """The runs that decide one learning rate of one method, and the value that won (None: not all are in)."""

    method: str
    rate: str
    runs: tuple[Run, ...]
    best: float | None


@dataclass(frozen=True)
class Grid:
    """A grid file, read and checked."""

    upstream: str
    upstream_ckpt: str | None
    upstream_id: str
    select: str
    seeds: tuple[int, ...]
    repeat: tuple[str, ...]
    data: Mapping[str, Any]
    feature_cache: str | None
    methods: Mapping[str, Mapping[str, Any]]
    sweep_at: tuple[str, str, float | None]
    cells: tuple[Cell, ...]

    @classmethod
    def read(cls, path: Path, max_updates: int | None = None, seeds: tuple[int, ...] | None = None) -> Grid:
        """Read a grid file; `max_updates` and `seeds` replace what it says (for a trial on a reduced budget).

        Raises:
            ConfigError: every problem found, in one message.
            DataError: the upstream's files are missing.
        """
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as err:
            raise ConfigError(f"{path}: cannot be read as YAML: {err}") from None
        problems = list(_problems(raw))
        if problems:
            raise ConfigError(f"{path}: " + "; ".join(problems))
        override = {} if max_updates is None else {"max_updates": max_updates}
        methods = {name: {**_method(raw, name), **override} for name in raw["methods"]}
        cells = tuple(replace(cell, seeds=seeds or cell.seeds) for cell in _cells(raw["cells"]))
        sweep = raw["sweep"]
        return cls(
            upstream=raw["upstream"],
            upstream_ckpt=raw.get("upstream_ckpt"),
            upstream_id=upstream_id(raw["upstream"], raw.get("upstream_ckpt")),
            select=raw["select"],
            seeds=seeds or tuple(raw["seeds"]),
            repeat=tuple(raw["repeat"]),
            data=raw["data"],
            feature_cache=raw.get("feature_cache"),
            methods=methods,
            sweep_at=(sweep["lang"], sweep["subset"], sweep.get("sparsity")),
            cells=cells,
        )

    def run(self, cell: Cell, method: str, sparsity: float | None, seed: int, options: Mapping[str, Any]) -> Run:
        """The run of a row of `cell` with these options."""
        pairs = tuple(sorted(options.items()))
        return Run(
            *(cell.lang, cell.subset, method, sparsity, seed, self.upstream, self.upstream_id, pairs, cell.variant)
        )

    # --- what results decide -----------------------------------------------------------------------------------------

    def sweeps(self, method: str, known: Known) -> list[Sweep]:
        """The sweeps of a method's learning rates, in the order of `RATES`, up to the first not decided yet."""
        lang, subset, sparsity = self.sweep_at
        cell = Cell(lang, subset, (method,))
        options = self._first_values(method)
        found: list[Sweep] = []
        for rate in RATES:
            values = self.methods[method].get(rate)
            if not isinstance(values, list):
                continue
            at = sparsity if method == "router" else None
            runs = tuple(self.run(cell, method, at, self.seeds[0], {**options, rate: value}) for value in values)
            done = {run: self.dev(run, known) for run in runs if known.done(run)}
            best = min(done, key=done.get) if done and all(map(known.settled, runs)) else None
            found.append(Sweep(method, rate, runs, best and best.rates[rate]))
            if best is None:
                break
            options[rate] = best.rates[rate]
        return found

    def options(self, method: str, known: Known) -> dict[str, Any]:
        """A method's options with every swept rate decided, or the first of its values where that is open."""
        decided = {sweep.rate: sweep.best for sweep in self.sweeps(method, known) if sweep.best is not None}
        return self._first_values(method) | decided

    def decided(self, method: str, known: Known) -> bool:
        """Whether all learning rates of a method are fixed or swept to the end."""
        wanted = sum(isinstance(value, list) for value in self.methods[method].values())
        return sum(sweep.best is not None for sweep in self.sweeps(method, known)) == wanted

    def dev(self, run: Run, known: Known) -> float:
        """The figure that selects, of a finished run."""
        return known.results[run.key]["dev"][self.select]

    def row(self, cell: Cell, method: str, sparsity: float | None, known: Known) -> list[Run]:
        """The runs of a row, one a seed, by what is known about learning rates so far."""
        options = {**self.options(method, known), **cell.options}
        return [self.run(cell, method, sparsity, seed, options) for seed in cell.seeds or self.seeds]

    def best_sparsity(self, cell: Cell, known: Known) -> float | None:
        """The sparsity that is best on dev with the first seed, of those that are in; None when none is."""
        first = {row[1]: self.row(cell, *row, known)[0] for row in cell.rows if row[0] == "router"}
        done = {sparsity: self.dev(run, known) for sparsity, run in first.items() if known.done(run)}
        return min(done, key=done.get) if done else None

    def plan(self, known: Known, sweep: bool = True) -> list[Run]:
        """Every run that is known to be wanted, finished or not, in the order in which they should be made.

        Sweeps come first; rows of a method wait for its sweeps (unless `sweep` is false: then the first value of every
        list is used), further seeds for all first seeds of their method in the cell.
        """
        runs: list[Run] = []
        if sweep:
            wanted = {method for cell in self.cells for method in cell.methods}
            runs += [r for method in METHODS if method in wanted for s in self.sweeps(method, known) for r in s.runs]
        for cell in self.cells:
            ready = [method for method in cell.methods if not sweep or self.decided(method, known)]
            first = {row: self.row(cell, *row, known)[0] for row in cell.rows if row[0] in ready}
            runs += first.values()
            for method in (method for method in ready if method in self.repeat):
                best = self.best_sparsity(cell, known) if method == "router" else None
                settled = all(known.settled(run) for row, run in first.items() if row[0] == method)
                if settled and (method, best) in first and known.done(first[method, best]):
                    runs += self.row(cell, method, best, known)[1:]
        unique: dict[str, Run] = {}
        for run in runs:
            unique.setdefault(run.key, run)
        return list(unique.values())

    def everything(self, known: Known, sweep: bool = True) -> list[Run]:
        """As `plan`, with invented results for runs still to come: as many runs as the whole table will have."""
        while True:
            plan = self.plan(known, sweep)
            new = {run.key: {"dev": dict.fromkeys(METRICS, 9.9)} for run in plan if not known.settled(run)}
            if not new:
                return plan
            known = Known({**known.results, **new}, known.failed)

    def _first_values(self, method: str) -> dict[str, Any]:
        return {name: value[0] if isinstance(value, list) else value for name, value in self.methods[method].items()}


def used(method: str, rate: str) -> bool:
    """Whether a learning rate has anything to train under a method."""
    return rate == "head_lr" or rate == {"router": "score_lr", "weight": "weight_lr", "scratch": "weight_lr"}.get(
        method
    )


def upstream_id(name: str, checkpoint: str | None) -> str:
    """Hash of the upstream's weights: of the shipped model's folder, or of the checkpoint named.

    Raises:
        DataError: its files are missing.
    """
    if name == "tiny" and not checkpoint:
        checkpoint = os.environ.get("S3ROUTER_TINY")
    if name == "tiny" and not checkpoint:
        from s3router.upstreams.hub import TINY_FOLDER

        checkpoint = str(TINY_FOLDER)
    if not checkpoint or "://" in checkpoint:
        return checkpoint or ""
    path = Path(checkpoint)
    files = [path / "config.json", path / "model.safetensors"] if path.is_dir() else [path]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(f"upstream {name}: {' and '.join(missing)} missing; pretrain it or name another upstream_ckpt")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _method(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options of a method: the shared ones, those of its configuration file (``config``), and its own."""
    options = {**(raw.get("train") or {}), **(raw["methods"][name] or {})}
    config = options.pop("config", None)
    if config is not None:
        try:
            options = {**yaml.safe_load(Path(config).read_text(encoding="utf-8")), **options}
        except (OSError, yaml.YAMLError, TypeError) as err:
            raise ConfigError(f"methods: {name}: config {config} cannot be read: {err}") from None
    if "max_updates" not in options:
        raise ConfigError(f"methods: {name} has no max_updates")
    return _numbers(options)


def _cells(entries: list[dict]) -> Iterator[Cell]:
    for entry in entries:
        langs, subsets = (v if isinstance(v, list) else [v] for v in (entry["lang"], entry["subset"]))
        cell = Cell(
            lang="",
            subset="",
            methods=tuple(entry["methods"]),
            sparsities=tuple(float(s) for s in entry.get("sparsities", ())),
            options=_numbers(entry.get("options") or {}),
            variant=entry.get("variant", ""),
            seeds=tuple(entry.get("seeds", ())),
        )
        for lang, subset in itertools.product(langs, subsets):
            yield replace(cell, lang=lang, subset=str(subset))


def _numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with numbers that YAML takes for text (1e-3 without a point) as numbers."""

    def number(value: Any) -> Any:
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return {k: [number(x) for x in v] if isinstance(v, list) else number(v) for k, v in options.items()}


def _problems(raw: Any) -> Iterator[str]:
    required = ("upstream", "select", "seeds", "repeat", "data", "methods", "sweep", "cells")
    optional = ("upstream_ckpt", "feature_cache", "train")
    if not isinstance(raw, dict):
        yield "expected a mapping"
        return
    yield from (f"{name} is missing" for name in required if name not in raw)
    known = ", ".join((*required, *optional))
    yield from (f"unknown entry {name} (known: {known})" for name in raw if name not in (*required, *optional))
    if any(name not in raw for name in required):
        return
    if raw["select"] not in METRICS:
        yield f"select {raw['select']!r} is none of {', '.join(METRICS)}"
    if not raw["seeds"]:
        yield "seeds is empty"
    for name, options in raw["methods"].items():
        if name not in METHODS:
            yield f"unknown method {name!r} (known: {', '.join(METHODS)})"
        options = {**(raw.get("train") or {}), **(options or {})}
        lists = [option for option, value in options.items() if isinstance(value, list)]
        yield from (f"methods: {name}: only {', '.join(RATES)} are swept, not {o}" for o in lists if o not in RATES)
    subsets = raw["data"].get("train", {})
    for name in ("train", "dev", "test", "tokens"):
        if name not in raw["data"]:
            yield f"data: {name} is missing"
    entries = [*raw["cells"], {**raw["sweep"], "methods": []}]
    for number, cell in enumerate(entries, 1):
        where = f"cell {number}" if number < len(entries) else "sweep"
        allowed = ("lang", "subset", "methods", "sparsities", "options", "variant", "seeds", "sparsity")
        yield from (f"{where}: unknown entry {name}" for name in cell if name not in allowed)
        yield from (f"{where}: {name} is missing" for name in ("lang", "subset", "methods") if name not in cell)
        named = cell.get("subset", [])
        for subset in named if isinstance(named, list) else [named]:
            if subset not in subsets:
                yield f"{where}: subset {subset!r} is not under data: train ({', '.join(map(str, subsets))})"
        for method in cell.get("methods", []):
            if method not in raw["methods"]:
                yield f"{where}: method {method!r} is not under methods"
        if "router" in cell.get("methods", []) and not cell.get("sparsities"):
            yield f"{where}: router needs sparsities"
        for sparsity in [*cell.get("sparsities", []), cell.get("sparsity", 0.0)]:
            if not 0 <= sparsity < 1:
                yield f"{where}: sparsity {sparsity} is not in [0, 1)"
        if cell.get("options") and not cell.get("variant"):
            yield f"{where}: a cell with options needs a variant, the name under which the table shows it"
    if "router" in raw["methods"] and "sparsity" not in raw["sweep"]:
        yield "sweep: sparsity is missing"
