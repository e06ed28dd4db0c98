"""The benchmark's tracks: how much of a model belongs to a task alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TRACKS = ("constrained", "less constrained", "unconstrained")
"""From the strictest on."""
_FREE = {"valid_interval", "batch_size", "accum_grad"}


def track(mode: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The track of a trained task.

    Args:
        mode: ``frozen``; or ``weight`` or ``router``, whose upstream is not the same for all tasks: unconstrained.
        options: what the run was told. On a frozen upstream with the benchmark's settings of training it is
            constrained (the learning rate is free there), with others less constrained.
        settings: the benchmark's (`s3router.superb.tasks.Settings` as a mapping).
    """
    if mode != "frozen":
        return TRACKS[2]
    changed = {name for name, value in settings.items() if name in options and options[name] != value}
    if options.get("head_conf"):
        changed.add("head")
    same_batches = _batch(options) == _batch(settings)  # whether or not they come in several parts
    return TRACKS[0] if same_batches and not changed - _FREE else TRACKS[1]


def _batch(values: Mapping[str, Any]) -> int:
    return values.get("batch_size", 1) * values.get("accum_grad", 1)


def loosest(tracks: Iterable[str]) -> str:
    """The track of an entry whose tasks are in these."""
    return max(tracks, key=TRACKS.index)
