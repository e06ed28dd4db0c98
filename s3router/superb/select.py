"""``python -m s3router.superb.select``: of several runs of a task, the one with the best validation result.

Leaves a link to its folder. The test set is not looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import CheckpointError, S3RouterError
from s3router.files import link


def read_best(folder: Path) -> dict:
    """``best.json`` of a run, and its metric. Raises CheckpointError where it is missing or damaged."""
    from s3router.superb.tasks import task

    path = folder / "best.json"
    try:
        best = json.loads(path.read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); train this run to its end first") from error
    options = config["options"]
    return {
        "folder": folder,
        "metric": (metric := task(options["task"]).metric),
        "value": best[metric],
        "quality": task(options["task"]).quality(best[metric]),
        "loss": best["loss"],
        "update": best["update"],
        "lr": options["lr"],
        "upstream_lr": options["upstream_lr"],
    }


def select(folders: Sequence[Path]) -> tuple[dict, list[dict]]:
    """(the best run, all of them); among equals the one with the lowest validation loss."""
    found = [read_best(folder) for folder in folders]
    return max(found, key=lambda run: (run["quality"], -run["loss"])), found


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="superb-select", description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of superb-train")
    parser.add_argument("--output", type=Path, required=True, help="the link to make, beside the folders")
    args = parser.parse_args(argv)
    try:
        best, found = select(args.folders)
    except S3RouterError as error:
        print(f"superb-select: {error}", file=sys.stderr)
        return 1
    for run in found:
        mark = "  <- selected" if run is best else ""
        rates = f"lr {run['lr']:g}" + ("" if run["upstream_lr"] is None else f", upstream {run['upstream_lr']:g}")
        print(f"{run['folder'].name}: {rates}: {run['metric']} {100 * run['value']:.2f} % at {run['update']}{mark}")
    link(args.output, os.path.relpath(best["folder"], args.output.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
