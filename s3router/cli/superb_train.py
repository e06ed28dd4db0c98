"""``s3router superb-train``: train one task of SUPERB, or any classification. Called again, it resumes."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    from s3router.superb import options

    return options.parser()


def main(argv: Sequence[str]) -> int:
    """Train; the last checkpoint is where an interrupted run goes on."""
    from s3router.superb.options import complete, read_options

    options = read_options(argv)
    from s3router.training import logs

    rank = int(os.environ["RANK"]) if "RANK" in os.environ else None
    logging.getLogger("s3prl").setLevel(logging.WARNING)
    with logs.to_files(options.output_dir / "train.log", rank=rank):
        settings = complete(options)
        from s3router.superb.run import Run
        from s3router.training.processes import processes

        with processes(options.device) as place:
            Run.prepare(options, settings, *place).train()
    return 0
