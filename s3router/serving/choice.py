"""Which routes a recording is tried by."""

from __future__ import annotations

from collections.abc import Sequence

from s3router.errors import ConfigError

AUTO = "auto"
"""In the place of a route: the surest of all candidates."""


def candidates(
    known: Sequence[str], route: str | None, among: Sequence[str] = (), said: tuple[str, str] = ("route", "among")
) -> list[str]:
    """The routes to transcribe by: the one that was named, or all that ``auto`` chooses among.

    Args:
        known: routes that transcribe.
        route: one of them, or `AUTO`; None: the only one.
        among: the candidates of `AUTO`; by default all.
        said: what the two are called where the user names them, for messages.

    Raises:
        ConfigError: none is named where there are several; candidates of a single route; no route transcribes.
    """
    if among and route != AUTO:
        raise ConfigError(f"{said[1]} names the candidates of {said[0]} {AUTO}; leave it out, or take {said[0]} {AUTO}")
    if not known:
        raise ConfigError("no route writes text here; s3router classify gives the labels of packs that classify")
    if route == AUTO:
        return list(dict.fromkeys(among or known))
    if route is None and len(known) > 1:
        raise ConfigError(f"{said[0]} is missing; known: {', '.join(known)}, or {AUTO}")
    return [known[0] if route is None else route]
