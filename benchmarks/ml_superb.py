"""The ML-SUPERB 2.0 challenge's interface with 154 languages on one backbone: memory, time to load, time of a call.

The backbone has the size of a public model and random weights; packs have random masks of its feed-forward layers, and
the classifier random rows on the first third of the layers. So texts and languages mean nothing, and bytes and seconds
are those of trained ones. Every number of languages has a process of its own. The challenge allows 24 GB for inference
(of a GPU; measured here is what the process has in memory on a CPU, Python and torch included).

A call is measured on one recording with the language told, the same as before or another (which switches masks); with
the language found by the classifier; and in doubt, when the three likeliest routes decode.

    python benchmarks/ml_superb.py --threads 2
    python benchmarks/ml_superb.py --upstream mms_1b --languages 2 40 --output mms_1b.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np
from scale import Shape
from serve_packs import DISTINCT, Packs
from serving_client import resident

UPSTREAM = "hf_wav2vec2_custom"
ALLOWED_MB = 24_000
HEADS = 16  # of XLS-R 300M and MMS 1B
CALLS = {
    "told, as before": "the language is told, and is that of the call before",
    "told, another": "the language is told, and is another than before: a switch of masks",
    "found": "the classifier finds it, without doubt; mostly another than before",
    "in doubt": "the classifier is in doubt: three routes decode",
}


def write_backbone(name: str, folder: Path) -> int:
    """A random wav2vec 2.0 of a public model's size as a HuggingFace folder; returns its parameters."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    shape = Shape.read(name)
    config = Wav2Vec2Config(
        **{"hidden_size": shape.width, "num_hidden_layers": shape.layers, "intermediate_size": shape.ffn},
        **{"num_attention_heads": HEADS, "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    )
    torch.manual_seed(0)
    model = Wav2Vec2Model(config)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def write_folder(folder: Path, ckpt: Path, languages: int, codec: str) -> list[str]:
    """Packs and a classifier; returns the languages."""
    from s3router.serving.language_classifier import LanguageClassifier

    packs = Packs(UPSTREAM, str(ckpt))
    routes = packs.write(folder, packs.masked(min(languages, DISTINCT)), codec, "l", languages)
    shape = json.loads((ckpt / "config.json").read_text())
    width, layers = shape["hidden_size"], shape["num_hidden_layers"] // 3
    rng = np.random.default_rng(0)
    LanguageClassifier(
        tuple(routes),
        layers,
        *(np.full(2 * width, value, np.float32) for value in (0.0, 1.0)),
        rng.standard_normal((len(routes), 2 * width)).astype(np.float32),
        np.zeros(len(routes), np.float32),
        UPSTREAM,
        str(ckpt),
        packs.model.backbone_fingerprint,
        {},
    ).save(folder / "langid.pack")
    return routes


def measure(folder: Path, ckpt: Path, languages: list[str], args: argparse.Namespace) -> dict:
    """In this process, which should be a fresh one: the class loaded with these languages, and its calls."""
    from s3router.serving.identify_first import Doubt
    from s3router.serving.ml_superb import API

    started = time.monotonic()
    api = API(folder, upstream=UPSTREAM, ckpt=str(ckpt))
    loaded = time.monotonic() - started
    found = {"languages": len(languages), "load": loaded, "loaded_mb": resident(os.getpid()) / 1e6}
    wave = np.random.default_rng(1).uniform(-0.1, 0.1, round(16000 * args.audio_seconds)).astype(np.float32)
    turn = iter(range(10**6))

    def told_another() -> None:
        api(wave, languages[next(turn) % len(languages)])

    calls: list[tuple[str, Doubt, Callable[[], object]]] = [
        ("told, as before", Doubt(), lambda: api(wave, languages[0])),
        ("told, another", Doubt(), told_another),
        ("found", Doubt(), lambda: api(wave * np.float32(1 + next(turn) / 100))),
        ("in doubt", Doubt(best=min(3, len(languages)), sure=1.0), lambda: api(wave)),
    ]
    found["calls"] = {}
    for name, doubt, call in calls:
        api.doubt = doubt
        call()
        times = []
        for _ in range(args.runs):
            started = time.monotonic()
            call()
            times.append(time.monotonic() - started)
        found["calls"][name] = times
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    found["at_work_mb"] = resident(os.getpid()) / 1e6
    return found


def table(found: list[dict], parameters: int, disk: int, args: argparse.Namespace) -> str:
    """The Markdown page."""
    few, many = found[0], found[-1]
    each = (many["loaded_mb"] - few["loaded_mb"]) / max(1, many["languages"] - few["languages"])
    lines = [
        f"A wav2vec 2.0 of the size of `{args.upstream}` ({parameters / 1e6:.0f} M parameters, random, float32), masks "
        f"of sparsity 0.1 in the feed-forward layers, {args.threads} thread(s), {args.audio_seconds:g} s of audio, "
        f"medians of {args.runs} calls.",
        "",
        "| | " + " | ".join(f"{row['languages']} languages" for row in found) + " |",
        "|---|" + "---:|" * len(found),
        "| loading, s | " + " | ".join(f"{row['load']:.1f}" for row in found) + " |",
        "| in memory, loaded, MB | " + " | ".join(f"{row['loaded_mb']:,.0f}" for row in found) + " |",
        "| in memory, at work, MB | " + " | ".join(f"{row['at_work_mb']:,.0f}" for row in found) + " |",
        "| most at any time, MB | " + " | ".join(f"{row['peak_mb']:,.0f}" for row in found) + " |",
    ]
    for name in CALLS:
        medians = [statistics.median(row["calls"][name]) for row in found]
        lines.append(f"| a call, {name}, ms | " + " | ".join(f"{1000 * value:,.0f}" for value in medians) + " |")
    share = many["peak_mb"] / ALLOWED_MB
    lines += [
        "",
        f"One language more: {each:.1f} MB in memory, {disk / 1e6:.1f} MB on disk (codec {args.codec}, random masks). "
        f"{many['languages']} languages take {share:.0%} of 24 GB at most.",
        "",
        *(f"- *{name}*: {meaning}." for name, meaning in CALLS.items()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", default="xls_r_300m", help="whose size is taken")
    parser.add_argument("--languages", type=int, nargs="+", default=[2, 154])
    parser.add_argument("--codec", choices=("bits", "coded", "gaps"), default="gaps")
    parser.add_argument("--audio-seconds", type=float, default=7.0, help="length of a recording")
    parser.add_argument("--runs", type=int, default=5, help="of each kind of call")
    parser.add_argument(
        "--work", type=Path, help="where packs and backbone are written, 3 GB (default: a temporary folder)"
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a folder that is written already, in a child
    common.add_common(parser, "ml_superb", dtype=False)
    args = parser.parse_args()
    common.settle(args)
    if args.measure:
        languages = sorted(path.stem for path in args.measure.glob("l[0-9]*.pack"))
        print(json.dumps(measure(args.measure, args.work / "backbone", languages, args)))
        return
    work = args.work or Path(tempfile.mkdtemp(prefix="ml-superb-"))
    found = []
    try:
        parameters = write_backbone(args.upstream, work / "backbone")
        for count in args.languages:
            folder = work / str(count)
            write_folder(folder, work / "backbone", count, args.codec)
            disk = (folder / "l0000.pack").stat().st_size
            options = ["--threads", str(args.threads), "--audio-seconds", str(args.audio_seconds)]
            options += ["--runs", str(args.runs), "--work", str(work), "--measure", str(folder)]
            done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, check=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{count} languages: {found[-1]['peak_mb']:,.0f} MB", file=sys.stderr)
            shutil.rmtree(folder)
    finally:
        if args.work is None:
            shutil.rmtree(work)
    result = {"parameters": parameters, "pack_bytes": disk, "processes": found}
    common.write(args, result, table(found, parameters, disk, args))


if __name__ == "__main__":
    main()
