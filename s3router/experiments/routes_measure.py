"""Measurements of finished models: transcripts through the router, bytes, memory, and which language was found.

`measure` gathers it into one small file beside the result files, so that the page can be written without the models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3router.asr.experiment import ASRExperiment
from s3router.errors import DataError
from s3router.experiments.grid import Grid
from s3router.experiments.memory import measure_all
from s3router.experiments.one_run import commit
from s3router.experiments.reading import recognised
from s3router.experiments.routes_grid import Routes
from s3router.experiments.upstream_files import size, upstream_files
from s3router.files import read_json, write_json
from s3router.scoring.files import read_text

CODECS = {"bits": "packs", "coded": "packs_coded"}
"""Codec -> folder of its packs; the router holds those of ``bits``."""
_METRICS = ("wer", "cer", "per", "accuracy")


def settings_of(grid: Grid, routes: Routes) -> dict[str, Any]:
    """What a measurement is of."""
    return {
        **{"routes": list(routes.values), "at": dict(routes.at), "sparsities": list(routes.sparsities)},
        **{
            "seed": routes.seed,
            "upstream": grid.upstream,
            "upstream_id": grid.upstream_id,
            "joint": list(routes.joint),
        },
        **{"joint_updates": routes.joint_updates, "max_updates": grid.overrides.max_updates},
    }


def measure(grid: Grid, routes: Routes) -> dict[str, Any]:
    """Measure memory, and gather what the other commands have left in ``routes.work``; writes ``routes.measured``.

    Raises:
        DataError: something has not been made; the stage that makes it is named.
    """
    from s3router.packs import summary

    work = routes.work
    langid = read_json(work / "langid.json", f"run {routes.command} --stage 5")
    packs = {c: {r: _pack(summary.figures(work / f / f"{r}.pack")) for r in routes.values} for c, f in CODECS.items()}
    routed = {route: recognised(work / f"routed/decode_{route}") for route in routes.values}
    differing = {route: _differing(work, route) for route in routes.values}
    checkpoints = {f"{route}_weight": work / f"models/{route}_weight" / ASRExperiment.BEST for route in routes.values}
    if "weight" in routes.joint:
        checkpoints["joint_weight"] = work / "models/joint_weight" / ASRExperiment.BEST
    files = upstream_files(grid.upstream, grid.upstream_ckpt)
    found = {
        "settings": settings_of(grid, routes),
        "routed": routed,
        "differing": differing,
        "packs": packs,
        "checkpoints": {name: path.stat().st_size for name, path in checkpoints.items()},
        "backbone": {"bytes": size(files) if files else None, "precision": precision(files)},
        "memory": measure_all(work, routes.values, grid.upstream, grid.upstream_ckpt),
        "langid": langid,
        "commit": commit(grid.folder),
    }
    write_json(routes.measured, found, indent=None)
    return found


def read_measured(grid: Grid, routes: Routes) -> dict[str, Any] | None:
    """What `measure` has written; None where there is nothing.

    Raises:
        DataError: it is of other settings.
    """
    if not routes.measured.is_file():
        return None
    found = read_json(routes.measured, f"run {routes.command} --stage 6")
    parts = ("settings", "routed", "differing", "packs", "checkpoints", "backbone", "memory", "langid")
    if any(part not in found for part in parts):
        raise DataError(f"{routes.measured} is not a measurement; {routes.command} --stage 6 writes it anew")
    wanted = settings_of(grid, routes)
    differ = [name for name, value in wanted.items() if found["settings"].get(name) != value]
    if differ:
        raise DataError(f"{routes.measured} is of other {', '.join(differ)}; {routes.command} --stage 6 measures these")
    return found


def _pack(figures: dict[str, Any]) -> dict[str, Any]:
    """What the page says of a pack, of all that `s3router inspect` knows."""
    metrics = {part: {n: v for n, v in own.items() if n in _METRICS} for part, own in figures["metrics"].items()}
    names = ("sparsity", "plain_entropy", "weights", "bits_per_weight")
    masks = {name: figures["masks"][name] for name in names if name in figures["masks"]}
    training = {"score_lr": figures["training"].get("score_lr")}
    return {"masks": masks, "bytes": figures["bytes"], "metrics": metrics, "training": training}


def _differing(work: Path, route: str) -> tuple[int, int]:
    """(utterances whose transcript by the router is not that of the single model, all)."""
    alone = read_text(work / f"models/{route}_router/decode_test/text")
    together = read_text(work / f"routed/decode_{route}/text")
    utts = alone.keys() | together.keys()
    return sum(alone.get(utt) != together.get(utt) for utt in utts), len(utts)


def precision(files: list[Path]) -> str:
    """In which precision the backbone lies on disk, where that can be seen."""
    path = next((path for path in files if path.suffix == ".safetensors"), None)
    if path is None:
        return ""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no mapping)
    return ", ".join(sorted(kinds))
