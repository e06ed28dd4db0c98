"""The voices of Asterisk prompts in Debian's packages, and their recordings in telephone quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3router.corpora.asterisk import NO_SPEECH
from s3router.data.audio import SAMPLE_RATE, read_audio, resample
from s3router.errors import DataError

TELEPHONE = 8000
NOT_SPEECH = (*NO_SPEECH, "tt-", "dir-multi")
MIN_SECONDS, MAX_SECONDS, QUIET = 0.4, 20.0, 0.03


@dataclass(frozen=True)
class Voice:
    """One person reading prompts.

    Attributes:
        speaker: the person; Allison Smith reads two languages.
        lang: of the prompts.
        package: of Debian; the five core languages are those of `s3router.corpora.asterisk`.
        folder: of the prompts within the unpacked package.
        suffix: of the files.
    """

    speaker: str
    lang: str
    package: str
    folder: str
    suffix: str

    def root(self, core: Path, further: Path) -> Path:
        """The folder of the prompts.

        Args:
            core: the fetched core sounds, with LANG/voice.
            further: the unpacked packages of the other voices, with PACKAGE/.

        Raises:
            DataError: it is missing.
        """
        in_core = self.package.startswith("asterisk-core-sounds")
        found = core / self.lang / "voice" if in_core else further / self.package / self.folder
        if not found.is_dir():
            raise DataError(
                f"{found} is missing: the voice {self.speaker}, from Debian's package {self.package} "
                "(egs/asterisk/sid1/local/data.sh fetches it)"
            )
        return found


SOUNDS = "usr/share/asterisk/sounds"
VOICES = (
    Voice("allison", "en", "asterisk-core-sounds-en-g722", "", ".g722"),
    Voice("allison", "es", "asterisk-core-sounds-es-g722", "", ".g722"),
    Voice("june", "fr", "asterisk-core-sounds-fr-g722", "", ".g722"),
    Voice("carlo", "it", "asterisk-core-sounds-it-g722", "", ".g722"),
    Voice("ivrvoiceru", "ru", "asterisk-core-sounds-ru-g722", "", ".g722"),
    Voice("colombia", "es", "asterisk-prompt-es-co", f"{SOUNDS}/es", ".gsm"),
    Voice("armelle", "fr", "asterisk-prompt-fr-armelle", f"{SOUNDS}/fr", ".gsm"),
    Voice("menardi", "it", "asterisk-prompt-it-menardi-wav", f"{SOUNDS}/it_IT_f_Menardi", ".wav"),
)


def prompts_of(voice: Voice, root: Path) -> Iterator[tuple[str, Path]]:
    """(key such as ``digits/1``, file) of the prompts that may be speech, by key."""
    for path in sorted(root.rglob(f"*{voice.suffix}")):
        key = path.relative_to(root).with_suffix("").as_posix()
        if not key.startswith(NOT_SPEECH):
            yield key, path


def telephone(path: Path) -> np.ndarray | None:
    """float32 (samples,) at 16 kHz with nothing above 4 kHz, as every one of these voices has it; None if unusable."""
    try:
        samples = resample(read_audio(path, TELEPHONE), TELEPHONE, SAMPLE_RATE)
    except DataError:
        return None
    usable = MIN_SECONDS <= len(samples) / SAMPLE_RATE <= MAX_SECONDS and np.abs(samples).max() >= QUIET
    return samples if usable else None
