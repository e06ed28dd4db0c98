"""Settings that must not change when a run is resumed: it would be neither the old run nor the new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

COMMON = (
    *("method", "upstream", "upstream_ckpt", "upstream_dropout", "sparsity", "mask_conf", "feature_masking"),
    *("train_dir", "valid_dir", "seed", "amp_dtype", "accum_grad", "max_updates", "valid_interval", "grad_clip"),
)
"""For every kind of experiment; `Experiment.DECISIVE` adds what each kind has besides."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, Any, Any]]:
    """(name, value before, value now) of every setting in ``names`` that differs.

    What an older version did not record is not compared. Tuples count as lists and paths as text, as files have them.
    """
    return [
        (name, before[name], now[name])
        for name in names
        if name in before and name in now and plain(before[name]) != plain(now[name])
    ]


def plain(value: Any) -> Any:
    """As a configuration file has it: lists for tuples, text for paths and, as in JSON, for keys, throughout."""
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    return str(value) if isinstance(value, Path) else value
