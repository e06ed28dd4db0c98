"""The SUPERB benchmark's tasks on a frozen, finetuned or routed upstream: s3prl's heads and losses, our data and masks.

`s3router.superb.tasks.TASKS` has the tasks, each a `s3router.superb.kind.Kind`; ``s3router superb-train
--help`` the options. Importing this package imports neither torch nor s3prl.
"""
