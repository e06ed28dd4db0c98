#!/usr/bin/env python3
"""Turn one language of the Asterisk core sounds into Kaldi data directories (called by local/data.sh).

Reads `<sounds>/<key>.g722` and the transcript list, drops what is not clean speech (a line per drop in
`dropped.tsv`), decodes to 16 kHz, and writes `<out>/{train,dev,test}/{wav.scp,text,utt2spk,spk2utt,utt2dur}`.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import sys
from pathlib import Path

import numpy as np

from s3router.data.text import normalize
from s3router.errors import DataError, S3RouterError

SPLITS = (("test", 15), ("dev", 25), ("train", 100))  # cumulative percent of the hash range
MIN_SECONDS, MAX_SECONDS = 0.25, 40.0
MAX_CHARS_PER_SECOND = 28.0  # nobody speaks faster: the transcript belongs to another recording
SPEECH_DBFS = -50.0  # loudest 100 ms below this: silence


def read_transcripts(path: Path) -> dict[str, str]:
    """key -> raw transcript, in file order. A key that returns with another text is refused by the caller."""
    entries: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        line = line.strip()
        if not line or line.startswith(";") or ":" not in line:
            continue
        key, text = (part.strip() for part in line.split(":", 1))
        entries.setdefault(key, text.removeprefix(f"{key}:").strip())
    return entries


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


def decode_g722(path: Path) -> np.ndarray:
    """Raw G.722 at 64 kbit/s -> int16 samples at 16 kHz, shape (samples,)."""
    import av

    with av.open(str(path), format="g722") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    if not frames:
        raise DataError("no audio frames")
    return np.concatenate(frames).astype(np.int16)


def check_audio(samples: np.ndarray, text: str) -> None:
    """Raise DataError, with the reason, unless the recording can be the reading of ``text``."""
    seconds = len(samples) / 16000
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise DataError(f"{seconds:.2f} s long (kept: {MIN_SECONDS} to {MAX_SECONDS} s)")
    blocks = samples[: len(samples) // 1600 * 1600].reshape(-1, 1600).astype(np.float64) / 32768
    level = 10 * np.log10(np.max(np.mean(blocks**2, axis=1)) + 1e-12)
    if level < SPEECH_DBFS:
        raise DataError(f"silence: the loudest 100 ms are at {level:.0f} dBFS")
    if len(text) / seconds > MAX_CHARS_PER_SECOND:
        raise DataError(f"{len(text)} characters in {seconds:.2f} s: not a reading of this transcript")


def overlap_with_train(sides: dict[str, str], texts: dict[str, str]) -> tuple[int, int]:
    """(test sentences of three words or more with a train sentence that holds over half of their words, all such)."""
    bags = {k: collections.Counter(t.split()) for k, t in texts.items()}
    train = [bags[k] for k in texts if sides[k] == "train"]
    long = [bags[k] for k in texts if sides[k] == "test" and bags[k].total() >= 3]
    shared = sum(any((bag & other).total() > bag.total() / 2 for other in train) for bag in long)
    return shared, len(long)


def write_split(folder: Path, rows: list[tuple[str, Path, str, str, float]]) -> None:
    """Kaldi files, sorted by utterance, each written whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted(rows)
    speakers = collections.defaultdict(list)
    for utt, _, speaker, _, _ in rows:
        speakers[speaker].append(utt)
    files = {
        "wav.scp": [f"{u} {p}" for u, p, _, _, _ in rows],
        "text": [f"{u} {t}" for u, _, _, t, _ in rows],
        "utt2spk": [f"{u} {s}" for u, _, s, _, _ in rows],
        "spk2utt": [f"{s} {' '.join(us)}" for s, us in sorted(speakers.items())],
        "utt2dur": [f"{u} {d:.3f}" for u, _, _, _, d in rows],
    }
    for name, lines in files.items():
        temporary = folder / f".{name}.tmp"
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        temporary.replace(folder / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lang", required=True)
    parser.add_argument("--sounds", type=Path, required=True, help="folder of one voice, with .g722 files")
    parser.add_argument("--transcripts", type=Path, required=True)
    parser.add_argument("--wav-dir", type=Path, required=True, help="where the decoded 16 kHz files go")
    parser.add_argument("--out", type=Path, required=True, help="gets train/, dev/ and test/")
    args = parser.parse_args()
    import soundfile

    raw, texts, audio, dropped = read_transcripts(args.transcripts), {}, {}, []
    for key, transcript in raw.items():
        path = args.sounds / f"{key}.g722"
        try:
            if not path.is_file():
                raise DataError("a transcript without a recording")
            text = normalize(transcript, args.lang)
            samples = decode_g722(path)
            check_audio(samples, text)
        except DataError as error:
            dropped.append((key, str(error), transcript))
            continue
        texts[key], audio[key] = text, samples
    for path in sorted(args.sounds.rglob("*.g722")):
        key = path.relative_to(args.sounds).with_suffix("").as_posix()
        if key not in raw:
            dropped.append((key, "a recording without a transcript", ""))
    if not texts:
        raise DataError(f"no usable prompt in {args.sounds}: is this the folder of a G.722 voice?")

    sides, speaker = assign_sides(texts), f"{args.lang}_{args.sounds.name.split('_')[-1].lower()}"
    rows = collections.defaultdict(list)
    args.wav_dir.mkdir(parents=True, exist_ok=True)
    for key, text in texts.items():
        utt = f"{speaker}-{key.replace('/', '_')}"
        wav = (args.wav_dir / f"{utt}.wav").resolve()
        temporary = wav.with_name(f".{wav.name}")
        soundfile.write(temporary, audio[key], 16000, subtype="PCM_16", format="WAV")
        temporary.replace(wav)
        rows[sides[key]].append((utt, wav, speaker, text, len(audio[key]) / 16000))
    for name, _ in SPLITS:
        write_split(args.out / name, rows[name])
    table = "".join("\t".join(row) + "\n" for row in [("prompt", "reason", "transcript"), *dropped])
    (args.out / "dropped.tsv").write_text(table, encoding="utf-8")

    print(f"{args.lang}: kept {len(texts)} of {len(raw)} prompts; dropped, by reason ({args.out / 'dropped.tsv'}):")
    reasons = collections.Counter(reason.split(":")[0].split(" in ")[0] for _, reason, _ in dropped)
    for reason, count in reasons.most_common():
        print(f"  {count:4d}  {reason}")
    for name, _ in reversed(SPLITS):
        print(f"  {name:5s} {len(rows[name]):4d} prompts {sum(r[4] for r in rows[name]) / 60:5.1f} min")
    shared, long = overlap_with_train(sides, texts)
    print(f"  {shared} of {long} test sentences of three words or more share over half of their words with one of train")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except S3RouterError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
