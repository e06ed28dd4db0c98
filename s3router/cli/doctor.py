"""``s3router doctor``: what is installed and works, what is missing, and the command that gets it.

Packages, the machine and its faster arithmetic, programs, fetched upstreams, packs. Nothing is changed or fetched. The
exit status is 1 where something that is needed is broken; what only some commands need may be missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = "packs to look at as well, and folders of them"
    result.add_argument("--packs", nargs="+", type=Path, default=[], metavar="FOLDER", help=what)
    result.add_argument("--json", action="store_true", help="everything, as one JSON object")
    return result


def main(argv: Sequence[str]) -> int:
    """Examine and print."""
    args = parser().parse_args(argv)
    from s3router.doctor.examination import examine, page

    found = examine(args.packs)
    print(json.dumps(found, indent=2) if args.json else page(found))
    return 1 if found["broken"] else 0
