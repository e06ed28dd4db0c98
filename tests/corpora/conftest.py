"""Fixtures of the corpora's tests."""

from __future__ import annotations

from tests.data.conftest import five

__all__ = ["five"]
