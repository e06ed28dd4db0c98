"""Asterisk voice prompts: one voice per language, with transcripts (en, es, fr, it, ru)."""

from __future__ import annotations

import collections
import gzip
import hashlib
import re
from pathlib import Path

import numpy as np

from s3router.corpora.sets import Prepared, Recordings, StrPath, folder_of, progress
from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.data.kaldi import DataDir
from s3router.data.text import normalize
from s3router.errors import ConfigError, DataError
from s3router.files import write_lines

SPEAKERS = {"en": "allison", "es": "allison", "fr": "june", "it": "carlo", "ru": "ivrvoiceru"}
SPLITS = (("test", 15), ("dev", 25), ("train", 100))  # cumulative percent of the hash range
MIN_SECONDS, MAX_SECONDS = 0.25, 40.0
MAX_CHARS_PER_SECOND = 28.0  # nobody speaks faster: the transcript belongs to another recording
SPEECH_DBFS = -50.0  # loudest 100 ms below this: silence
PACE_LETTERS, PACE_FACTOR = 20, 1.6  # transcripts this long whose pace is this far off the voice's median are wrong
OTHER_FORMATS = ("gsm", "wav", "WAV", "ulaw", "alaw", "sln16", "sln", "siren7", "siren14", "g729")
NO_SPEECH = ("silence/", "beep", "ascending", "descending", "confbridge-join", "confbridge-leave")
"""Beginnings of the keys of tones and silence."""

_LONG_NUMBER = re.compile(r"\d{3}")
_ADDRESS = re.compile(r"www\.|\w\.(?:org|com)\b", re.IGNORECASE)
_OTHER_KEY = re.compile(r"\b\w+(?:[-_/]\w+)+:")


def prepare(source: StrPath, target: StrPath, *, lang: str, transcripts: StrPath | None = None) -> Prepared:
    """Prepare the Asterisk core sounds of one language for speech recognition.

    Corpus: the packages ``asterisk-core-sounds-LANG`` and ``asterisk-core-sounds-LANG-g722`` of Debian, or the archive
    ``asterisk-core-sounds-LANG-g722`` of the Asterisk project; egs/asterisk/asr1/local/fetch.sh fetches them.
    Licence: CC BY-SA 3.0 (en, es, fr), CC BY 3.0 (it, ru); see egs/asterisk/asr1/README.md.

    Layout of ``source``: the ``.g722`` files of one voice at any depth (``digits/1.g722`` among them), and
    ``core-sounds-LANG.txt`` or ``.txt.gz``, one ``key: transcript`` per line.

    Writes ``target``/{train,dev,test} as Kaldi directories, ``target``/wav (16 kHz), and ``target``/dropped.tsv: what
    is no clean speech, or whose transcript leaves open what was said, with the reason. The side of a prompt is a hash
    of its key, the same in every language.

    Args:
        source: folder with the recordings.
        target: folder to write.
        lang: en, es, fr, it or ru.
        transcripts: the list of transcripts, where it does not lie in ``source``.

    Raises:
        ConfigError: a language without prompts.
        DataError: no voice, several of them or one in another format; no transcripts; no usable prompt.
    """
    if lang not in SPEAKERS:
        raise ConfigError(f"no Asterisk prompts in {lang!r}; known: {', '.join(SPEAKERS)}")
    source, target = folder_of(source, "the .g722 files of a voice"), Path(target)
    voice = find_voice(source)
    transcripts = Path(transcripts) if transcripts is not None else find_transcripts(source, lang)
    texts, audio, dropped = select(voice, transcripts, lang)
    sides, speaker = assign_sides(texts), f"{lang}_{SPEAKERS[lang]}"
    rows, wavs = collections.defaultdict(list), Recordings(target / "wav")
    for key, text in texts.items():
        rows[sides[key]].append(wavs.add(f"{speaker}-{key.replace('/', '_')}", audio[key], speaker, text))
    write_lines(target / "dropped.tsv", ("\t".join(row) for row in [("prompt", "reason", "transcript"), *dropped]))
    done = Prepared(lines=report_drops(lang, len(texts), dropped))
    for name, _ in reversed(SPLITS):
        data = DataDir(target / name, rows[name]).write(target / name)
        done.sets[name] = target / name
        done.lines.append(f"  {name:5s} {len(data.utts):4d} prompts {data.seconds / 60:5.1f} min")
    shared, long = overlap_with_train(sides, texts)
    done.lines.append(
        f"  {shared} of {long} test sentences of three words or more share over half of their words with one of train"
    )
    return done


