"""Result files: what is known of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from s3router.errors import DataError
from s3router.experiments.figures import KNOWN
from s3router.experiments.grid import Run
from s3router.experiments.job_state import FAILED, read_json


@dataclass(frozen=True)
class Known:
    """What is known of runs: key -> content of the result file, and the keys of those that failed."""

    results: Mapping[str, dict]
    failed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, folder: Path, select: str, runs: Path | None = None) -> Known:
        """All result files of a folder, but those of a grid that selects by another figure.

        Args:
            select: the figure on dev that each has.
            runs: the folder in which runs are made: those that failed there are known, too.

        Raises:
            DataError: a file is not a result file; it is named.
        """
        results = {}
        for path in sorted(folder.glob("*.json")):
            try:
                result = json.loads(path.read_text(encoding="utf-8"))
                key, dev, _ = result["key"], result["dev"], result["seconds"]
                if select not in dev and dev.keys() & set(KNOWN):
                    continue  # of another grid in this folder, which selects by another figure
                dev[select]
                results[key] = result
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{path}: not a result file ({error!r}); remove it, and its run is made again"
                ) from None
        failed = set()
        for path in sorted(runs.glob("*/status.json")) if runs else []:
            if read_json(path).get("state") == FAILED:
                failed.add(path.parent.name.rsplit("_", 1)[-1])
        return cls(results, frozenset(failed) - results.keys())

    def done(self, run: Run) -> bool:
        """Whether its result is in."""
        return run.key in self.results

    def settled(self, run: Run) -> bool:
        """Finished or failed: nothing more is to come."""
        return run.key in self.results or run.key in self.failed
