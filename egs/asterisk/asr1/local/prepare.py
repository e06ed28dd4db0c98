#!/usr/bin/env python3
"""Turn one language of the Asterisk core sounds into Kaldi data directories (called by local/data.sh).

Reads the `.g722` files of one voice and its transcript list, drops what is not clean speech (a line per drop in
`dropped.tsv`), decodes to 16 kHz, and writes `<out>/{train,dev,test}/{wav.scp,text,utt2spk,spk2utt,utt2dur}`.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import re
import sys
from pathlib import Path

import numpy as np

from s3router.data.audio import read_audio, write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.text import normalize
from s3router.errors import DataError, S3RouterError

SPEAKERS = {"en": "allison", "es": "allison", "fr": "june", "it": "carlo", "ru": "ivrvoiceru"}
SPLITS = (("test", 15), ("dev", 25), ("train", 100))  # cumulative percent of the hash range
RATE = 16000
MIN_SECONDS, MAX_SECONDS = 0.25, 40.0
MAX_CHARS_PER_SECOND = 28.0  # nobody speaks faster: the transcript belongs to another recording
SPEECH_DBFS = -50.0  # loudest 100 ms below this: silence
PACE_LETTERS, PACE_FACTOR = 20, 1.6  # transcripts this long whose pace is this far off the voice's median are wrong

_LONG_NUMBER = re.compile(r"\d{3}")
_ADDRESS = re.compile(r"www\.|\w\.(?:org|com)\b", re.IGNORECASE)
_OTHER_KEY = re.compile(r"\b\w+(?:[-_/]\w+)+:")


def read_transcripts(path: Path) -> tuple[dict[str, str], set[str]]:
    """(key -> raw transcript in file order, keys that return with another text)."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8-sig") if path.suffix == ".gz" else ""
    entries: dict[str, str] = {}
    twice: set[str] = set()
    for line in (text or path.read_text(encoding="utf-8-sig")).splitlines():
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
    """train, dev or test, from the key's hash alone: the same for every language and every release."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    return next(name for name, upper in SPLITS if bucket < upper)


def assign_sides(texts: dict[str, str]) -> dict[str, str]:
    """One side a key; keys with the same normalised text follow the first of them in alphabetical order."""
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
    seconds = len(samples) / RATE
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
    size = round(seconds * RATE)
    return np.mean(samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64) ** 2, axis=1)


def pace_of(samples: np.ndarray, text: str) -> float:
    """Letters a second of sound; sound is what lies less than 35 dB under the loudest 20 ms."""
    power = _block_power(samples, 0.02)
    return len(text.replace(" ", "")) / (0.02 * np.sum(power > power.max() * 10**-3.5))


def off_pace(paces: dict[str, float], texts: dict[str, str]) -> dict[str, str]:
    """key -> reason, for long transcripts that do not fit their recording at this voice's usual pace.

    One voice reads all: over its long prompts the pace spreads by about 12 %, so a factor of 1.6 is no reading.
    """
    paces = {key: paces[key] for key in texts if len(texts[key].replace(" ", "")) >= PACE_LETTERS}
    usual = float(np.median(list(paces.values()))) if paces else 0.0
    return {
        key: f"not its transcript: {pace:.0f} letters a second, usual are {usual:.0f}"
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
    """The folder of the one G.722 voice at or under ``folder``: every voice has a ``digits/1.g722``."""
    voices = sorted(path.parent.parent for path in folder.rglob("digits/1.g722"))
    if len(voices) != 1:
        found = ", ".join(map(str, voices)) or "none"
        raise DataError(f"{folder}: expected one voice in G.722 (a digits/1.g722), found {found}; name its folder")
    return voices[0]


def select(voice: Path, transcripts: Path, lang: str) -> tuple[dict[str, str], dict[str, np.ndarray], list[tuple]]:
    """(key -> text, key -> samples, [(key, reason, transcript)] of what is dropped)."""
    raw, twice = read_transcripts(transcripts)
    texts, audio, dropped = {}, {}, []
    for key, transcript in raw.items():
        path = voice / f"{key}.g722"
        try:
            if not path.is_file():
                raise DataError("a transcript without a recording")
            if key in twice:
                raise DataError("ambiguous: two transcripts")
            text = spoken_text(transcript, lang)
            samples = read_audio(path, RATE)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lang", required=True, choices=sorted(SPEAKERS))
    parser.add_argument("--sounds", type=Path, required=True, help="folder with the .g722 files of one voice")
    parser.add_argument("--transcripts", type=Path, required=True, help="core-sounds-<lang>.txt or .txt.gz")
    parser.add_argument("--out", type=Path, required=True, help="gets wav/, train/, dev/, test/ and dropped.tsv")
    args = parser.parse_args()

    texts, audio, dropped = select(find_voice(args.sounds), args.transcripts, args.lang)
    sides, speaker = assign_sides(texts), f"{args.lang}_{SPEAKERS[args.lang]}"
    rows = collections.defaultdict(list)
    wavs = (args.out / "wav").resolve()
    wavs.mkdir(parents=True, exist_ok=True)
    for key, text in texts.items():
        utt = f"{speaker}-{key.replace('/', '_')}"
        write_audio(wavs / f"{utt}.wav", audio[key], RATE)
        rows[sides[key]].append(Utterance(utt, str(wavs / f"{utt}.wav"), text, speaker, len(audio[key]) / RATE))
    splits = {name: DataDir(args.out / name, rows[name]).write(args.out / name) for name, _ in reversed(SPLITS)}
    table = "".join("\t".join(row) + "\n" for row in [("prompt", "reason", "transcript"), *dropped])
    (args.out / "dropped.tsv").write_text(table, encoding="utf-8")

    print(f"{args.lang}: kept {len(texts)} prompts, dropped {len(dropped)}:")
    for key, reason, transcript in dropped:
        print(f"  {key}: {reason}" + (f" ({transcript[:60]})" if transcript else ""))
    print(f"{args.lang}: dropped, by reason:")
    for reason, count in collections.Counter(reason.split(":")[0] for _, reason, _ in dropped).most_common():
        print(f"  {count:4d}  {reason}")
    for name, data in splits.items():
        print(f"  {name:5s} {len(data.utts):4d} prompts {data.seconds / 60:5.1f} min")
    shared, long = overlap_with_train(sides, texts)
    print(
        f"  {shared} of {long} test sentences of three words or more share over half of their words with one of train"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except S3RouterError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
