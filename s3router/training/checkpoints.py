"""Checkpoints of an experiment folder: written whole or not at all, read without running code in them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from s3router.files import clean_unfinished, link, replacing

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pth"


def epoch_file(epoch: int) -> str:
    """ESPnet's name for the model after ``epoch`` (an epoch here is the stretch between two validations)."""
    return f"{epoch}epoch.pth"


@contextlib.contextmanager
def atomic_saves() -> Iterator[None]:
    """While active, `torch.save` to a path is atomic, and a checkpoint never names an epoch that is not on disk.

    ESPnet's trainer writes ``checkpoint.pth`` in place and the epoch's own file after it; it offers no hook between.
    Here the epoch's file, whose content the checkpoint holds anyway, is written first.
    """
    import torch

    plain = torch.save
    written: set[Path] = set()

    def write(obj: object, path: Path) -> None:
        with replacing(path, "wb") as file:
            plain(obj, file)

    def save(obj, f, *args, **kwargs) -> None:
        if not isinstance(f, str | os.PathLike):
            plain(obj, f, *args, **kwargs)
            return
        path = Path(f)
        if path in written:
            written.remove(path)
            return
        if path.name == CHECKPOINT:
            epoch = path.with_name(epoch_file(obj["reporter"]["epoch"]))
            write(obj["model"], epoch)
            written.add(epoch)
        write(obj, path)

    torch.save = save
    try:
        yield
    finally:
        torch.save = plain


def read_states(path: str | os.PathLike, device: str = "cpu") -> dict:
    """What `torch.save` wrote, without running any code that a stranger may have put into it.

    Raises:
        CheckpointError: no such file, damaged, or holding anything but tensors and plain values.
    """
    import datetime
    import pickle

    import numpy as np
    import torch

    from s3router.errors import CheckpointError

    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint; train first, or correct the path")
    # what ESPnet's reporter keeps besides plain numbers
    known = [datetime.timedelta, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
    known.append(np.float64(0).__reduce__()[0])
    try:
        with torch.serialization.safe_globals(known):
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: not a checkpoint of plain tensors (it may be damaged, or run code when read); "
            f"take one that s3router wrote"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({error}); delete it and resume") from error


def repair(output_dir: Path, criteria: Iterable[Iterable[str]]) -> None:
    """Put right what a kill between two of ESPnet's steps left behind: temporary files, an epoch's file, links."""
    clean_unfinished(output_dir)
    if not (output_dir / CHECKPOINT).exists():
        return
    from espnet2.train.reporter import Reporter

    states = read_states(output_dir / CHECKPOINT)
    reporter = Reporter()
    reporter.load_state_dict(states["reporter"])
    epoch = output_dir / epoch_file(reporter.get_epoch())
    if not epoch.exists():
        import torch

        with replacing(epoch, "wb") as file:
            torch.save(states["model"], file)
    link(output_dir / "latest.pth", epoch.name)
    for phase, key, mode in criteria:
        if reporter.has(phase, key):
            best = epoch_file(reporter.get_best_epoch(phase, key, mode))
            if (output_dir / best).exists():
                link(output_dir / f"{phase}.{key}.best.pth", best)
