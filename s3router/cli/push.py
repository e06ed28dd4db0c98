"""``s3router push``: packs into a repository of the HuggingFace hub, with a model card that is made from them.

s3router push user/name es.pack fr.pack
s3router push user/name es.pack --private --message "Ten hours more"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("repository", metavar="REPO", help="USER/NAME, made if it is not there; USER/NAME@BRANCH for a branch")
    add("packs", nargs="+", type=Path, metavar="PACK", help="files that s3router pack has written")
    add("--private", action="store_true", help="a new repository is for those who are let in")
    add("--message", help="of the commit (default: the routes)")
    return result


def main(argv: Sequence[str]) -> int:
    """Check, upload, say where it is."""
    args = parser().parse_args(argv)
    from s3router.sharing.push import push

    done = push(args.repository, args.packs, private=args.private, message=args.message)
    for pack in done.packs:
        if not pack.meta.licence:
            print(f"warning: {pack.name} says no licence; s3router pack --licence gives it one", file=sys.stderr)
    print(f"{done.url}: {len(done.packs)} packs, commit {done.revision}")
    print(f"s3router pull {done.repository}@{done.revision}")
    return 0
