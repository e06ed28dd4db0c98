"""Corpora, one module each: `prepare(source, target, …)` reads a corpus as its makers give it out and writes Kaldi
directories.

`s3router.corpora.sets` holds what they share. The command is `s3router prepare NAME SOURCE TARGET`.
"""
