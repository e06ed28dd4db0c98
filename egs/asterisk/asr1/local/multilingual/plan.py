"""What `run_multilingual.sh` trains: its models are runs of the results table, so that each is made once for both.

    python local/multilingual/plan.py settings --work DIR --langs en es ...    -> DIR/settings.json
    python local/multilingual/plan.py singles --work DIR                       -> DIR/singles.yaml
    python local/multilingual/plan.py choose --work DIR                        -> names of the runs that dev picks
    python local/multilingual/plan.py link --work DIR                          -> DIR/models/LANG_METHOD
    python local/multilingual/plan.py joint --work DIR                         -> DIR/joint.yaml, names of its runs
    python local/multilingual/plan.py link-joint --work DIR                    -> DIR/models/joint_METHOD

The grids are written for `./run_table.sh --grid`; learning rates that the table has decided already stand in them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "table"))

from grid import RATES, Grid, Known, Run
from one_run import RESULT, Place

from s3router.errors import ConfigError, DataError, S3RouterError
from s3router.files import write_lines

SINGLE = ("weight", "router")
JOINT = ("weight", "frozen")
TABLE = Path("conf/table.yaml")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of `run_multilingual.sh` that decide what is trained.

    Attributes:
        sparsity: the candidates of which dev picks one; empty: those of the table's cells.
        upstream: None: the table's.
        max_updates: for a trial, None otherwise.
        joint: what trains in the joint models.
        joint_updates: ``all``: as many as the single models of a method together; ``one``: as many as one of them.
    """

    langs: list[str]
    subset: str
    sparsity: list[float]
    upstream: str | None
    upstream_ckpt: str | None
    seed: int
    max_updates: int | None
    sweep: bool
    joint: list[str]
    joint_updates: str

    @classmethod
    def read(cls, work: Path) -> Settings:
        """What `singles` has written. Raises DataError where it has not been run."""
        path = work / "settings.json"
        if not path.is_file():
            raise DataError(f"{path} is missing; run ./run_multilingual.sh from stage 1 on")
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    @property
    def place(self) -> Place:
        """Where the table keeps these runs."""
        return Place.usual(trial=self.max_updates is not None)

    @property
    def joint_name(self) -> str:
        """The "language" of the joint models, a folder of `data` and `dump`."""
        return "-".join(self.langs)

    @property
    def command(self) -> str:
        """The call that comes to these settings."""
        words = ["--langs", " ".join(self.langs), "--subset", self.subset]
        words += ["--sparsity", " ".join(f"{s:g}" for s in self.sparsity)] if self.sparsity else []
        words += ["--upstream", self.upstream] if self.upstream else []
        words += ["--upstream-ckpt", self.upstream_ckpt] if self.upstream_ckpt else []
        words += ["--seed", str(self.seed), "--joint", " ".join(self.joint), "--joint-updates", self.joint_updates]
        words += [] if self.sweep else ["--sweep", "false"]
        words += ["--max-updates", str(self.max_updates)] if self.max_updates else []
        return shlex.join(["./run_multilingual.sh", *words])

    def known(self) -> Known:
        """The runs that are finished."""
        return Known.read(self.place.results)

    def grid(self, path: Path) -> Grid:
        """A grid of ours, with this seed and budget."""
        return Grid.read(path, self.max_updates, (self.seed,))


