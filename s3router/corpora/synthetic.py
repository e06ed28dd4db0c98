"""Synthetic speech of espeak-ng in many languages and voices, whose phones are known to the frame: for pretraining."""

from __future__ import annotations

import ctypes
import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np

from s3router.corpora.sets import (
    Prepared,
    Recordings,
    StrPath,
    folder_of,
    progress,
    read_text,
    write_untranscribed,
)
from s3router.corpora.tuxpaint import PACKAGE
from s3router.data.audio import SAMPLE_RATE
from s3router.errors import ConfigError, DataError
from s3router.files import replacing, write_lines

PHONE_EVENT, END_OF_EVENTS = 7, 0  # of speak_lib.h
PHONE_EVENTS, IPA_EVENTS, DO_NOT_EXIT, SYNCHRONOUS, UTF8 = 1, 2, 0x8000, 2, 1
SPEAKING_RATE, PITCH, PITCH_RANGE = 1, 3, 4
NOT_PHONES = str.maketrans("", "", "ˈˌːˑ'-|")
# named alike by espeak-ng and in Tux Paint's files
LANGUAGES = (
    *("en", "es", "fr", "it", "ru", "af", "bg", "ca", "cs", "da", "de", "el", "et", "eu", "fi", "hr", "hu", "id", "lt"),
    *("lv", "nb", "nl", "pl", "pt", "ro", "sk", "sl", "sr", "sv", "sw", "tr", "uk"),
)
VARIANTS = ["", *(f"+m{i}" for i in range(1, 9)), *(f"+f{i}" for i in range(1, 6)), "+klatt", "+klatt2", "+klatt4"]
UNKNOWN = -100  # of a frame whose phone is too rare


def prepare(
    source: StrPath,
    target: StrPath,
    *,
    prompts: StrPath,
    repeats: int = 3,
    share: float = 0.35,
    min_count: int = 2000,
    seed: int = 0,
) -> Prepared:
    """Speak texts in many languages, and write down the phone of every frame.

    Texts: the descriptions of Tux Paint's drawings in every language that espeak-ng speaks, and train-side transcripts
    of the Asterisk prompts. Voices, pitch and rate are drawn anew for each text.

    Layout: ``source`` is the unpacked Debian package ``tuxpaint-stamps-default``, ``prompts`` the data folder of
    egs/asterisk/asr1 (only train sides are read).

    Writes ``wav.scp``, ``utt2spk`` and ``wav`` into ``target``, and ``phones.npz``: for each utterance the phone of
    every 20 ms (int16, shape (frames,)), an index into ``phones.txt``; -100 where the phone is rare.

    Args:
        source: folder of the unpacked package.
        target: folder to write.
        prompts: data folder with LANG/train.
        repeats: voices for each text of the languages in ``prompts``; elsewhere one.
        share: of the texts of other languages.
        min_count: frames of a phone below which it counts as unknown.
        seed: of the draws.

    Raises:
        ConfigError: espeak-ng is not installed.
        DataError: no texts, or none that can be spoken.
    """
    source, target, prompts = folder_of(source, f"the unpacked package {PACKAGE}"), Path(target), Path(prompts)
    rng, found, voice = random.Random(seed), texts(source, prompts), Voice()
    wanted = [
        (lang, text)
        for lang, some in found.items()
        for text in some
        for _ in range(repeats if (prompts / lang).is_dir() else int(rng.random() < share))
    ]
    wavs, utts, frames = Recordings(target / "wav"), [], {}
    for number, (lang, text) in enumerate(progress(wanted, "synthesis")):
        name = lang + rng.choice(VARIANTS)
        samples, begins = voice.speak(text, name, rng.randint(120, 200), rng.randint(15, 85), rng.randint(30, 70))
        if len(samples) < voice.rate // 2 or not begins:
            continue
        wave = at_16khz(samples, voice.rate)
        utt = f"espeak{lang}-{number:06d}"
        frames[utt] = phones_of_frames(
            [(begin * SAMPLE_RATE // voice.rate, phone) for begin, phone in begins], len(wave)
        )
        utts.append(wavs.add_int16(utt, wave, f"espeak{lang}"))
    if not utts:
        raise DataError(f"{source}: espeak-ng speaks none of {len(wanted)} texts; install espeakng-loader again")
    known = write_phones(target, frames, min_count)
    hours = sum(u.duration for u in utts) / 3600
    done = Prepared()
    what = f"{len(utts)} utterances, {hours:.1f} h, {known} phones (and silence among them)"
    write_untranscribed(done, target, utts, what)
    return done


def write_phones(target: Path, frames: dict[str, list[str]], min_count: int) -> int:
    """Write ``phones.npz`` and ``phones.txt``; the number of phones, silence included."""
    counts = Counter(phone for some in frames.values() for phone in some)
    known = ["", *sorted(phone for phone, count in counts.items() if phone and count >= min_count)]
    index = {phone: i for i, phone in enumerate(known)}
    coded = {utt: np.array([index.get(phone, UNKNOWN) for phone in some], np.int16) for utt, some in frames.items()}
    with replacing(target / "phones.npz", "wb") as file:
        np.savez(file, **coded)
    write_lines(target / "phones.txt", (phone or "(none)" for phone in known))
    return len(known)


def at_16khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """int16 (samples,) at ``rate`` Hz -> int16 at 16 kHz."""
    import torch
    from torchaudio.functional import resample

    wave = resample(torch.from_numpy(samples).float(), rate, SAMPLE_RATE)
    return wave.clamp(-32768, 32767).to(torch.int16).numpy()


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("type", "unique", "text_position", "length", "milliseconds", "sample")),
        ("user_data", ctypes.c_void_p),
        ("phone", ctypes.c_char * 8),
    ]  # fmt: skip


