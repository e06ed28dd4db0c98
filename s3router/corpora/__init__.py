"""Corpora: one module each, with `prepare(source, target)`, which makes Kaldi data directories."""
