"""Logging of a training run: everything goes to ``train.log``, our own lines and warnings also to the screen."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path


def on_screen(record: logging.LogRecord) -> bool:
    """Our own lines, errors, and warnings of ESPnet's training loop (gradients that are not finite)."""
    if record.name.startswith("s3router"):
        return record.levelno >= logging.INFO
    return record.levelno >= (logging.WARNING if record.module == "trainer" else logging.ERROR)


class PatientFileHandler(logging.FileHandler):
    """Writes to a file in a folder that does not exist yet; until it does, records wait.

    The folder is made when everything has been checked; a run that is refused leaves none.
    """

    def __init__(self, path: Path):
        super().__init__(path, encoding="utf-8", delay=True)
        self.path, self.waiting = path, []

    def emit(self, record: logging.LogRecord) -> None:
        self.waiting.append(record)
        if self.path.parent.is_dir():
            waiting, self.waiting = self.waiting, []
            for one in waiting:
                super().emit(one)

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written, as on a full disk, ends the run; checkpoints could not be written either."""
        error = sys.exception()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        super().handleError(record)


@contextlib.contextmanager
def to_files(path: Path, level: str = "INFO", rank: int | None = None) -> Iterator[None]:
    """Set up logging while the block runs; of several processes only rank 0 (or None: a single one) speaks."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
    screen.addFilter(on_screen)
    handlers: list[logging.Handler] = [screen]
    if rank in (None, 0):
        file = PatientFileHandler(path)
        file.setFormatter(logging.Formatter("%(asctime)s (%(name)s %(module)s:%(lineno)d) %(levelname)s: %(message)s"))
        handlers.append(file)
    else:
        screen.setLevel(logging.ERROR)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        for handler in handlers:
            with contextlib.suppress(OSError):  # its last line has been written, or that error is under way
                handler.close()


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """No log lines below errors while the block runs."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
