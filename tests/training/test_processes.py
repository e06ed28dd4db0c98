"""Devices of a training run."""

from __future__ import annotations

import pytest
import torch

from s3router.errors import ConfigError
from s3router.training.processes import check_device


def test_a_device_that_torch_was_not_built_for_is_refused():
    check_device("cpu")
    built = {"xpu": torch.xpu.is_available(), "mps": torch.backends.mps.is_available()}
    for device in [name for name, here in built.items() if not here]:
        with pytest.raises(ConfigError, match=f"--device {device}: no such device; known: cpu, cuda"):
            check_device(device)
