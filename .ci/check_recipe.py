#!/usr/bin/env python3
"""Check what a run of the ASR recipe left: data, checkpoints without the backbone, decodings that fit the table."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from s3router.data.kaldi import DataDir

DECODED = ("text", "hyp.trn", "ref.trn", "alignments.txt", "result.json")
TRAINED = ("config.yaml", "checkpoint.pth", "valid.cer_ctc.best.pth", "settings", "console.log", "RESULTS.md")


def problems(recipe: Path, exp: Path, lang: str) -> list[str]:
    """One line for each thing that is not as it should be."""
    found = [f"{exp / name} is missing" for name in TRAINED if not (exp / name).is_file()]
    data = {name: DataDir.read(recipe / "data" / lang / name) for name in ("train", "train_2min", "dev", "test")}
    splits = {name: {utt.text for utt in data[name].utts} for name in ("train", "dev", "test")}
    if any(splits[a] & splits[b] for a, b in (("train", "dev"), ("train", "test"), ("dev", "test"))):
        found.append("a text stands in two of train, dev and test")
    if found:
        return found

    import torch

    states = torch.load(exp / "valid.cer_ctc.best.pth", weights_only=True, map_location="cpu")
    scores = [name for name in states if ".scores" in name]
    if not scores:
        found.append(f"no mask scores among the {len(states)} tensors of the checkpoint")
    frozen = [name for name in states if name.endswith((".original", "q_proj.weight")) or "feature_extractor" in name]
    if frozen:
        found.append(f"the checkpoint holds frozen weights: {frozen[:3]}")

    rows = dict(re.findall(r"\| \S+ \| (\S+) \| (\d+ \| [\d.]+ \| [\d.]+) \|", (exp / "RESULTS.md").read_text()))
    for name in ("dev", "test"):
        folder, utts = exp / f"decode_{name}", data[name].utts
        found += [f"{folder / file} is missing" for file in DECODED if not (folder / file).is_file()]
        if found:
            continue
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        row = f"{len(utts)} | {100 * result['wer']:.2f} | {100 * result['cer']:.2f}"
        if rows.get(name) != row:
            found.append(f"RESULTS.md says {rows.get(name)!r} of {name}, the decoding {row!r}")
        if not 0 < result["cer"] <= 1.5:
            found.append(f"a CER of {result['cer']:.3f} on {name}: decoding is broken")
        lines = (folder / "text").read_text(encoding="utf-8").splitlines()
        if [line.split(maxsplit=1)[0] for line in lines] != [utt.utt for utt in utts]:
            found.append(f"{folder / 'text'} does not hold the utterances of {name}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--lang", required=True)
    args = parser.parse_args()
    found = problems(args.recipe, args.exp, args.lang)
    for problem in found:
        print(f"check_recipe: {problem}", file=sys.stderr)
    if not found:
        print((args.exp / "RESULTS.md").read_text(encoding="utf-8"), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
