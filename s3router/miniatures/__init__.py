"""Miniatures of the corpora in their official layouts, spoken by espeak-ng: to try recipes out, and for tests.

Error rates on them mean nothing. The command is `s3router prepare-mini NAME OUT`.
"""
