"""Resident memory and parameters of the three ways to serve several languages, each in processes of their own.

    python local/multilingual/memory.py --work DIR --langs en es ... --output DIR/memory.json

- ``routes``: one backbone with all packs;
- ``models``: one finetuned model for each language;
- ``joint``: one model for all, where it was trained.

Each process imports the same modules, notes its resident memory, loads, uses every model once on a tenth of a second,
gives back what is freed, and looks again. The contenders take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from s3router.errors import DataError, S3RouterError
from s3router.files import write_lines


def resident_mb() -> float:
    """Resident memory of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(contender: str, args: argparse.Namespace) -> dict[str, float]:
    """Load one contender in this process: MB of it, MB of the process, parameters as they lie in memory."""
    import gc
    import logging

    import torch

    from s3router.asr import engine
    from s3router.asr.experiment import ASRExperiment
    from s3router.serving.loading import load_routes
    from s3router.upstreams.memory import give_back_memory

    logging.disable(logging.WARNING)  # ESPnet says for each model that it has no decoder
    torch.set_num_threads(1)
    engine.routed_task()  # imports ESPnet
    import transformers.models.hubert.modeling_hubert  # noqa: F401  of most upstreams; else counts against all alike

    wave, models = torch.randn(1600), []
    before = resident_mb()
    if contender == "routes":
        model = load_routes(
            [args.work / f"packs/{lang}.pack" for lang in args.langs], args.upstream, args.upstream_ckpt
        )
        for route in model.routes:
            model.log_probs([wave], route)
        heads = [model.head(route).buffers() for route in model.routes]
        parameters = count(model.upstream.parameters()) + sum(map(count, heads))
    else:
        names = ["joint_weight"] if contender == "joint" else [f"{lang}_weight" for lang in args.langs]
        models = [ASRExperiment(args.work / "models" / name).model() for name in names]
        with torch.inference_mode():
            for model in models:
                model.encode(wave[None], torch.tensor([len(wave)]))
        parameters = sum(count(model.parameters()) for model in models)
    gc.collect()
    give_back_memory()
    after = resident_mb()
    return {"mb": after - before, "process_mb": after, "parameters": parameters}


def count(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


def contenders(work: Path) -> list[str]:
    """Those whose models are there."""
    return ["routes", "models", *(["joint"] if (work / "models/joint_weight").exists() else [])]


def measure_all(args: argparse.Namespace) -> dict[str, dict]:
    """contender -> medians and single values.

    Raises:
        DataError: a process failed.
    """
    found: dict[str, list[dict]] = {name: [] for name in contenders(args.work)}
    for _ in range(args.runs):
        for name, values in found.items():
            command = [sys.executable, __file__, *args.again, "--contender", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise DataError(f"measuring {name} failed with status {done.returncode}: see above")
            values.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} | {"runs": runs}
        for name, runs in found.items()
    }


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--langs", nargs="+", required=True)
    parser.add_argument("--upstream")
    parser.add_argument("--upstream-ckpt")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--contender", choices=("routes", "models", "joint"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.again = sys.argv[1:] if argv is None else argv
    try:
        if args.contender:
            print(json.dumps(measure(args.contender, args)))
            return 0
        found = measure_all(args)
        if args.output:
            write_lines(args.output, [json.dumps(found, indent=1)])
        print("; ".join(f"{name} {values['mb']:.0f} MB" for name, values in found.items()))
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