def report_drops(lang: str, kept: int, dropped: list[tuple[str, str, str]]) -> list[str]:
    """Lines for the screen: every prompt that was dropped, and the number for each reason."""
    lines = [f"{lang}: kept {kept} prompts, dropped {len(dropped)}:"]
    for key, reason, transcript in dropped:
        lines.append(f"  {key}: {reason}" + (f" ({transcript[:60]})" if transcript else ""))
    lines.append(f"{lang}: dropped, by reason:")
    counts = collections.Counter(reason.split(":")[0] for _, reason, _ in dropped)
    return lines + [f"  {count:4d}  {reason}" for reason, count in counts.most_common()]


def find_transcripts(folder: Path, lang: str) -> Path:
    """``core-sounds-LANG.txt`` or ``.txt.gz`` at or under ``folder``. Raises DataError where there is none."""
    found = sorted(folder.rglob(f"core-sounds-{lang}.txt*"))
    if not found:
        raise DataError(f"{folder}: no core-sounds-{lang}.txt in it; name the transcripts (--transcripts)")
    return found[0]


def read_transcripts(path: Path) -> tuple[dict[str, str], set[str]]:
    """(key -> raw transcript in file order, keys that return with another text).

    Raises:
        DataError: no such file, a damaged archive, or not UTF-8.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected the transcripts, core-sounds-LANG.txt or .txt.gz") from None
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged ({error}); unpack it again") from None
    entries: dict[str, str] = {}
    twice: set[str] = set()
    for line in lines:
        line = line.strip()
        if not line or line.startswith(";") or ":" not in line:
            continue
        key, text = (part.strip() for part in line.split(":", 1))
        text = text.removeprefix(f"{key}:").strip()
        if entries.setdefault(key, text) != text:
            twice.add(key)
    return entries, twice


def spoken_text(transcript: str, lang: str) -> str:
    """Normalised text; DataError (``category: detail``) where the transcript leaves open what was said."""
    if other := _OTHER_KEY.search(transcript):
        raise DataError(f"ambiguous: holds the entry {other.group()} as well")
    if _ADDRESS.search(transcript):
        raise DataError("ambiguous: an internet address may be spelled")
    text = normalize(transcript, lang)
    if _LONG_NUMBER.search(transcript):
        raise DataError("ambiguous: a long number may be read digit by digit")
    return text


def side_of(key: str) -> str:
    """train, dev or test, by the hash of the key alone: the same for every language and every release."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    return next(name for name, upper in SPLITS if bucket < upper)


def assign_sides(texts: dict[str, str]) -> dict[str, str]:
    """key -> side; keys with the same normalised text follow the first of them in alphabetical order."""
    first: dict[str, str] = {}
    for key in sorted(texts):
        first.setdefault(texts[key], key)
    return {key: side_of(first[text]) for key, text in texts.items()}


def check_audio(samples: np.ndarray, text: str) -> None:
    """Raise DataError (``category: detail``) unless the recording can be the reading of ``text``.

    Args:
        samples: float32, shape (samples,), 16 kHz, full scale ±1.
        text: normalised.
    """
    seconds = len(samples) / SAMPLE_RATE
    if seconds < MIN_SECONDS:
        raise DataError(f"too short: {seconds:.2f} s, kept from {MIN_SECONDS} s")
    if seconds > MAX_SECONDS:
        raise DataError(f"too long: {seconds:.2f} s, kept to {MAX_SECONDS} s")
    level = 10 * np.log10(np.max(_block_power(samples, 0.1)) + 1e-12)
    if level < SPEECH_DBFS:
        raise DataError(f"silence: the loudest 100 ms are at {level:.0f} dBFS")
    if len(text) / seconds > MAX_CHARS_PER_SECOND:
        raise DataError(f"not its transcript: {len(text)} characters in {seconds:.2f} s")


