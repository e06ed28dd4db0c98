"""Checkpoint files of an experiment: written whole or not at all, and read without running code in them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from s3router.files import clean_unfinished, link, move

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pth"


def epoch_file(epoch: int | str) -> str:
    """ESPnet's name for the model after ``epoch`` (an epoch here is the stretch between two validations)."""
    return f"{epoch}epoch.pth"


def epoch_files(folder: Path) -> dict[int, Path]:
    """Epoch -> its model's file, of those that a folder holds."""
    found = {file: re.fullmatch(epoch_file(r"(\d+)"), file.name) for file in folder.glob(epoch_file("*"))}
    return {int(match[1]): file for file, match in found.items() if match}


class Workspace:
    """Where ESPnet's trainer writes, so that an experiment's folder holds whole files only.

    ESPnet writes its files in place, ``checkpoint.pth`` before the epoch's own file, and offers no hook between. So it
    works in a folder of its own, in which the files of the experiment appear as links. What it has finished moves to
    the experiment by `publish`, one rename for each file. A kill at any moment leaves the experiment as it was last
    published, and training repeats the epoch since then.
    """

    NAME = "espnet"
    FOLDERS = ("tensorboard", "images", "att_ws")
    """Written to directly. The links stay when training has ended: tensorboard's writer flushes late."""

    def __init__(self, home: Path):
        self.home, self.path = home, home / self.NAME

    def open(self, resume: bool) -> None:
        """Make it anew; with ``resume`` the models and the checkpoint of the experiment are in it, as links."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        for name in self.FOLDERS:
            (self.home / name).mkdir(exist_ok=True)
            self._link(name)
        if resume:
            for file in [*epoch_files(self.home).values(), self.home / CHECKPOINT]:
                if file.exists():
                    self._link(file.name)

    def publish(self) -> None:
        """Move finished files to the experiment: models, then the checkpoint that goes with them, then links.

        Models that ESPnet has removed are removed there.
        """
        models = set(epoch_files(self.path).values())
        for file in sorted(self.path.glob("*.pth"), key=lambda file: (file.is_symlink(), file.name == CHECKPOINT)):
            if not file.is_symlink():
                move(file, self.home / file.name)
                if file in models:  # others may be written again, which must not go through a link
                    self._link(file.name)
            elif file.readlink().parent == Path():  # to another file here: the latest, the best
                link(self.home / file.name, os.readlink(file))
        kept = epoch_files(self.path)
        for epoch, file in epoch_files(self.home).items():
            if epoch not in kept:
                file.unlink()

    def close(self) -> None:
        """Leave no models in it, and no folders that nothing was written to."""
        for file in self.path.glob("*.pth"):
            file.unlink()
        for name in self.FOLDERS:
            with contextlib.suppress(OSError):  # in use
                (self.home / name).rmdir()
                (self.path / name).unlink()

    def _link(self, name: str) -> None:
        (self.path / name).symlink_to(Path("..", name))


def read_states(path: str | os.PathLike, device: str = "cpu", mapped: bool = False) -> dict:
    """Read what `torch.save` wrote, without running any code that may have been put into it.

    Args:
        mapped: leave tensors on disk until they are used, where only a plain value is wanted.

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
            return torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: not a checkpoint of plain tensors (it may be damaged, or run code when read); "
            f"take one that s3router wrote"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({error}); delete it and resume") from error


def clear(output_dir: Path) -> None:
    """Remove the models of a run that another takes the place of; first the checkpoint, which says that there is one.

    What the user has put there stays.
    """
    (output_dir / CHECKPOINT).unlink(missing_ok=True)
    for file in output_dir.glob("*.pth"):
        if file.is_symlink() or re.fullmatch(r"\d+epoch|.*\.ave_\d+best", file.stem):
            file.unlink()


def repair(output_dir: Path, criteria: Iterable[Iterable[str]]) -> None:
    """Repair what a kill in the middle of `Workspace.publish` leaves: temporary files, stale links, newer models."""
    clean_unfinished(output_dir)
    last, reporter = 0, None
    if (output_dir / CHECKPOINT).exists():
        from espnet2.train.reporter import Reporter

        reporter = Reporter()
        reporter.load_state_dict(read_states(output_dir / CHECKPOINT)["reporter"])
        last = reporter.get_epoch()
    for epoch, file in epoch_files(output_dir).items():
        if epoch > last:  # it will be trained again
            file.unlink()
    if reporter is None:
        return
    link(output_dir / "latest.pth", epoch_file(last))
    for phase, key, mode in criteria:
        if reporter.has(phase, key):
            best = epoch_file(reporter.get_best_epoch(phase, key, mode))
            if (output_dir / best).exists():
                link(output_dir / f"{phase}.{key}.best.pth", best)
