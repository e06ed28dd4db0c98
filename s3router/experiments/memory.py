"""Resident memory and parameters of the ways to serve several routes, each in processes of their own.

- ``routes``: one backbone with all packs;
- ``models``: one finetuned model for each route;
- ``joint``: one model for all, where it was trained.

Each process imports the same modules, notes its resident memory, loads, uses every model once on a tenth of a second,
gives back what is freed, and looks again. The contenders take turns. ``python -m s3router.experiments.memory`` is such
a process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from s3router.errors import DataError
from s3router.experiments.executors import with_package


def resident_mb() -> float:
    """Resident memory of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(
    contender: str, work: Path, routes: Sequence[str], upstream: str | None, checkpoint: str | None
) -> dict[str, float]:
    """Load one contender in this process: MB of it, MB of the process, parameters as they lie in memory."""
    import gc
    import logging

    import torch

    from s3router.asr.experiment import ASRExperiment
    from s3router.asr.train import routed_task
    from s3router.serving.loading import load_routes
    from s3router.upstreams.memory import give_back_memory

    logging.disable(logging.WARNING)  # ESPnet says for each model that it has no decoder
    torch.set_num_threads(1)
    routed_task()  # imports ESPnet
    import transformers.models.hubert.modeling_hubert  # noqa: F401  of most upstreams; else counts against all alike

    wave, models = torch.randn(1600), []
    before = resident_mb()
    if contender == "routes":
        model = load_routes([work / f"packs/{route}.pack" for route in routes], upstream, checkpoint)
        for route in model.routes:
            model.log_probs([wave], route)
        heads = [model.head(route).buffers() for route in model.routes]
        parameters = count(model.upstream.parameters()) + sum(map(count, heads))
    else:
        names = ["joint_weight"] if contender == "joint" else [f"{route}_weight" for route in routes]
        models = [ASRExperiment(work / "models" / name).model() for name in names]
        with torch.inference_mode():
            for model in models:
                model.encode(wave[None], torch.tensor([len(wave)]))
        parameters = sum(count(model.parameters()) for model in models)
    gc.collect()
    give_back_memory()
    after = resident_mb()
    return {"mb": after - before, "process_mb": after, "parameters": parameters}


def measure_packs(packs: Sequence[Path], backbone: Sequence[str] = ()) -> dict[str, float]:
    """MB of packs on one backbone, MB of the process, parameters of the backbone; in a process of its own.

    Args:
        backbone: ``--upstream NAME`` and the like, where the packs do not say enough.

    Raises:
        DataError: the process failed.
    """
    command = [sys.executable, "-m", "s3router.experiments.memory", "packs", ".", *map(str, packs), *backbone]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=with_package(os.environ))
    if done.returncode:
        raise DataError(f"measuring the packs failed with status {done.returncode}: see above")
    return json.loads(done.stdout.splitlines()[-1])


def _measure_packs(packs: Sequence[str], upstream: str | None, checkpoint: str | None) -> dict[str, float]:
    import gc
    import tempfile

    import numpy as np
    import soundfile
    import torch

    from s3router.data.recordings import find_recordings
    from s3router.serving.loading import load_routes
    from s3router.serving.transcribe import hear
    from s3router.upstreams.memory import give_back_memory

    torch.set_num_threads(1)
    import transformers.models.hubert.modeling_hubert
    import transformers.models.whisper.modeling_whisper  # noqa: F401

    before = resident_mb()
    model = load_routes(packs, upstream, checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        soundfile.write(f"{folder}/noise.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 3200), 16000)
        for route in model.routes:
            list(hear(model, find_recordings([f"{folder}/noise.wav"]), [route]))
    gc.collect()
    give_back_memory()
    after = resident_mb()
    backbone = model.upstream.backbone if model.whole is None else model.whole.model
    return {"mb": after - before, "process_mb": after, "parameters": count(backbone.parameters())}


def count(tensors: Iterable) -> int:
    """Numbers in tensors."""
    return sum(tensor.numel() for tensor in tensors)


def measure_all(
    work: Path, routes: Sequence[str], upstream: str | None = None, checkpoint: str | None = None, runs: int = 3
) -> dict[str, dict]:
    """contender -> medians and single values, of those whose models are there.

    Args:
        work: folder with ``packs/ROUTE.pack`` and ``models/ROUTE_weight``.

    Raises:
        DataError: a process failed.
    """
    names = ["routes", "models", *(["joint"] if (work / "models/joint_weight").exists() else [])]
    found: dict[str, list[dict]] = {name: [] for name in names}
    backbone = [
        *(["--upstream", upstream] if upstream else []),
        *(["--upstream-ckpt", checkpoint] if checkpoint else []),
    ]
    for _ in range(runs):
        for name, values in found.items():
            command = [sys.executable, "-m", "s3router.experiments.memory", name, str(work), *routes, *backbone]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=with_package(os.environ))
            if done.returncode:
                raise DataError(f"measuring {name} failed with status {done.returncode}: see above")
            values.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {key: statistics.median(run[key] for run in values) for key in values[0]} | {"runs": values}
        for name, values in found.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """One process that measures one contender."""
    parser = argparse.ArgumentParser(prog="s3router.experiments.memory")
    parser.add_argument("contender", choices=("routes", "models", "joint", "packs"))
    parser.add_argument("work", type=Path)
    parser.add_argument("routes", nargs="+")
    parser.add_argument("--upstream")
    parser.add_argument("--upstream-ckpt")
    args = parser.parse_args(argv)
    if args.contender == "packs":
        print(json.dumps(_measure_packs(args.routes, args.upstream, args.upstream_ckpt)))
        return 0
    print(json.dumps(measure(args.contender, args.work, args.routes, args.upstream, args.upstream_ckpt)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
