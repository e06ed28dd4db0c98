"""All real voices of Asterisk prompts that Debian carries; labels are the speakers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from s3router.corpora.asterisk import side_of
from s3router.corpora.asterisk_voices import VOICES, Voice, prompts_of, telephone
from s3router.corpora.sets import Prepared, Recordings, StrPath, folder_of, progress, write_set
from s3router.data.kaldi import Utterance
from s3router.errors import ConfigError, DataError


def prepare(
    source: StrPath,
    target: StrPath,
    *,
    voices: StrPath,
    limit: int | None = None,
    known: tuple[Voice, ...] = VOICES,
) -> Prepared:
    """Prepare the Asterisk prompts of eight voices (seven people) for speaker identification.

    Corpus: the core sounds (see `s3router.corpora.asterisk`) and Debian's packages ``asterisk-prompt-es-co``,
    ``asterisk-prompt-fr-armelle`` and ``asterisk-prompt-it-menardi-wav``; egs/asterisk/sid1/local/data.sh fetches all.

    Layout: ``source``/LANG/voice for the core sounds, ``voices``/PACKAGE for the unpacked packages.

    Writes ``target``/{train,dev,test} with ``utt2label`` and ``target``/wav. The side of a prompt is decided by its key
    alone, so no sentence of the test set has been heard in training from any speaker. Everything is brought to
    telephone bandwidth (nothing above 4 kHz): some packages hold 8 kHz recordings, and the bandwidth alone would tell
    their speakers. What the codecs (G.722, GSM, PCM) leave is still there.

    Args:
        source: downloads folder of egs/asterisk/asr1.
        target: folder to write.
        voices: folder of the unpacked packages.
        limit: at most so many prompts of each voice.
        known: the voices.

    Raises:
        ConfigError: a limit below 1.
        DataError: a voice is missing or has no usable prompt; a set would be empty.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: take one prompt of each voice at least")
    source, target = folder_of(source, "the core sounds"), Path(target)
    voices = folder_of(voices, "the unpacked packages of further voices")
    roots = {voice: voice.root(source, voices) for voice in known}
    wavs, done = Recordings(target / "wav"), Prepared()
    sides: dict[str, list[Utterance]] = {"test": [], "dev": [], "train": []}
    for voice, root in roots.items():
        left_out = kept = 0
        for key, path in progress(list(prompts_of(voice, root)), f"{voice.speaker} ({voice.lang})"):
            if limit is not None and kept >= limit:
                break
            samples = telephone(path)
            if samples is None:
                left_out += 1
                continue
            utt = f"{voice.speaker}-{voice.lang}-{key.replace('/', '_')}"
            sides[side_of(key)].append(wavs.add(utt, samples, voice.speaker))
            kept += 1
        done.lines.append(f"{voice.speaker} ({voice.lang}, {voice.package}): {kept} prompts, {left_out} left out")
        if not kept:
            raise DataError(f"{voice.package}: no usable prompt in {root}; delete that folder and fetch it again")
    if empty := [side for side, utts in sides.items() if not utts]:
        raise DataError(f"no prompt for {' and '.join(empty)}: --limit {limit} is too small")
    for side, utts in sides.items():
        counts = ", ".join(f"{name} {n}" for name, n in sorted(Counter(u.speaker for u in utts).items()))
        write_set(done, target / side, utts, {u.utt: (u.speaker,) for u in utts}, f"{len(utts)} prompts ({counts})")
    return done
