"""The sections of that page that need finished models: transcripts, sizes, packs, and which language is spoken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from s3router.experiments.markdown import NONE, paragraph, table
from s3router.experiments.routes_grid import Routes

_MB = 1e6


def sections(measured: Mapping[str, Any], routes: Routes, title: Callable[[str], str]) -> list[str]:
    """All of them."""
    lines = [*_equality(measured), ""]
    for section in (_sizes(measured, routes), _packs(measured, routes, title), _languages(measured, routes, title)):
        lines += [*section, ""]
    return lines


def _equality(measured: Mapping[str, Any]) -> Iterator[str]:
    found = measured["differing"]
    wrong, every = (sum(column) for column in zip(*found.values(), strict=True))
    where = ", ".join(f"{route} {differ} of {count}" for route, (differ, count) in found.items())
    yield from paragraph(
        f"Of {every} transcripts by the router, **{wrong}** differ from those of the single model that the pack was "
        f"made from ({where})."
    )


def _sizes(measured: Mapping[str, Any], routes: Routes) -> Iterator[str]:
    memory, backbone, count = measured["memory"], measured["backbone"]["bytes"], len(routes.values)
    masked = sum(pack["masks"]["weights"] for pack in measured["packs"]["bits"].values())
    whole = {"models": memory["models"]["parameters"], "routes": memory["routes"]["parameters"] + masked / 32}

    def row(name: str, contender: str, parameters: float, learnt: int) -> list[str]:
        found = memory[contender]
        both = NONE if backbone is None else f"{(learnt + backbone) / _MB:.2f}"
        disk = [f"{learnt / _MB:.2f}", both]
        return [name, f"{parameters / 1e6:.2f}", *disk, f"{found['mb']:.0f}", f"{found['process_mb']:.0f}"]

    checkpoints = sum(measured["checkpoints"][f"{route}_weight"] for route in routes.values)
    body = [row(f"{count} finetuned models", "models", whole["models"], checkpoints)]
    for codec, packs in measured["packs"].items():
        learnt = sum(sum(pack["bytes"].values()) for pack in packs.values())
        body.append(row(f"one backbone, {count} packs ({codec})", "routes", whole["routes"], learnt))
    if "joint" in memory:
        body.append(
            row("one joint model", "joint", memory["joint"]["parameters"], measured["checkpoints"]["joint_weight"])
        )
    yield "## Size"
    yield ""
    header = ["", "parameters, M", "learnt, MB on disk", "with the backbone's file", "resident MB", "whole process"]
    yield from table(header, body)
    yield ""
    kind = measured["backbone"]["precision"]
    yield from paragraph(
        f"S3-Router against finetuned models: {_saved(whole['routes'], whole['models'])} of the parameters (a mask",
        f"bit counts as 1/32 of one), {_saved(memory['routes']['mb'], memory['models']['mb'])} of the resident memory.",
        "MB are 10⁶ bytes on disk, 2²⁰ in memory. Learnt: packs, or checkpoints in float32 without the feature",
        f"extractor, which stays frozen and is in the backbone's file{f' (that in {kind})' if kind else ''}. Resident:",
        "above what Python takes with all modules imported, after each model was used once; medians of",
        f"{len(memory['routes']['runs'])} processes, one thread, all weights in float32. It is the same for both",
        "codecs: in memory masks are bits.",
        *_one_model(memory),
    )


def _one_model(memory: Mapping[str, Any]) -> list[str]:
    """How much of the resident memory comes with the first model, whatever their number."""
    if "joint" not in memory:
        return []
    whole, weights = memory["joint"]["mb"], 4 * memory["joint"]["parameters"] / 2**20
    return [
        f"Of one model alone (the joint one) {weights:.0f} MB are its weights; the other {whole - weights:.0f} MB,",
        "buffers and code of the first pass, come once in every row.",
    ]


def _packs(measured: Mapping[str, Any], routes: Routes, title: Callable[[str], str]) -> Iterator[str]:
    yield "## Packs"
    yield ""
    header = ["", "sparsity", "score lr", "plain entropy", "bits per weight, coded", "bytes, bits", "bytes, coded"]
    body = []
    for route in routes.values:
        bits, coded = (measured["packs"][codec][route] for codec in ("bits", "coded"))
        masks, sizes = coded["masks"], (f"{sum(pack['bytes'].values()):,}" for pack in (bits, coded))
        lr = coded["training"].get("score_lr")
        rates = [f"{100 * bits['metrics'].get(part, {})['wer']:.1f}" for part in ("dev", "test")]
        body.append([title(route), f"{masks['sparsity']:.2f}", NONE if lr is None else f"{lr:g}"])
        body[-1] += [f"{masks['plain_entropy']:.4f}", f"{masks['bits_per_weight']:.4f}", *sizes, *rates]
    yield from table([*header, "dev WER", "test WER"], body)
    yield ""
    yield "Codec `bits` takes one bit for each masked weight. WER of the single model that the pack was made from."


def _languages(measured: Mapping[str, Any], routes: Routes, title: Callable[[str], str]) -> Iterator[str]:
    found = measured["langid"]
    counts = found["counts"]["compared with usual"]
    yield "## Which language is it?"
    yield ""
    body = []
    for route in routes.values:
        row = counts[route]
        right = f"{100 * row[route] / sum(row.values()):.1f}"
        body.append([title(route), *(str(row[other]) for other in routes.values), right])
    yield from table(["spoken", *routes.values, "right %"], body)
    yield ""
    total = sum(sum(row.values()) for row in counts.values())
    right, plain = (100 * found["accuracy"][way] for way in ("compared with usual", "as they are"))
    yield from paragraph(
        f"By `s3router langid --test`, as `transcribe --lang auto` does it: **{right:.1f} %** of {total} test",
        f"utterances; {plain:.1f} % when confidences are compared as they are; {100 / len(routes.values):.0f} % by",
        f"chance. Cost: {found['transformer_passes']} passes through the transformer per utterance instead of 1,",
        f"and 1 through the convolutions; {found['audio_seconds']:.0f} s of audio took {found['seconds']:.0f} s (wall",
        "time, one thread). Each language is one speaker here (English and Spanish the same one), so voices may help",
        "as much as languages do.",
    )


def _saved(less: float, more: float) -> str:
    """Like "−72.3 %"."""
    return f"{100 * (less / more - 1):+.1f} %".replace("-", "−")
