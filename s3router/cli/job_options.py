"""Options that the commands which start many jobs share: ``experiment`` and ``launch``."""

from __future__ import annotations

from typing import Any

from s3router.errors import ConfigError


def job_limit(value: object) -> int:
    """How many jobs run at once. Raises ConfigError unless it is a whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"jobs must be a whole number above 0, found {value!r}")
    return value


def gpu_names(value: object) -> list[str]:
    """``"0,1"``, ``[0, 1]`` or ``0`` -> the GPUs by name; empty for None."""
    if value is None:
        return []
    return [str(gpu) for gpu in value] if isinstance(value, list) else str(value).split(",")


def slurm_parameters(texts: list[str]) -> dict[str, Any]:
    """``["timeout_min=600"]`` -> ``{"timeout_min": 600}``; empty texts say nothing. Raises ConfigError."""
    found: dict[str, Any] = {}
    for text in filter(None, texts):
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise ConfigError(f"--slurm {text}: expected KEY=VALUE, such as timeout_min=600.")
        found[name] = int(value) if value.isdigit() else value
    return found
