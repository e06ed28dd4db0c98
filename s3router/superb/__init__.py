"""The SUPERB benchmark's tasks on a frozen, finetuned or routed upstream: s3prl's heads and losses, our data and masks.

Start with `s3router.superb.tasks.TASKS` and ``python -m s3router.superb.train --help``. Importing this package imports
neither torch nor s3prl.
"""
