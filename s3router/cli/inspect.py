"""``s3router inspect``: the contents of mask packs and language classifiers. The backbone is not needed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router inspect", description=__doc__)
    result.add_argument(
        "packs", nargs="+", type=Path, metavar="PACK", help="files that s3router pack or langid --fit has written"
    )
    form = result.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, as JSON: a list with one object per file")
    form.add_argument(
        "--table", action="store_true", help="one row per pack: sparsity, learning rate, bits per weight, WER"
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Read the files, checksums included, and print."""
    args = parser().parse_args(argv)
    from s3router.cli.route_options import warn
    from s3router.packs import summary
    from s3router.packs.container import LANGID, kind_of

    others = {path for path in args.packs if kind_of(path) == LANGID}
    if args.table:
        for path in sorted(others):
            warn(f"{path}: a language classifier, no mask pack; it has no row")
        print(summary.table(summary.figures(path) for path in args.packs if path not in others))
        return 0
    found = [(_classifier if path in others else summary.figures)(path) for path in args.packs]
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        pages = (_classifier_page if path in others else summary.page for path in args.packs)
        print("\n\n".join(page(each) for page, each in zip(pages, found, strict=True)))
    return 0


def _classifier(path: Path) -> dict[str, Any]:
    from s3router.serving.language_classifier import LanguageClassifier

    found = LanguageClassifier.load(path).figures()
    return {"file": os.fspath(path), "kind": "a language classifier", **found, "bytes": path.stat().st_size}


def _classifier_page(found: Mapping[str, Any]) -> str:
    from s3router.files import printable

    checkpoint = f" ({found['checkpoint']})" if found["checkpoint"] else ""
    lines = [
        f"{found['file']}: a language classifier",
        f"backbone     {found['backbone']}{checkpoint}, fingerprint {found['fingerprint']}",
        f"reads        the output of its layer {found['layers']}; the ones above are not computed",
        f"size         {found['bytes']:,} bytes",
        f"languages    {len(found['languages'])}: {' '.join(found['languages'])}",
    ]
    if found["training"]:
        lines.append("training     " + ", ".join(f"{key} {value}" for key, value in found["training"].items()))
    return "\n".join(map(printable, lines))
