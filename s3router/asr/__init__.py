"""Speech recognition on ESPnet2: task, model, training, decoding, language models.

Nothing heavy is imported here. `s3router.asr.train` trains, `s3router.asr.experiment` opens what was trained.
"""
