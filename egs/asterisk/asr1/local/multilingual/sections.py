"""The sections of the page that are about packs: how large they are, and which language is spoken."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import figures
from figures import Made, read_json
from one_run import BEST
from report import LANGUAGES, NONE, markdown

MB = 1e6


def sizes(made: Made) -> Iterator[str]:
    memory = read_json(made.work / "memory.json", "6")
    files = figures.backbone_files(made.grid.upstream, made.grid.upstream_ckpt)
    backbone, count = figures.size(files), len(made.langs)
    masked = sum(pack["masks"]["weights"] for pack in made.packs["bits"])
    whole = {"models": memory["models"]["parameters"], "routes": memory["routes"]["parameters"] + masked / 32}

    def row(name: str, contender: str, parameters: float, learnt: int) -> list[str]:
        found = memory[contender]
        disk = [f"{x / MB:.2f}" for x in (learnt, learnt + backbone)] if files else [f"{learnt / MB:.2f}", NONE]
        return [name, f"{parameters / 1e6:.2f}", *disk, f"{found['mb']:.0f}", f"{found['process_mb']:.0f}"]

    checkpoints = [made.work / f"models/{lang}_weight" / BEST for lang in made.langs]
    body = [row(f"{count} finetuned models", "models", whole["models"], figures.size(checkpoints))]
    for codec, packs in made.packs.items():
        learnt = sum(sum(pack["bytes"].values()) for pack in packs)
        body.append(row(f"one backbone, {count} packs ({codec})", "routes", whole["routes"], learnt))
    if "joint" in memory:
        path = made.work / "models/joint_weight" / BEST
        body.append(row("one joint model", "joint", memory["joint"]["parameters"], figures.size([path])))
    yield "## Size"
    yield ""
    header = ["", "parameters, M", "learnt, MB on disk", "with the backbone's file", "resident MB", "whole process"]
    yield from markdown(header, body)
    yield ""
    routes, models = memory["routes"], memory["models"]
    yield from paragraph(
        f"S3-Router against finetuned models: {saved(whole['routes'], whole['models'])} of the parameters (a mask",
        f"bit counts as 1/32 of one), {saved(routes['mb'], models['mb'])} of the resident memory. MB are 10⁶ bytes",
        "on disk, 2²⁰ in memory. Learnt: packs, or checkpoints in float32 without the feature extractor, which",
        f"stays frozen and is in the backbone's file{precision(files)}. Resident: above what Python takes with all",
        f"modules imported, after each model was used once; medians of {len(routes['runs'])} processes, one",
        "thread, all weights in float32. It is the same for both codecs: in memory masks are bits.",
        *one_model(memory),
    )


def one_model(memory: dict) -> list[str]:
    """How much of the resident memory comes with the first model, whatever their number."""
    if "joint" not in memory:
        return []
    whole, weights = memory["joint"]["mb"], 4 * memory["joint"]["parameters"] / 2**20
    return [
        f"Of one model alone (the joint one) {weights:.0f} MB are its weights; the other {whole - weights:.0f} MB,",
        "buffers and code of the first pass, come once in every row.",
    ]


def pack_table(made: Made) -> Iterator[str]:
    yield "## Packs"
    yield ""
    header = ["", "sparsity", "score lr", "plain entropy", "bits a weight, coded", "bytes, bits", "bytes, coded"]
    body = []
    for lang, bits, coded in zip(made.langs, made.packs["bits"], made.packs["coded"], strict=True):
        masks, sizes = coded["masks"], (f"{sum(pack['bytes'].values()):,}" for pack in (bits, coded))
        lr = coded["training"].get("score_lr")
        rates = [f"{100 * bits['metrics'].get(part, {})['wer']:.1f}" for part in ("dev", "test")]
        body.append([LANGUAGES.get(lang, lang), f"{masks['sparsity']:.2f}", NONE if lr is None else f"{lr:g}"])
        body[-1] += [f"{masks['plain_entropy']:.4f}", f"{masks['bits_a_weight']:.4f}", *sizes, *rates]
    yield from markdown([*header, "dev WER", "test WER"], body)
    yield ""
    yield "Codec `bits` takes one bit for each masked weight. WER of the single model that the pack was made from."


def language_identification(made: Made) -> Iterator[str]:
    found = read_json(made.work / "langid.json", "5")
    counts = found["counts"]["compared with usual"]
    yield "## Which language is it?"
    yield ""
    body = []
    for lang in made.langs:
        row = counts[lang]
        right = f"{100 * row[lang] / sum(row.values()):.1f}"
        body.append([LANGUAGES.get(lang, lang), *(str(row[other]) for other in made.langs), right])
    yield from markdown(["spoken", *made.langs, "right %"], body)
    yield ""
    total = sum(sum(row.values()) for row in counts.values())
    right, plain = (100 * found["accuracy"][way] for way in ("compared with usual", "as they are"))
    yield from paragraph(
        f"By `s3router langid --test`, as `transcribe --lang auto` does it: **{right:.1f} %** of {total} test",
        f"utterances; {plain:.1f} % when confidences are compared as they are; {100 / len(made.langs):.0f} % by",
        f"chance. Cost: {found['transformer_passes']} passes through the transformer an utterance instead of 1,",
        f"and 1 through the convolutions; {found['audio_seconds']:.0f} s of audio took {found['seconds']:.0f} s (wall",
        "time, one thread). Each language is one speaker here (English and Spanish the same one), so voices may help",
        "as much as languages do.",
    )


def paragraph(*texts: str) -> list[str]:
    """Running text in lines of 118 characters."""
    return textwrap.wrap(" ".join(texts), 118, break_long_words=False, break_on_hyphens=False)


def saved(less: float, more: float) -> str:
    """Like "−72.3 %"."""
    return f"{100 * (less / more - 1):+.1f} %".replace("-", "−")


def precision(files: list[Path]) -> str:
    """In which precision the backbone lies on disk, where that can be seen."""
    path = next((path for path in files if path.suffix == ".safetensors"), None)
    if path is None:
        return ""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no mapping)
    return f" (that in {', '.join(sorted(kinds))})"