def _block_power(samples: np.ndarray, seconds: float) -> np.ndarray:
    """Mean square of each whole block, shape (blocks,)."""
    size = round(seconds * SAMPLE_RATE)
    return np.mean(samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64) ** 2, axis=1)


def pace_of(samples: np.ndarray, text: str) -> float:
    """Letters per second of sound; sound is what lies less than 35 dB under the loudest 20 ms."""
    power = _block_power(samples, 0.02)
    return len(text.replace(" ", "")) / (0.02 * np.sum(power > power.max() * 10**-3.5))


def off_pace(paces: dict[str, float], texts: dict[str, str]) -> dict[str, str]:
    """key -> reason, for long transcripts that do not fit their recording at this voice's usual pace.

    One voice reads everything: over its long prompts the pace spreads by about 12 %, so a factor of 1.6 is no reading.
    """
    paces = {key: paces[key] for key in texts if len(texts[key].replace(" ", "")) >= PACE_LETTERS}
    usual = float(np.median(list(paces.values()))) if paces else 0.0
    return {
        key: f"not its transcript: {pace:.0f} letters per second, usual are {usual:.0f}"
        for key, pace in paces.items()
        if not usual / PACE_FACTOR <= pace <= usual * PACE_FACTOR
    }


def overlap_with_train(sides: dict[str, str], texts: dict[str, str]) -> tuple[int, int]:
    """(test sentences of three words or more with a train sentence that holds over half of their words, all such)."""
    bags = {k: collections.Counter(t.split()) for k, t in texts.items()}
    train = [bags[k] for k in texts if sides[k] == "train"]
    long = [bags[k] for k in texts if sides[k] == "test" and bags[k].total() >= 3]
    shared = sum(any((bag & other).total() > bag.total() / 2 for other in train) for bag in long)
    return shared, len(long)


def find_voice(folder: Path) -> Path:
    """The folder of the one G.722 voice at or under ``folder``: every voice has a ``digits/1.g722``.

    Raises:
        DataError: no voice, one in another format, or several.
    """
    voices = sorted(path.parent.parent for path in folder.rglob("digits/1.g722"))
    if len(voices) == 1:
        return voices[0]
    if not voices and (others := [form for form in OTHER_FORMATS if next(folder.rglob(f"digits/1.{form}"), None)]):
        raise DataError(
            f"{folder}: a voice in .{', .'.join(others)}; this corpus is made from G.722 (16 kHz): take the package "
            "asterisk-core-sounds-LANG-g722"
        )
    found = ", ".join(map(str, voices)) or "none"
    raise DataError(f"{folder}: expected one voice in G.722 (a digits/1.g722), found {found}; name its folder")


def select(voice: Path, transcripts: Path, lang: str) -> tuple[dict[str, str], dict[str, np.ndarray], list[tuple]]:
    """(key -> text, key -> samples, [(key, reason, transcript)] of what is dropped)."""
    raw, twice = read_transcripts(transcripts)
    texts, audio, dropped = {}, {}, []
    for key, transcript in progress(raw.items(), f"prompts ({lang})", len(raw)):
        path = voice / f"{key}.g722"
        try:
            if not path.is_file():
                raise DataError("a transcript without a recording")
            if key in twice:
                raise DataError("ambiguous: two transcripts")
            text = spoken_text(transcript, lang)
            samples = read_audio(path, SAMPLE_RATE)
            check_audio(samples, text)
        except DataError as error:
            dropped.append((key, str(error), transcript))
        else:
            texts[key], audio[key] = text, samples
    for key, reason in off_pace({key: pace_of(audio[key], texts[key]) for key in texts}, texts).items():
        dropped.append((key, reason, raw[key]))
        del texts[key], audio[key]
    keys = (path.relative_to(voice).with_suffix("").as_posix() for path in sorted(voice.rglob("*.g722")))
    dropped += [(key, "a recording without a transcript", "") for key in keys if key not in raw]
    if not texts:
        raise DataError(f"{voice}: no usable prompt; are {transcripts} the transcripts of this voice?")
    return texts, audio, dropped
