"""Speech recognition on ESPnet2: the task, what trains in it, training, and loading of what was trained.

Nothing heavy is imported here; `s3router.asr.train` is the command, `s3router.asr.experiment` opens what was trained.
"""
