"""Tables of trained tasks' results, with all seeds of a setting in one row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from s3router.errors import DataError
from s3router.scoring.accuracy import FOLDS, fold_mean
from s3router.scoring.stats import mean_spread
from s3router.submission.tracks import method_of
from s3router.superb.experiment import TaskExperiment
from s3router.superb.tasks import FIGURES
from s3router.training.experiment import read_results


def _results(folders: Sequence[Path]) -> list[tuple[str, str, dict]]:
    """(experiment, set, result) of every predicted set. Raises DataError where a folder has none."""
    rows = []
    for folder in folders:
        if not (found := read_results(folder, TaskExperiment.RESULTS)):
            raise DataError(f"{folder}: no predict_*/result.json here; predict first (stage 5)")
        rows += [(folder.name, name, result) for name, result in found.items()]
    return rows


def table(folders: Sequence[Path]) -> list[str]:
    """Markdown lines. Runs that differ in their seed alone share a row: mean ± standard deviation.

    Rows that would look alike, since they differ in other options, say their folders.

    Raises:
        DataError: runs without results, or of tasks with different metrics; one seed of a setting twice.
        CheckpointError: a result is damaged.
    """
    groups: dict[tuple, list[tuple[str, dict]]] = {}
    rows = _results(folders)
    columns = columns_of(rows[0][2])
    for folder, name, result in rows:
        if columns_of(result) != columns:
            raise DataError(f"{folder}: its task has other metrics than {rows[0][0]}; make one table per task")
        shown = (name, result["upstream"], method_of(result), result.get("track", ""), result["sparsity"])
        hidden = (result.get("setting"), result.get("raw", False), result.get("updates"))
        groups.setdefault((*shown, hidden), []).append((folder, result))
    tracks = any("track" in result and result["task"] != "cls" for *_, result in rows)
    lines = [
        f"| set | upstream | method | {'track | ' * tracks}sparsity | seeds | utterances | {' | '.join(columns)} |",
        f"|---|---|---|{'---|' * tracks}---:|---|---:|{'---:|' * len(columns)}",
    ]
    alike = Counter(key[:-1] for key in groups)
    for key, found in groups.items():
        name, upstream, method, track, sparsity, _ = key
        found.sort(key=lambda one: one[1]["seed"])
        names, results = zip(*found, strict=True)
        if len({result["seed"] for result in results}) < len(results):
            raise DataError(f"{', '.join(names)}: one seed of one setting twice; name each run once")
        seeds = " ".join(str(r["seed"]) for r in results)
        if alike[key[:-1]] > 1:
            method = f"{method} ({', '.join(names)})"
        track = f"{track} | " if tracks else ""
        removed = "" if sparsity is None else f"{sparsity:g}"
        lines.append(
            f"| {name} | {upstream} | {method} | {track}{removed} | {seeds} | {results[0]['n_utts']} "
            f"| {' | '.join(_cells(results, columns))} |"
        )
    return lines


def columns_of(result: dict) -> dict[str, str]:
    """Heading -> metric of a task's table."""
    if "accuracy" in result:
        return {"accuracy %": "accuracy", "95 % interval": "interval", "recall %": "balanced_accuracy"}
    return {f"{heading} %": name for name, heading in FIGURES.items() if name in result}


def _cells(results: list[dict], columns: dict[str, str]) -> Iterator[str]:
    for name in columns.values():
        if name != "interval":
            yield mean_spread([r[name] for r in results]).percent(2)
        elif len(results) == 1:
            low, high = results[0][name]
            yield f"{100 * low:.1f}–{100 * high:.1f}"
        else:
            yield ""


def folds(folders: Sequence[Path]) -> list[str]:
    """The benchmark's figure of emotion recognition: the mean accuracy of five folds.

    Raises:
        DataError: some lack, one is there twice, or it is another task's result.
    """
    rows = _results(folders)
    if other := [folder for folder, _, result in rows if result["task"] != "er"]:
        raise DataError(f"{other[0]}: not of emotion recognition (er), the task that has folds")
    known = [result["fold"] for *_, result in rows if "fold" in result] or [folder for folder, *_ in rows]
    if len(set(known)) < len(known):
        raise DataError(f"a fold is there twice: {', '.join(folder for folder, *_ in rows)}; name each once")
    figure = fold_mean([result["accuracy"] for *_, result in rows])
    lines = ["| fold | utterances | accuracy % |", "|---|---:|---:|"]
    lines += [f"| {name} | {result['n_utts']} | {100 * result['accuracy']:.2f} |" for name, _, result in rows]
    return [*lines, f"| mean of {FOLDS} | | {figure.percent(2)} |"]
