"""``s3router train``: train one ASR model.

All of ESPnet's options, and those of `s3router.asr.options`. For many runs in one process call `preload` once and
`main` in a forked child for each.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from s3router.asr import engine
from s3router.errors import S3RouterError


def preload() -> None:
    """Import everything heavy (ESPnet takes seconds), for children that are forked afterwards."""
    engine.routed_task()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. Errors of the user's are one line on stderr."""
    try:
        engine.routed_task().main(cmd=list(sys.argv[1:] if argv is None else argv))
    except S3RouterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last validation", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
