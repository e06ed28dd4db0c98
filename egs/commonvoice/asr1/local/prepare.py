#!/usr/bin/env python3
"""From a Common Voice release to Kaldi data directories (called by local/data.sh)."""

from __future__ import annotations

import argparse
import collections
import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from release import Clip, find_language, read_table, with_files, without_speakers_of

from s3router.data import espeak, languages
from s3router.data.audio import Seconds, duration
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError, DataError, run_script

SUBSETS = {"1min": 1, "10min": 10, "1h": 60, "10h": 600}
TOO_SHORT: Seconds = 0.3


@dataclass
class Part:
    """What becomes of one table: utterances, sentences as they were read, and what was left out with the reason."""

    utts: list[Utterance] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seconds(self) -> Seconds:
        return sum(u.duration for u in self.utts)


def utterance_id(clip: Clip) -> tuple[str, str]:
    """(utterance, speaker): a digest of the client, which is itself one of 128 characters, and the clip's name."""
    speaker = hashlib.sha256(clip.client.encode()).hexdigest()[:12]
    return f"{speaker}-{clip.path.stem}", speaker


def text_of(sentence: str, lang: str, token_type: str) -> tuple[str, str]:
    """(text to train on, normalised sentence).

    Raises:
        DataError: the sentence cannot be used, with the reason.
    """
    words = languages.normalize(sentence, lang)
    if token_type != "phn":
        return words, words
    rules = languages.language(lang)
    phones = espeak.phonemize(words, rules.voice)
    if phones.foreign and rules.chinese:  # letters, and characters that it does not know, are spelled in English
        raise DataError(f"no phonemes: espeak-ng reads a part in {phones.foreign[0]}")
    return str(phones), words


def measured(clips: Sequence[Clip], nj: int) -> Iterator[tuple[Clip, Seconds | DataError]]:
    """Clips with their length or what is wrong with their audio, in order; a few are read ahead, not all."""

    def measure(clip: Clip) -> Seconds | DataError:
        try:
            return duration(clip.path)
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, nj)) as pool:
        for start in range(0, len(clips), 64):
            block = clips[start : start + 64]
            yield from zip(block, pool.map(measure, block), strict=True)


def draw(clips: Sequence[Clip], lang: str, token_type: str, minutes: float | None, nj: int) -> Part:
    """Usable clips in the order of their ids' SHA-256, up to the total nearest to ``minutes`` (None: all).

    Always a prefix of that order, so that smaller subsets lie inside larger ones, as `DataDir.subset` has it; but no
    more clips are opened than it takes.
    """
    part, total = Part(), 0.0
    ordered = sorted(clips, key=lambda clip: hashlib.sha256(utterance_id(clip)[0].encode()).digest())
    for clip, seconds in measured(ordered, nj):
        utt, speaker = utterance_id(clip)
        try:
            text, words = text_of(clip.sentence, lang, token_type)
            if isinstance(seconds, DataError):
                raise DataError(f"audio: {seconds}")
            if seconds < TOO_SHORT:
                raise DataError(f"too short: {seconds:.2f} s")
        except DataError as error:
            part.left_out.append((utt, str(error)))
            continue
        if minutes is not None and part.utts and abs(total + seconds - 60 * minutes) > abs(total - 60 * minutes):
            break
        part.utts.append(Utterance(utt, str(clip.path.resolve()), text, speaker, seconds))
        part.words[utt] = words
        total += seconds
    return part


def write(part: Part, out: Path, key: str) -> None:
    """The data directory, with ``words`` (the sentences: ``text`` may hold phones) and ``left_out.tsv`` besides."""
    out.mkdir(parents=True, exist_ok=True)
    (out / ".prepared").unlink(missing_ok=True)
    DataDir(out, part.utts).write(out)
    write_lines(out / "words", [f"{utt} {part.words[utt]}" for utt in sorted(part.words)])
    write_lines(out / "left_out.tsv", ["\t".join(row) for row in [("utterance", "reason"), *part.left_out]])
    write_lines(out / ".prepared", [key, describe(str(out), part)])


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    temporary.replace(path)


def describe(name: str, part: Part) -> str:
    """One line for the screen."""
    reasons = collections.Counter(re.split(r"[:(]", reason)[0].strip() for _, reason in part.left_out)
    why = f" ({', '.join(f'{reason}: {count}' for reason, count in reasons.most_common())})" if reasons else ""
    speakers = len({u.speaker for u in part.utts})
    size = f"{len(part.utts)} clips, {speakers} speakers, {part.seconds / 60:.1f} min"
    return f"{name}: {size}; left out: {len(part.left_out)}{why}"


