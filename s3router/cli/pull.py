"""``s3router pull``: the packs of a repository of the HuggingFace hub, checked; where they lie, and how to use them.

s3router pull user/name@0123456789abcdef0123456789abcdef01234567
s3router pull user/name --output packs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3router.sharing.pull import Pulled


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router pull", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("repository", metavar="REPO[@REVISION]", help="USER/NAME, and a branch, a tag or, to stay the same, a commit")
    add("--output", type=Path, metavar="DIR", help="also copy the packs into this folder")
    return result


def main(argv: Sequence[str]) -> int:
    """Download what is missing, check it, print."""
    args = parser().parse_args(argv)
    from s3router.files import printable
    from s3router.sharing.pull import check_backbone, pull
    from s3router.sharing.shared_packs import backbone_words

    found = pull(args.repository, output=args.output)
    meta = found.packs[0].meta
    checked = check_backbone(found.packs)
    print(f"{found.address}: {len(found.packs)} packs for {printable(backbone_words(meta))}")
    for pack in found.packs:
        print(f"  {pack.route}  {pack.path}")
    if checked:
        print(f"they fit the {checked} that is here")
    else:
        print("the backbone is not here: its fingerprint is compared when it is loaded")
    print("\n".join(_uses(found)))
    return 0


def _uses(found: Pulled) -> list[str]:
    writes = [pack.route for pack in found.packs if pack.meta.labels is None]
    lang = "" if len(writes) == 1 else " --lang auto"
    lines = [f"s3router transcribe --routes {found.address}{lang} a.wav"] if writes else []
    if len(writes) < len(found.packs):
        lines.append(f"s3router classify --routes {found.address} a.wav")
    return lines
