"""Processes of a training run: a single one, or those that torchrun has started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from s3router.errors import ConfigError


def check_device(device: str) -> None:
    """Raise ConfigError where there is no such device here: ``cpu``, ``cuda``, ``cuda:1``."""
    try:
        found = torch.device(device)
        if found.type != "cuda":
            torch.empty(0, device=found)  # torch knows the names of devices that it was not built for
    except (RuntimeError, AssertionError):
        raise ConfigError(f"--device {device}: no such device; known: cpu, cuda, cuda:0, cuda:1 …") from None
    if found.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: torch finds no GPU here; use --device cpu")
    if (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: torch finds {torch.cuda.device_count()} GPU(s) here")


@contextlib.contextmanager
def processes(device: str) -> Iterator[tuple[int, int, str]]:
    """(rank, number of processes, device of this one). With several, a process group exists while the block runs.

    Raises:
        ConfigError: there is no such device.
    """
    check_device(device)
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield 0, 1, device
        return
    rank = int(os.environ["RANK"])
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield rank, world, device
    finally:
        torch.distributed.destroy_process_group()
