"""Programs and libraries from outside Python that commands and recipes call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

from s3router.errors import ConfigError

PROGRAMS = (
    # any of these, what for, the package of Debian and Ubuntu
    (("bash",), "recipes, and pipes in wav.scp", "bash"),
    (("curl", "wget"), "downloads of the recipes' corpora", "curl"),
    (("tar",), "unpacking of the recipes' corpora", "tar"),
    (("flock",), "tools/setup.sh and recipes that run twice at once", "util-linux"),
    (("git",), "the commit in tables of results", "git"),
)
NOT_NEEDED = "ffmpeg, sox, sclite: PyAV, soundfile and soxr read and resample audio, jiwer counts errors"


def programs() -> Iterator[dict[str, Any]]:
    """One mapping for each: name, what it is for, where it is (None: missing), how to get it."""
    for names, use, package in PROGRAMS:
        where = next(filter(None, map(shutil.which, names)), None)
        yield {"name": " or ".join(names), "for": use, "found": where, "get": f"apt-get install {package}"}
    yield {"name": "espeak-ng", "for": "phonemes, miniatures", "found": _espeak(), "get": "pip install espeakng-loader"}


def audio_libraries() -> dict[str, str | None]:
    """What the audio packages carry; None where they cannot be imported."""
    try:
        import soundfile

        libsndfile = soundfile.__libsndfile_version__
    except (ImportError, OSError):
        libsndfile = None
    try:
        import av

        ffmpeg = av.ffmpeg_version_info
    except (ImportError, OSError):
        ffmpeg = None
    return {"libsndfile": libsndfile, "ffmpeg": ffmpeg}


def _espeak() -> str | None:
    try:
        from s3router.data import espeak

        return f"version {espeak.version()}"
    except (ConfigError, ImportError):  # without numpy it cannot be called
        return None
