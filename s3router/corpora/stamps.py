"""Tux Paint's stamps: the names of some 900 drawings, read aloud in nine languages, with their texts."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from s3router.corpora.asterisk import assign_sides, check_audio, off_pace, pace_of
from s3router.corpora.sets import ORDER, Prepared, Recordings, StrPath, folder_of, progress, read_text
from s3router.corpora.trimming import as_int16, trimmed
from s3router.corpora.tuxpaint import PACKAGE, STAMPS
from s3router.data import languages
from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError
from s3router.files import write_lines

LANGS = ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")
"""Those with five minutes or more."""
_SPELLED = "symbols/alphabets/"  # names of letters: what is said is not what is written


def prepare(source: StrPath, target: StrPath, *, lang: str) -> Prepared:
    """Prepare the spoken names of Tux Paint's drawings in one language, with their texts.

    Corpus: Debian's package ``tuxpaint-stamps-default``; egs/stamps/asr1/local/data.sh fetches it. Licence: GPL-2.

    Layout of ``source``: the unpacked package, with usr/share/tuxpaint/stamps/**/NAME.txt, a text in each language, and
    NAME_desc_LANG.ogg.

    Writes ``target``/{train,dev,test}, ``target``/wav (16 kHz, without the silence around the speech) and
    ``target``/dropped.tsv: names of letters, texts with digits or letters of another alphabet, and recordings that do
    not fit their text in length or pace, with the reason. The side of a drawing is a hash of its path, the same in
    every language; drawings with one text go to one side.

    Args:
        source: folder of the unpacked package.
        target: folder to write.
        lang: be, bg, ca, da, el, es, fr, ro or ru.

    Raises:
        ConfigError: a language that it does not have enough of.
        DataError: not that package, or no usable recording.
    """
    if lang not in LANGS:
        raise ConfigError(f"the stamps have no texts and recordings in {lang!r} to speak of; known: {', '.join(LANGS)}")
    source, target = folder_of(source, f"the unpacked package {PACKAGE}"), Path(target)
    if not (source / STAMPS).is_dir():
        raise DataError(f"{source}: no {STAMPS} in it; name the unpacked package {PACKAGE}")
    texts, audio, dropped = select(source / STAMPS, lang)
    if not texts:
        raise DataError(f"{source / STAMPS}: no usable recording in {lang!r}; unpack the package again")
    sides, rows, wavs = assign_sides(texts), collections.defaultdict(list), Recordings(target / "wav")
    speaker = f"stamps-{lang}"
    for key, text in texts.items():
        utt = f"{speaker}-{key.replace('/', '_')}"
        rows[sides[key]].append(wavs.add(utt, as_int16(audio[key]) / 32768.0, speaker, text))
    write_lines(target / "dropped.tsv", ("\t".join(row) for row in [("stamp", "reason", "text"), *dropped]))
    reasons = collections.Counter(reason.split(":")[0] for _, reason, _ in dropped)
    done = Prepared(lines=[f"{lang}: {len(texts)} recordings, {len(dropped)} left out ({target / 'dropped.tsv'}):"])
    done.lines += [f"  {count:4d}  {reason}" for reason, count in reasons.most_common()]
    for name in ORDER:
        data = DataDir(target / name, rows[name]).write(target / name)
        done.add(data.path, f"{len(data.utts)} utterances, {data.seconds / 60:.1f} min")
    return done


def select(stamps: Path, lang: str) -> tuple[dict[str, str], dict[str, np.ndarray], list[tuple[str, str, str]]]:
    """(key -> text, key -> samples, [(key, reason, text)] of what is dropped); a key is a path without its ending."""
    texts, audio, dropped = {}, {}, []
    written: dict[str, str] = {}
    for key, recording, text in progress(list(recordings(stamps, lang)), lang):
        written[key] = text or ""
        try:
            if text is None:
                raise DataError("no text in this language")
            if key.startswith(_SPELLED):
                raise DataError("the name of a letter")
            words = languages.normalize(text, lang)
            samples = trimmed(read_audio(recording, SAMPLE_RATE))
            check_audio(samples, words)
        except DataError as error:
            dropped.append((key, str(error), written[key]))
        else:
            texts[key], audio[key] = words, samples
    for key, reason in off_pace({key: pace_of(audio[key], texts[key]) for key in texts}, texts).items():
        dropped.append((key, reason, written[key]))
        del texts[key], audio[key]
    return texts, audio, dropped


def recordings(stamps: Path, lang: str) -> Iterator[tuple[str, Path, str | None]]:
    """(key, recording, its text as written or None), by path."""
    for path in sorted(stamps.rglob(f"*_desc_{lang}.ogg")):
        key = path.relative_to(stamps).as_posix().removesuffix(f"_desc_{lang}.ogg")
        described = stamps / f"{key}.txt"
        lines = read_text(described).splitlines() if described.is_file() else []
        marked = f"{lang}.utf8="
        yield key, path, next((line.removeprefix(marked).strip() for line in lines if line.startswith(marked)), None)
