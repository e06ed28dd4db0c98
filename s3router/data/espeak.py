"""espeak-ng: phonemes of a text, and synthetic speech for miniature corpora and tests.

The library is called through ctypes. It comes with the wheel ``espeakng-loader`` (library and voices, no compiler, no
root), or from the system (``libespeak-ng.so.1``). espeak-ng is under the GPL, version 3 or later; nothing of it is in
this package. It keeps one voice in global state: calls are serialised by a lock.

Phonemes depend on the version of espeak-ng (`version`); two PERs compare only if theirs were made by the same one.
"""

from __future__ import annotations

import ctypes
import re
import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from s3router.errors import ConfigError, DataError

_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8 = 2, 0x8000, 1  # of speak_lib.h: output mode, option of initialisation, encoding
_IPA, _SEPARATOR = 0x02, ord("_") << 8
_RATE, _PITCH = 1, 3  # numbers of parameters
_LANGUAGE = re.compile(r"\(([a-z][a-z0-9-]*)\)")
_NOT_PHONES = str.maketrans("", "", "ˈˌ-'")  # stress, and marks of words that lean on their neighbours
_lock = threading.Lock()


@dataclass(frozen=True)
class Phones:
    """Phonemes of one text.

    Attributes:
        words: the phones of each word in order; stress marks are left out, length (``aː``) and tones (``i5``) stay.
        foreign: languages to which espeak-ng switched inside the text, such as ("en",) for a word that it does not
            have in the voice's own language; empty for most texts.
    """

    words: tuple[tuple[str, ...], ...]
    foreign: tuple[str, ...]

    def __str__(self) -> str:
        """All phones, separated by blanks: what a ``text`` file of ``--token-type phn`` holds."""
        return " ".join(phone for word in self.words for phone in word)


@lru_cache(maxsize=1)
def _library() -> tuple[ctypes.CDLL, int]:
    """The initialised library and its sample rate in Hz.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import espeakng_loader

        path, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()
    except ImportError:
        path, data = "libespeak-ng.so.1", None
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ConfigError(
            f"phonemes need espeak-ng ({error}): pip install espeakng-loader, or install your system's libespeak-ng1"
        ) from error
    library.espeak_Info.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    library.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
        *(ctypes.c_void_p, ctypes.c_void_p),
    ]
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
    if rate <= 0:
        raise ConfigError(f"{path}: espeak-ng does not find its voices; install espeakng-loader again")
    return library, rate


def version() -> str:
    """Version of espeak-ng, such as ``1.52.0``. Raises ConfigError where it is not installed."""
    with _lock:
        library, _ = _library()
        return library.espeak_Info(ctypes.byref(ctypes.c_char_p())).decode().split()[0]


def has_voice(voice: str) -> bool:
    """Whether espeak-ng speaks this language. Raises ConfigError where it is not installed."""
    with _lock:
        library, _ = _library()
        return library.espeak_SetVoiceByName(voice.encode()) == 0


def phonemize(text: str, voice: str) -> Phones:
    """Phonemes of ``text`` in the IPA of espeak-ng's ``voice`` (a language, such as ``nl`` or ``cmn``).

    Raises:
        ConfigError: no such voice, or espeak-ng is not installed.
        DataError: the text holds nothing that is spoken.
    """
    clauses = []
    with _lock:
        library, _ = _library()
        _set_voice(library, voice)
        rest = ctypes.c_char_p(text.replace("\0", " ").encode())
        while rest.value:  # a clause at a time; the pointer moves on, and is null at the end
            clauses.append(
                (library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA | _SEPARATOR) or b"").decode()
            )
    spoken = " ".join(clauses)
    foreign = [language for language in _LANGUAGE.findall(spoken) if language != voice]
    words = [
        tuple(phone for part in word.split("_") if (phone := part.translate(_NOT_PHONES)))
        for word in _LANGUAGE.sub("_", spoken).split()
    ]
    words = [word for word in words if word]
    if not words:
        raise DataError(f"no phonemes: espeak-ng has nothing to say for {text!r}")
    return Phones(tuple(words), tuple(dict.fromkeys(foreign)))


def synthesize(text: str, voice: str, *, words_per_minute: int = 165, pitch: int = 50) -> tuple[np.ndarray, int]:
    """Speak ``text``: (float32 (samples,), full scale ±1; sample rate in Hz).

    The voice keeps state from call to call: the same calls in the same order in a new process give the same samples.

    Args:
        voice: a language, with a speaker's variant where wanted: ``nl``, ``nl+f3``, ``en-us+m2``.
        words_per_minute: 80 to 450.
        pitch: 0 to 99.

    Raises:
        ConfigError: no such voice, or espeak-ng is not installed.
        DataError: the text holds nothing that is spoken.
    """
    blocks: list[np.ndarray] = []

    def collect(samples, count, _events) -> int:
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / 32768)
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(collect)
    encoded = text.encode() + b"\0"
    with _lock:
        library, rate = _library()
        _set_voice(library, voice)
        library.espeak_SetParameter(_RATE, words_per_minute, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        library.espeak_SetSynthCallback(callback)
        library.espeak_Synth(encoded, len(encoded), 0, 0, 0, _UTF8, None, None)
        library.espeak_SetSynthCallback(None)
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not np.any(np.abs(samples) > 1e-3):
        raise DataError(f"no speech: espeak-ng has nothing to say for {text!r}")
    return samples, rate


def _set_voice(library: ctypes.CDLL, voice: str) -> None:
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ConfigError(f"espeak-ng has no voice {voice!r}; its voices are the languages of its documentation")
