"""The benchmark's tracks, which say how much of a model may be specific to one task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TRACKS = ("constrained", "less constrained", "unconstrained")
"""From the strictest to the loosest."""
_FREE = {"valid_interval", "batch_size", "accum_grad"}


def track(method: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The track of a trained task.

    Args:
        method: ``frozen``, or one that changes the upstream for a task: unconstrained.
        options: options of the run. With a frozen upstream and the benchmark's training settings it is constrained
            (the learning rate is free there), with other settings less constrained.
        settings: the benchmark's settings (`s3router.superb.tasks.Settings` as a mapping).
    """
    if method != "frozen":
        return TRACKS[2]
    changed = {name for name, value in settings.items() if name in options and options[name] != value}
    if options.get("head_conf"):
        changed.add("head")
    same_batches = _batch(options) == _batch(settings)  # whether or not they are accumulated
    return TRACKS[0] if same_batches and not changed - _FREE else TRACKS[1]


def _batch(values: Mapping[str, Any]) -> int:
    return values.get("batch_size", 1) * values.get("accum_grad", 1)


def loosest(tracks: Iterable[str]) -> str:
    """The track of an entry whose tasks are in these tracks."""
    return max(tracks, key=TRACKS.index)


def method_of(record: Mapping[str, Any]) -> str | None:
    """The method in a record of a run (options, a result, an entry of a report); earlier versions called it "mode"."""
    return record.get("method", record.get("mode"))