def singles(settings: Settings, table: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """The grid of the single models: every language at the subset, weight finetuning and all candidate sparsities.

    Args:
        table: content of the table's grid file.
        scratch: a path for a file while this works.

    Raises:
        ConfigError: the table has no sparsities for a language, and none were given.
    """
    lacking = [lang for lang in settings.langs if not candidates(settings, table, lang)]
    if lacking:
        raise ConfigError(
            f"{TABLE} has no cell for {', '.join(lacking)} at {settings.subset}, so no sparsities to pick from; "
            "name some with --sparsity"
        )
    found = {**table, "repeat": [], "methods": {name: dict(values) for name, values in table["methods"].items()}}
    if settings.upstream:
        found |= {"upstream": settings.upstream, "upstream_ckpt": settings.upstream_ckpt}
    shared = {"subset": settings.subset, "methods": list(SINGLE)}
    found["cells"] = [
        {"lang": lang, **shared, "sparsities": candidates(settings, table, lang)} for lang in settings.langs
    ]
    # the sweeps' decisions are those of the table's first seed
    write_yaml(scratch, found)
    grid, known = Grid.read(scratch, settings.max_updates), settings.known()
    scratch.unlink()
    for method, values in found["methods"].items():
        values |= {sweep.rate: sweep.best for sweep in grid.sweeps(method, known) if sweep.best is not None}
    return {**found, "seeds": [settings.seed]}


def candidates(settings: Settings, table: dict[str, Any], lang: str) -> list[float]:
    """The sparsities of which dev picks one, in the table's order."""
    if settings.sparsity:
        return settings.sparsity
    found: dict[float, None] = {}
    for cell in table["cells"]:
        langs, subsets = (v if isinstance(v, list) else [v] for v in (cell["lang"], cell["subset"]))
        if lang in langs and settings.subset in map(str, subsets) and not cell.get("variant"):
            found |= dict.fromkeys(map(float, cell.get("sparsities", ())))
    return list(found)


def chosen(settings: Settings, grid: Grid) -> Iterator[tuple[str, Run]]:
    """(LANG_METHOD, its run): weight finetuning, and masks at the sparsity that is best on dev.

    Raises:
        DataError: runs that decide about it are missing; they are named.
    """
    known = settings.known()
    for cell in grid.cells:
        rows = {row: grid.row(cell, *row, known)[0] for row in cell.rows}
        missing = [run.name for run in rows.values() if not known.done(run)]
        if missing:
            raise DataError(f"not finished: {', '.join(missing)}; run ./run_multilingual.sh from stage 1 on")
        yield f"{cell.lang}_weight", rows["weight", None]
        yield f"{cell.lang}_router", rows["router", grid.best_sparsity(cell, known)]


def joint(settings: Settings, single: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """The grid of the joint models, from that of the single ones (its content, and as it was read)."""
    cells, known, methods = [], settings.known(), {}
    times = len(settings.langs) if settings.joint_updates == "all" else 1
    for method in settings.joint:
        cell: dict[str, Any] = {"lang": settings.joint_name, "subset": settings.subset, "methods": [method]}
        values = grid.options(method, known)
        methods[method] = {**single["methods"][method], **{n: values[n] for n in RATES if n in values}}
        if times > 1:  # as many validations as a single model has
            longer = {name: times * values[name] for name in ("max_updates", "valid_interval") if name in values}
            cell |= {"variant": f"x{times}", "options": longer}
        cells.append(cell)
    return {**single, "methods": methods, "cells": cells}


def joint_runs(settings: Settings, grid: Grid) -> Iterator[tuple[str, Run]]:
    """(joint_METHOD, its run)."""
    for cell in grid.cells:
        yield f"joint_{cell.methods[0]}", grid.row(cell, cell.methods[0], None, settings.known())[0]


def link(runs: dict[str, Run], place: Place, folder: Path) -> None:
    """``folder/NAME`` -> the folder of the run, each replaced at once.

    Raises:
        DataError: a run's model is not there.
    """
    missing = [str(place.folder(run)) for run in runs.values() if not place.has_model(run)]
    if missing:
        raise DataError(f"no model in {', '.join(missing)}; its {RESULT} or its best checkpoint is missing")
    folder.mkdir(parents=True, exist_ok=True)
    for name, run in runs.items():
        temporary = folder / f".{name}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(place.folder(run).resolve(), folder.resolve()))
        temporary.replace(folder / name)


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lines(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).splitlines())


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("settings", "singles", "choose", "link", "joint", "link-joint"))
    parser.add_argument("--work", type=Path, required=True, help="where the grids and links are kept")
    parser.add_argument("--langs", nargs="+", default=[])
    parser.add_argument("--subset", default="5min")
    parser.add_argument("--sparsity", nargs="*", type=float, default=[])
    parser.add_argument("--upstream")
    parser.add_argument("--upstream-ckpt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-updates", type=int)
    parser.add_argument("--sweep", choices=("true", "false"), default="true")
    parser.add_argument("--joint", nargs="*", choices=JOINT, default=[])
    parser.add_argument("--joint-updates", choices=("all", "one"), default="all")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = vars(arguments(argv))
    what, work = args.pop("what"), args.pop("work")
    grids = {name: work / f"{name}.yaml" for name in ("singles", "joint")}
    try:
        if what == "settings":
            content = {**args, "sweep": args["sweep"] == "true"}
            write_lines(work / "settings.json", [json.dumps(content, indent=1)])
            return 0
        settings = Settings.read(work)
        if what == "singles":
            table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
            write_yaml(grids["singles"], singles(settings, table, work / ".table.yaml"))
            return 0
        grid = settings.grid(grids["joint" if what == "link-joint" else "singles"])
        if what == "joint":
            content = joint(settings, yaml.safe_load(grids["singles"].read_text(encoding="utf-8")), grid)
            write_yaml(grids["joint"], content)
            grid = settings.grid(grids["joint"])
        runs = dict((joint_runs if "joint" in what else chosen)(settings, grid))
        if what.startswith("link"):
            link(runs, settings.place, work / "models")
        else:
            print("|".join(run.name for run in runs.values()))
        return 0
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
