"""ESPnet's import, without what it prints."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator


@contextlib.contextmanager
def silently() -> Iterator[None]:
    """Import ESPnet inside the block: it prints which optional packages it lacks."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
