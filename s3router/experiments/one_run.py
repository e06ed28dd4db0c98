"""One run: its commands one after the other, and its result file. What is finished is not made again."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import resource
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s3router.errors import CheckpointError
from s3router.experiments.grid import Grid, Run
from s3router.experiments.kinds import kind_of
from s3router.files import write_json, write_lines

RESULT, RUN = "result.json", "run.json"
PACKAGES = ("torch", "espnet", "espnet-s3prl", "transformers", "jiwer")

CommandMain = Callable[[list[str]], int]
"""The ``s3router`` command itself, in this process: arguments -> exit status."""


def make(grid: Grid, run: Run, folder: Path, command: CommandMain) -> None:
    """Make one run in this process, and write its ``result.json``; everything is printed.

    Raises:
        CheckpointError: one of its commands ended with an error, which it has printed.
    """
    kind, peak, begun = kind_of(grid), 0, time.monotonic()
    steps = kind.steps(run, folder)
    for number, argv in enumerate(steps):
        print(f"# {datetime.datetime.now():%F %T} s3router {shlex.join(argv)}", flush=True)
        if status := command(argv):
            raise CheckpointError(f"s3router {argv[0]} ended with status {status}: see above")
        if number == 0:
            peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    result = description(grid, run, kind.result(run, folder), f"s3router {shlex.join(steps[0])}")
    result.setdefault("seconds", round(time.monotonic() - begun, 1))
    write_result(folder, {**result, "peak_rss_mb": peak})


def description(grid: Grid, run: Run, found: Mapping[str, Any], command: str) -> dict[str, Any]:
    """What a result file says: which run it is, its figures, and how they were made."""
    return {
        "name": run.name,
        "key": run.key,
        **dict(run.at),
        "upstream": run.upstream,
        "upstream_id": run.upstream_id,
        "method": run.method,
        "variant": run.variant,
        "sparsity": run.sparsity,
        "seed": run.seed,
        "options": dict(run.options),
        **found,
        "commit": commit(grid.folder),
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "command": command,
        "versions": versions(),
    }


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write a run's own copy of its result file."""
    write_lines(folder / RESULT, [json.dumps(result, ensure_ascii=False)])


def gather(folder: Path, results: Path, run: Run) -> bool:
    """Copy a run's result file to where all are gathered; False where it has none."""
    path = folder / RESULT
    if not path.is_file():
        return False
    write_lines(results / f"{run.name}.json", path.read_text(encoding="utf-8").splitlines())
    return True


def write_run(folder: Path, run: Run) -> None:
    """Write down a run, for a process elsewhere that makes it."""
    write_json(folder / RUN, asdict(run))


def read_run(folder: Path) -> Run:
    """What `write_run` wrote."""
    content = json.loads((folder / RUN).read_text(encoding="utf-8"))
    pairs = {name: tuple(map(tuple, content[name])) for name in ("at", "options")}
    return Run(**{**content, **pairs, "what": tuple(content["what"])})


def commit(folder: Path) -> str:
    """Short hash of the clone's commit, with "+" where code differs from it; "unknown" outside a clone.

    Args:
        folder: of the recipe: its ``conf`` and ``local`` decide results as the library does.
    """
    root = Path(__file__).resolve().parents[2]
    code = ["s3router", *(str(folder / name) for name in ("conf", "local") if (folder / name).is_dir())]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        inside = [path for path in code if path == "s3router" or Path(path).is_relative_to(root)]
        changed = ["git", "status", "--porcelain", "--untracked-files=no", "--", *inside]
        dirty = subprocess.run(changed, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty else "")


def versions() -> dict[str, str]:
    """Of Python and the packages that decide results, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
