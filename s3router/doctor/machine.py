"""The machine, as training and serving find it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor cores and threads, memory in GB of 1e9 bytes, GPUs, and the faster arithmetic; plain data for JSON."""
    import torch

    total, available = _memory()
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "memory_gb": total,
        "available_gb": available,
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
        "arithmetic": arithmetic("cuda" if gpus else "cpu"),
    }


def arithmetic(device: str) -> dict[str, Any]:
    """Which arithmetic training would take on a device, and on a CPU the speeds that were measured.

    See `s3router.training.arithmetic.choose_arithmetic`; the layer has a base model's widths.
    """
    from s3router.training.arithmetic import choose_arithmetic, gflops

    speeds: dict[str, float] = {}

    def measure(hidden: int, ffn: int) -> dict[str, float]:
        speeds.update(gflops(hidden, ffn))
        return speeds

    chosen = choose_arithmetic(device, measure=measure)
    return {"device": device, "fastest": chosen, "gflops": {name: round(speed, 1) for name, speed in speeds.items()}}


def _memory() -> tuple[float, float]:
    """(all, available) GB, as Linux counts them."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return round(kib["MemTotal"] * 1024 / 1e9, 1), round(kib["MemAvailable"] * 1024 / 1e9, 1)
