"""Result files: what is known of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from s3router.errors import DataError
from s3router.experiments.figures import KNOWN
from s3router.experiments.grid import Run
from s3router.experiments.job_state import FAILED, read_json

_ALWAYS = (
    *("name", "method", "seed", "sparsity", "lrs", "updates", "best_update", "test", "seconds"),
    *("commit", "date", "versions"),
)
"""What every result has, besides its key and its figures on dev."""
_METHOD = re.compile(r" --method (\S+)")


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
                key, dev = result["key"], result["dev"]
                if select not in dev and dev.keys() & set(KNOWN):
                    continue  # of another grid in this folder, which selects by another figure
                dev[select]
                if missing := [name for name in _ALWAYS if name not in result]:
                    raise ValueError(f"without {', '.join(missing)}")
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
        """Whether its result is in, made by the method that the grid asks for."""
        return run.key in self.results and not self.other_method(run)

    def settled(self, run: Run) -> bool:
        """Finished or failed: nothing more is to come."""
        return self.done(run) or run.key in self.failed

    def other_method(self, run: Run) -> str | None:
        """What trained a run's result, as its command says, where that is not what the grid means by the method now."""
        if not run.base or run.what[:1] == ("command",):  # programs have options of their own
            return None
        found = _METHOD.search(self.results.get(run.key, {}).get("command", ""))
        return found[1] if found and found[1] != run.base else None

    def of_other_methods(self, runs: Iterable[Run]) -> Iterator[str]:
        """A line for each result that stands under a run's key without being of its method."""
        for run in runs:
            if other := self.other_method(run):
                yield f"{run.name}: its result is of {other}, and the grid asks for {run.base}: it does not count"