class Voice:
    """espeak-ng with the phones and the places where they begin.

    It initialises the library for phone events, so in one process it and `s3router.data.espeak` do not go together.

    Raises:
        ConfigError: espeak-ng is not installed.
    """

    def __init__(self):
        try:
            import espeakng_loader

            self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        except (ImportError, OSError) as error:
            raise ConfigError(f"synthesis needs espeak-ng ({error}): pip install espeakng-loader") from error
        data = espeakng_loader.get_data_path().encode()
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, data, DO_NOT_EXIT | PHONE_EVENTS | IPA_EVENTS)

    def speak(
        self, text: str, voice: str, rate: int, pitch: int, span: int
    ) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """(samples,) int16 at ``self.rate``, and [(first sample, phone in IPA)]; empty where it has no such voice."""
        blocks: list[np.ndarray] = []
        phones: list[tuple[int, str]] = []

        def collect(samples, count, events) -> int:
            if samples and count > 0:
                blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            for place in itertools.count():
                event = events[place]
                if event.type == END_OF_EVENTS:
                    return 0
                if event.type == PHONE_EVENT:
                    phones.append((event.sample, event.phone.decode("utf-8", "ignore").translate(NOT_PHONES)))

        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))
        callback, encoded = kind(collect), text.encode() + b"\0"
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            return np.zeros(0, np.int16), []
        for number, value in ((SPEAKING_RATE, rate), (PITCH, pitch), (PITCH_RANGE, span)):
            self.library.espeak_SetParameter(number, value, 0)
        self.library.espeak_SetSynthCallback(callback)
        self.library.espeak_Synth(encoded, len(encoded), 0, 0, 0, UTF8, None, None)
        return np.concatenate(blocks) if blocks else np.zeros(0, np.int16), phones


def texts(stamps: Path, prompts: Path) -> dict[str, list[str]]:
    """Language -> its texts, sorted, without repetitions. Raises DataError where there are none."""
    found: dict[str, set[str]] = {lang: set() for lang in LANGUAGES}
    for path in stamps.rglob("*.txt"):
        lines = path.read_text(encoding="utf-8", errors="ignore").splitlines()
        if lines and "=" not in lines[0]:
            found["en"].add(lines[0].strip())
        for line in lines:
            lang, _, text = line.partition(".utf8=")
            if lang in found and text.strip():
                found[lang].add(text.strip())
    if not any(found.values()):
        raise DataError(f"{stamps}: no descriptions of drawings in it; name the unpacked package {PACKAGE}")
    for lang in LANGUAGES:
        transcripts = prompts / lang / "train" / "text"
        if transcripts.exists():
            lines = read_text(transcripts).splitlines()
            found[lang] |= {line.split(maxsplit=1)[1] for line in lines if " " in line}
    return {lang: sorted(some) for lang, some in found.items() if some}


def phones_of_frames(begins: list[tuple[int, str]], samples: int) -> list[str]:
    """The phone at the centre of each frame (320 i + 360 samples at 16 kHz); '' where there is none."""
    places = np.array([begin for begin, _ in begins])
    centres = np.arange(max(0, (samples - 720) // 320 + 1)) * 320 + 360
    index = np.searchsorted(places, centres, side="right") - 1
    return [begins[i][1] if i >= 0 else "" for i in index]
