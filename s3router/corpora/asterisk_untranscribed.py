"""Asterisk prompts without a usable transcript, and a second Italian voice: train-side speech for pretraining."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from s3router.corpora.asterisk import NO_SPEECH, side_of
from s3router.corpora.sets import Prepared, Recordings, StrPath, folder_of, progress, read_text, write_untranscribed
from s3router.corpora.trimming import write_trimmed
from s3router.data.audio import read_audio
from s3router.errors import DataError

NOT_SPEECH = (*NO_SPEECH, "tt-monkeys")
MENARDI = "asterisk-prompt-it-menardi-wav"
LEAST_SAMPLES, QUIET = 8000, 1000  # half a second; of 32767


def prepare(source: StrPath, target: StrPath, *, prompts: StrPath) -> Prepared:
    """Find the speech of one voice that its transcribed sets leave out.

    Layout: ``source`` holds the ``.g722`` files of the voice (DOWNLOADS/LANG/voice of egs/asterisk/asr1), ``prompts``
    the sets that `s3router.corpora.asterisk` wrote for the same language.

    Writes ``wav.scp`` and ``utt2spk`` into ``target``, and the recordings beside them: prompts that are in none of the
    sets, whose key's hash puts them on the train side, and that are neither tones nor silence.

    Args:
        source: folder of the voice.
        target: folder to write.
        prompts: the language's data folder, with train, dev and test.

    Raises:
        DataError: a folder is missing, or there is no such recording.
    """
    source, target, done = folder_of(source, "the .g722 files of a voice"), Path(target), Prepared()
    known = {utt for side in ("train", "dev", "test") for utt in ids_of(Path(prompts) / side)}
    speaker = min(known).split("-")[0]
    files = {path.relative_to(source).with_suffix("").as_posix(): path for path in sorted(source.rglob("*.g722"))}
    if not files:
        raise DataError(f"{source}: no .g722 files; name the folder of the voice")
    wavs, utts = Recordings(target), []
    for key, path in progress(files.items(), speaker, len(files)):
        utt = f"{speaker}-{key.replace('/', '_')}"
        if utt in known or side_of(key) != "train" or key.startswith(NOT_SPEECH):
            continue
        try:
            samples = np.round(read_audio(path) * 32767).astype(np.int16)
        except DataError as error:
            done.lines.append(f"left out: {error}")
            continue
        if len(samples) >= LEAST_SAMPLES and np.abs(samples).max() >= QUIET:
            utts.append(wavs.add_int16(utt, samples, speaker))
    minutes = sum(u.duration for u in utts) / 60
    what = f"{len(utts)} recordings without a usable transcript, {minutes:.1f} min"
    write_untranscribed(done, target, utts, what)
    return done


def prepare_menardi(source: StrPath, target: StrPath, *, prompts: StrPath) -> Prepared:
    """Prepare Asterisk's prompts in Italian by a second voice (8 kHz), train side only.

    Corpus: Debian's package ``asterisk-prompt-it-menardi-wav``; egs/asterisk/sid1/local/fetch.sh fetches it.

    Layout of ``source``: the unpacked package, with it_IT_f_Menardi/*.wav in it.

    Writes ``wav.scp``, ``utt2spk`` and ``wav`` into ``target``, without the silence around the speech. Prompts whose
    key is on the dev or test side of the Italian corpus are left out.

    Args:
        source: folder of the unpacked package.
        target: folder to write.
        prompts: the Italian data folder of egs/asterisk/asr1, with dev and test.

    Raises:
        DataError: not that package, or a set is missing.
    """
    source, prompts = folder_of(source, f"the unpacked package {MENARDI}"), Path(prompts)
    held_out = {utt.split("-", 1)[1] for side in ("dev", "test") for utt in ids_of(prompts / side)}
    sounds = next(source.rglob("it_IT_f_Menardi"), None)
    if sounds is None:
        raise DataError(f"{source}: no it_IT_f_Menardi in it; name the unpacked package {MENARDI}")
    return write_trimmed(_menardi(sounds, held_out), target)


def _menardi(sounds: Path, held_out: set[str]) -> Iterator[tuple[str, str, Path]]:
    for path in sorted(sounds.rglob("*.wav")):
        key = path.relative_to(sounds).with_suffix("").as_posix()
        if side_of(key) == "train" and key.replace("/", "_") not in held_out and not key.startswith("silence"):
            yield f"menardi-{key.replace('/', '_')}", "menardi", path


def ids_of(folder: Path) -> list[str]:
    """The utterances of ``folder/text``. Raises DataError where it is missing or empty."""
    path = folder / "text"
    if not path.is_file():
        raise DataError(f"{path}: no such file; prepare the prompts first (s3router prepare asterisk)")
    ids = [line.split(maxsplit=1)[0] for line in read_text(path).splitlines()]
    if not ids:
        raise DataError(f"{path}: empty; prepare the prompts again (s3router prepare asterisk)")
    return ids
