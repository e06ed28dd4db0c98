"""Digits and letters of two voices of Asterisk prompts (es, fr, it); labels are the keywords."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from s3router.corpora.asterisk_voices import VOICES, Voice, prompts_of, telephone
from s3router.corpora.sets import Prepared, Recordings, StrPath, folder_of, progress, write_set
from s3router.data.audio import resample
from s3router.errors import ConfigError, DataError

KEYWORD = re.compile(r"digits/(\d|1\d|20|30|40|50|60|70|80|90)|letters/([a-z])")
SPEEDS = {"train": (80, 84, 88, 92, 96, 100, 104, 108, 112, 116, 120), "dev": (86, 94, 102, 110, 118)}  # percent
LEAST = 5  # keywords that both voices must have


def prepare(
    source: StrPath, target: StrPath, *, lang: str, voices: StrPath, known: tuple[Voice, ...] = VOICES
) -> Prepared:
    """Prepare digits and letters of two voices of one language for keyword spotting.

    Corpus: the core sounds (see `s3router.corpora.asterisk`) and the second voice of es, fr or it in Debian's packages
    ``asterisk-prompt-…``; egs/asterisk/ks1/local/data.sh fetches both.

    Layout: ``source``/LANG/voice for the core sounds, ``voices``/PACKAGE for the unpacked packages.

    Writes ``target``/{train,dev,test} with ``utt2label`` and ``target``/wav, all in telephone bandwidth. Each voice
    says each word once. So the first voice is for training, its recordings played at several speeds (which moves the
    pitch along); other speeds of the same recordings are for development; the second voice is the test set. What
    development selects is therefore what suits the first voice.

    Args:
        source: downloads folder of egs/asterisk/asr1.
        target: folder to write.
        lang: es, fr or it.
        voices: folder of the unpacked packages.
        known: the voices.

    Raises:
        ConfigError: a language with one voice only.
        DataError: a voice is missing, or the two have fewer than five keywords in common.
    """
    source, target = folder_of(source, "the core sounds"), Path(target)
    voices = folder_of(voices, "the unpacked packages of further voices")
    pair = [voice for voice in known if voice.lang == lang]
    if len(pair) != 2:
        twice = sorted({voice.lang for voice in known if [other.lang for other in known].count(voice.lang) == 2})
        raise ConfigError(f"two voices are needed, and {lang!r} does not have them: take {', '.join(twice)}")
    first, second = pair
    audio = [recordings_of(voice, voice.root(source, voices)) for voice in pair]
    words = sorted(audio[0].keys() & audio[1].keys())
    if len(words) < LEAST:
        both = f"{first.speaker} and {second.speaker}"
        raise DataError(f"{both} have {len(words)} keywords in common, {LEAST} are needed: fetch the voices again")
    wavs, done = Recordings(target / "wav"), Prepared()
    takes = {"test": (second, audio[1], (100,)), "dev": (first, audio[0], SPEEDS["dev"])}
    takes["train"] = (first, audio[0], SPEEDS["train"])
    for side, (voice, recordings, speeds) in takes.items():
        utts, labels = [], {}
        for word in words:
            for speed in speeds:
                utt = f"{voice.speaker}-{word}-{speed:03d}"
                utts.append(wavs.add(utt, resample(recordings[word], speed, 100), voice.speaker))
                labels[utt] = (word,)
        what = f"{len(utts)} recordings of {len(words)} keywords by {voice.speaker}"
        write_set(done, target / side, utts, labels, what)
    return done


def recordings_of(voice: Voice, root: Path) -> dict[str, np.ndarray]:
    """keyword -> its recording in telephone quality, of those that are usable."""
    matches = ((KEYWORD.fullmatch(key), path) for key, path in prompts_of(voice, root))
    files = {match[1] or match[2]: path for match, path in matches if match}
    audio = {word: telephone(path) for word, path in progress(sorted(files.items()), voice.speaker)}
    return {word: samples for word, samples in audio.items() if samples is not None}
