"""Pruning: a sparse model in place of many routes. Magnitude baselines (OMP, IMP, PARP) and S3-Router-P.

`s3router.prune.magnitude` and `s3router.prune.schedule` are plain functions. `s3router.prune.attach` sets a method up
on a model; `s3router.prune.pruner.Pruner` is what a trainer calls after each update.
"""
