"""The page of several tasks on one backbone: scores, parameters and bytes of packs, and of finetuned models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from s3router.errors import DataError
from s3router.files import read_json, write_lines
from s3router.packs.pack_file import read_parts
from s3router.superb.experiment import TaskExperiment
from s3router.training.checkpoints import read_states
from s3router.upstreams.hub import build


def result_of(folder: Path) -> dict:
    """The only ``predict_*/result.json`` of an experiment. Raises DataError."""
    files = sorted(folder.glob("predict_*/result.json"))
    if len(files) != 1:
        raise DataError(f"{folder}: {len(files)} predicted sets, expected one; run run_multitask.sh from stage 1")
    return read_json(files[0], "run run_multitask.sh from stage 1")


def test_set(recipe: Path, tag: str) -> Path:
    """The directory that a recipe's routed model has predicted (its path is relative to the recipe)."""
    return recipe / result_of(recipe / "exp" / f"{tag}_router")["data_dir"]


def numbers(upstream: str, ckpt: str | None) -> tuple[int, int]:
    """(parameters of the upstream, those of its feature extractor, which finetuning leaves alone)."""
    built = build(ckpt=ckpt, upstream=upstream)
    inside = () if built.front_end is None else built.front_end.parameters()
    return sum(p.numel() for p in built.backbone.parameters()), sum(p.numel() for p in inside)


def row_of(recipe: Path, tag: str, work: Path) -> dict:
    """Figures of one task; those of the finetuned model are None where it was not trained."""
    name = recipe.name.removesuffix("1")
    pack = work / "packs" / f"{name}.pack"
    parts = read_parts(pack)
    head = [array.size for key, (_, array) in parts.tensors.items() if key.split(".")[0] in ("head", "featurizer")]
    own = result_of(recipe / "exp" / f"{tag}_router")
    routed = read_json(work / "routed" / f"predict_{name}" / "result.json", "run run_multitask.sh from stage 4")
    row = {
        "name": name,
        "utts": routed["n_utts"],
        "routed": routed["accuracy"],
        "own": own["accuracy"],
        "interval": routed["interval"],
        "bits": sum(entry.count for entry in parts.description.masks.values()),
        "head": sum(head),
        "pack": parts.size,
        "weight": None,
    }
    folder = recipe / "exp" / f"{tag}_weight"
    if folder.is_dir():
        best = folder / "selected" / "best.pth"
        trained = read_states(best)["model"]
        row |= {
            "weight": result_of(folder)["accuracy"],
            "trained": sum(tensor.numel() for tensor in trained.values() if isinstance(tensor, torch.Tensor)),
            "file": best.stat().st_size,
        }
    return row


def page(rows: list[dict], options: dict, total: int, convolutions: int) -> list[str]:
    """Markdown."""
    compared = all(row["weight"] is not None for row in rows)
    lines = [
        f"# {len(rows)} tasks on one {options['upstream']}",
        "",
        f"Sparsity {options['sparsity']:g}, seed {options['seed']}. A mask and a head for each task; all through one "
        "resident upstream. Unconstrained track of SUPERB. Selection on the validation sets.",
        "",
        "| task | utterances | accuracy %, one upstream | 95 % interval | its own model | finetuned model |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        low, high = row["interval"]
        other = "" if row["weight"] is None else f"{100 * row['weight']:.2f}"
        lines.append(
            f"| {row['name']} | {row['utts']} | {100 * row['routed']:.2f} | {100 * low:.1f}–{100 * high:.1f} "
            f"| {100 * row['own']:.2f} | {other} |"
        )
    lines += [
        "",
        "| task | bits of mask | numbers of head | bytes of pack | numbers finetuned | bytes of checkpoint |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        weight = f"{row['trained']:,} | {row['file']:,}" if row["weight"] is not None else " | "
        lines.append(f"| {row['name']} | {row['bits']:,} | {row['head']:,} | {row['pack']:,} | {weight} |")
    packs = sum(row["pack"] for row in rows)
    heads = sum(row["head"] for row in rows)
    lines += ["", f"- One backbone ({total:,} parameters) and {len(rows)} packs: {total + heads:,} parameters and "]
    lines[-1] += f"{sum(row['bits'] for row in rows):,} bits, {4 * total + packs:,} bytes (backbone in float32)."
    if compared:
        files = sum(row["file"] for row in rows) + 4 * convolutions
        numbers_ = sum(row["trained"] for row in rows) + convolutions
        lines.append(
            f"- {len(rows)} finetuned models: {numbers_:,} parameters, {files:,} bytes (the {convolutions:,} of the "
            f"frozen convolutions counted once): {files / (4 * total + packs):.2f} times as many bytes."
        )
    return lines


def write_page(recipes: Sequence[Path], tag: str, work: Path, output: Path) -> list[str]:
    """Write the page of the recipes' experiments ``TAG_router`` and ``TAG_weight``; returns its lines.

    Args:
        work: folder with ``packs/TASK.pack`` and ``routed/predict_TASK/result.json``.
    """
    rows = [row_of(recipe, tag, work) for recipe in recipes]
    router = TaskExperiment(recipes[0] / "exp" / f"{tag}_router")
    lines = page(rows, router.options, *numbers(router.upstream, router.upstream_ckpt))
    write_lines(output, lines)
    return lines