def overlaps(folders: dict[str, Path]) -> list[str]:
    """What the splits share: speakers, which they must not, and sentences."""
    speakers, words = {}, {}
    for split, folder in folders.items():
        speakers[split] = {u.speaker for u in DataDir.read(folder).utts}
        rows = (folder / "words").read_text(encoding="utf-8").splitlines()
        words[split] = [row.partition(" ")[2] for row in rows]
    lines = [
        f"WARNING: {len(both)} speakers are both in {first} and in {second}"
        for first, second in (("train", "dev"), ("train", "test"), ("dev", "test"))
        if (both := speakers[first] & speakers[second])
    ]
    trained = set(words["train"])
    shared = len([sentence for sentence in words["test"] if sentence in trained])
    return [
        *(lines or ["speakers: none is in two of train, dev and test"]),
        f"sentences: {shared} of {len(words['test'])} test clips read a sentence that is in train, too",
    ]


def key_of(folder: Path, *words: object) -> str:
    """Of everything that decides the result: the rules, the tables of the release, and ``words``."""
    rules = [Path(module.__file__).read_bytes() for module in (languages, espeak)]
    rules += [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    tables = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.tsv"))]
    return hashlib.sha256(b"".join(rules) + repr((str(folder.resolve()), tables, words)).encode()).hexdigest()


def clips_of(folder: Path, split: str, train_from: str) -> list[Clip]:
    """The clips of one split, checked; of ``validated``, without the speakers of dev and test."""
    table = folder / f"{train_from if split == 'train' else split}.tsv"
    clips = read_table(table)
    if table.stem == "validated":
        others = [clip for name in ("dev", "test") for clip in read_table(folder / f"{name}.tsv")]
        clips = without_speakers_of(clips, others)
    return with_files(clips, table)


def prepare(folder: Path, split: str, out: Path, minutes: float | None, args: argparse.Namespace) -> None:
    """Write one split, unless it is there already. A training set shorter than ``minutes`` is refused."""
    version = espeak.version() if args.token_type == "phn" else ""
    key = key_of(folder, split, args.lang, args.token_type, args.train_from, minutes, version)
    stamp = out / ".prepared"
    if stamp.is_file() and stamp.read_text(encoding="utf-8").splitlines()[0] == key:
        return
    clips = clips_of(folder, split, args.train_from)
    part = draw(clips, args.lang, args.token_type, minutes, args.nj)
    if not part.utts:
        reason = f", e.g. {part.left_out[0][0]}: {part.left_out[0][1]}" if part.left_out else ""
        raise DataError(f"{folder}: {split}: none of {len(clips)} clips can be used{reason}")
    if split == "train" and minutes is not None and part.seconds < 0.95 * 60 * minutes:
        more = "" if args.train_from == "validated" else ', or --local-data-opts "--train-from validated"'
        raise DataError(
            f"{folder}: {args.train_from}.tsv has {part.seconds / 60:.1f} usable minutes, {args.subset} wanted; take a "
            f"smaller --subset, or all{more}"
        )
    write(part, out, key)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="the release, or the folder of the language in it")
    parser.add_argument("--lang", required=True, help="locale, as the release names it")
    parser.add_argument("--subset", choices=[*SUBSETS, "all"], default="1h")
    parser.add_argument("--token-type", choices=["char", "phn"], default="char")
    parser.add_argument("--train-from", choices=["train", "validated"], default="train")
    parser.add_argument("--dev-minutes", type=float, default=60)
    parser.add_argument("--test-minutes", type=float)
    parser.add_argument("--nj", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()

    folder = find_language(args.corpus, args.lang)
    rules = languages.language(args.lang)
    if args.token_type == "phn" and not espeak.has_voice(rules.voice):
        raise ConfigError(f"espeak-ng speaks no {args.lang} (voice {rules.voice}): take --token-type char")
    out = args.data / (f"{args.lang}_phn" if args.token_type == "phn" else args.lang)
    train = "train" if args.subset == "all" else f"train_{args.subset}"
    folders = {"train": out / train, "dev": out / "dev", "test": out / "test"}
    minutes = {"train": SUBSETS.get(args.subset), "dev": args.dev_minutes, "test": args.test_minutes}
    for split, target in folders.items():
        prepare(folder, split, target, minutes[split], args)
    for target in folders.values():
        print((target / ".prepared").read_text(encoding="utf-8").splitlines()[1])
    print("\n".join(overlaps(folders)))
    return 0


if __name__ == "__main__":
    run_script(main)
