"""``s3router superb-train``: train one task; stopped at any moment, the same command goes on.

s3prl's own loop is not used: it writes checkpoints in place (a kill leaves half of one), saves the whole upstream with
them, begins an epoch anew when it resumes, and trains several processes on GPUs only. Everything that decides a result
(head, loss, sampler, optimizer, settings) is s3prl's.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from s3router.errors import S3RouterError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    from s3router.superb import options
    from s3router.superb.tasks import task
    from s3router.training import logs

    args = options.parser().parse_args(argv)
    rank = int(os.environ["RANK"]) if "RANK" in os.environ else None
    logging.getLogger("s3prl").setLevel(logging.WARNING)
    try:
        with logs.to_files(args.output_dir / "train.log", rank=rank):
            settings = options.complete(args, task(args.task))
            _run(args, settings)
    except S3RouterError as error:
        print(f"superb-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _run(args: argparse.Namespace, settings) -> None:
    from s3router.superb.run import Run
    from s3router.training.processes import processes

    with processes(args.device) as (rank, world, device):
        Run.prepare(args, settings, rank, world, device).train()


if __name__ == "__main__":
    sys.exit(main())
