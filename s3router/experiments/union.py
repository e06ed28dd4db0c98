"""Data of several values of an axis together, such as all languages: for the joint model that masks are held against.

A grid says ``union: {lang: {en-es: [en, es]}}``: the data of ``en-es`` are those of ``en`` and ``es``. Its token list
holds every token of the others' lists, in the order in which they come.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from s3router.data.kaldi import DataDir
from s3router.data.tokens import SOS_EOS, read_token_list, write_token_list
from s3router.errors import DataError
from s3router.experiments.grid import Grid, Run
from s3router.experiments.kinds import kind_of


def parts_of(grid: Grid, run: Run) -> list[Run]:
    """The runs whose data make up this one's; empty where it has data of its own."""
    unions = {
        axis: {str(k): v for k, v in (found or {}).items()} for axis, found in (grid.raw.get("union") or {}).items()
    }
    for axis, value in run.at:
        if value in unions.get(axis, {}):
            return [
                dataclasses.replace(run, at=tuple((a, str(part) if a == axis else v) for a, v in run.at))
                for part in unions[axis][value]
            ]
    return []


def union_command(grid: Grid, run: Run) -> list[str]:
    """The command that puts a run's data together."""
    words = [str(grid.path), *(f"{axis}={value}" for axis, value in run.at), *grid.overrides.words()]
    return [sys.executable, "-m", "s3router", "experiment", "union", *words]


def make_union(grid: Grid, run: Run) -> Iterator[str]:
    """Put a run's data together; yields a line on each set.

    Raises:
        DataError: an id stands in two of the sets, or one is missing.
    """
    kind, parts = kind_of(grid), parts_of(grid, run)
    inputs = [kind.inputs(part) for part in parts]
    for name, path in kind.inputs(run).items():
        if name == "tokens":
            write_token_list(path, union_of_tokens([read_token_list(found[name]) for found in inputs]))
            yield f"{path}: {len(read_token_list(path))} tokens"
            continue
        data = union_of_data([DataDir.read(found[name]) for found in inputs], path)
        data.write(path)
        yield f"{path}: {len(data.utts)} utterances, {data.seconds / 60:.2f} min"


def union_of_tokens(lists: list[list[str]]) -> list[str]:
    """``<blank> <unk> … <sos/eos>``, each token once."""
    tokens = dict.fromkeys(token for tokens in lists for token in tokens if token != SOS_EOS)
    return [*tokens, SOS_EOS]


def union_of_data(dirs: list[DataDir], path: Path) -> DataDir:
    """One directory with all utterances.

    Raises:
        DataError: an id stands in two of them.
    """
    counts = Counter(utt.utt for data in dirs for utt in data.utts)
    twice = [utt for utt, count in counts.items() if count > 1]
    if twice:
        names = ", ".join(str(data.path) for data in dirs)
        raise DataError(f"{twice[0]} and {len(twice) - 1} more stand in two of {names}; ids must be unique")
    return DataDir(path, [utt for data in dirs for utt in data.with_durations().utts])
