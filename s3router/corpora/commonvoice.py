"""Mozilla Common Voice, one language of a release, as letters or as phonemes of espeak-ng."""

from __future__ import annotations

import collections
import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from s3router.corpora import commonvoice_release
from s3router.corpora.commonvoice_release import Clip, find_language, read_table, with_files, without_speakers_of
from s3router.corpora.sets import Prepared, StrPath, progress, read_text, training_set
from s3router.data import espeak, languages
from s3router.data.audio import Seconds, duration
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError, DataError
from s3router.files import write_lines

SUBSETS = {"1min": 1, "10min": 10, "1h": 60, "10h": 600}
TOKEN_TYPES, TRAIN_FROM = ("char", "phn"), ("train", "validated")
TOO_SHORT: Seconds = 0.3


@dataclass(frozen=True)
class Choice:
    """What is made of a language: see `prepare`."""

    lang: str
    subset: str
    token_type: str
    train_from: str
    nj: int


def prepare(
    source: StrPath,
    target: StrPath,
    *,
    lang: str,
    subset: str = "1h",
    token_type: str = "char",
    train_from: str = "train",
    dev_minutes: float | None = 60,
    test_minutes: float | None = None,
    nj: int = 2,
) -> Prepared:
    """Prepare one language of a Common Voice release.

    Corpus: https://mozilladatacollective.com, with an account and consent to its terms: no script fetches it alone.
    Licence: CC0.

    Layout of ``source``: the unpacked release, with LANG/{clips/*.mp3,train.tsv,dev.tsv,test.tsv}, or the folder LANG
    itself.

    Writes ``target``/LANG/{train_SUBSET,dev,test} (``target``/LANG_phn for phonemes; train for all), each with
    ``words`` (the normalised sentences) and ``left_out.tsv`` (clips that cannot be used, with the reason) beside the
    usual files. The recordings stay where they are. A set that was prepared before by the same rules is left alone.

    Args:
        source: the release, or the folder of the language in it.
        target: folder to write.
        lang: locale, as the release names it: nl, zh-TW, sv-SE …
        subset: 1min, 10min, 1h, 10h or all, of training.
        token_type: char (letters) or phn (phonemes).
        train_from: train, or validated: all validated clips of speakers who are not in dev and test.
        dev_minutes: at most; None: all.
        test_minutes: at most; None: all.
        nj: threads that read clips.

    Raises:
        ConfigError: an unknown value, or a language that espeak-ng does not speak.
        DataError: no such language, tables or clips missing or damaged, or less speech than ``subset``.
    """
    for name, value, known in (
        ("subset", subset, (*SUBSETS, "all")),
        ("token-type", token_type, TOKEN_TYPES),
        ("train-from", train_from, TRAIN_FROM),
    ):
        if value not in known:
            raise ConfigError(f"--{name} is {' or '.join(known)}, not {value!r}")
    folder = find_language(Path(source), lang)
    rules = languages.language(lang)
    if token_type == "phn" and not espeak.has_voice(rules.voice):
        raise ConfigError(f"espeak-ng speaks no {lang} (voice {rules.voice}): take --token-type char")
    choice = Choice(lang, subset, token_type, train_from, nj)
    out = Path(target) / (f"{lang}_phn" if token_type == "phn" else lang)
    folders = {"train": training_set(out, subset), "dev": out / "dev"}
    folders["test"] = out / "test"
    minutes = {"train": SUBSETS.get(subset), "dev": dev_minutes, "test": test_minutes}
    for split, into in folders.items():
        prepare_split(folder, split, into, minutes[split], choice)
    done = Prepared()
    for into in folders.values():
        done.sets[into.name] = into
        done.lines.append(read_text(into / ".prepared").splitlines()[1])
    lines, done.warnings = overlaps(folders)
    done.lines += lines
    return done


@dataclass
class Part:
    """What becomes of one table: utterances, sentences as they were read, and what was left out with the reason."""

    utts: list[Utterance] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seconds(self) -> Seconds:
        """Length of all utterances together."""
        return sum(u.duration for u in self.utts)


def prepare_split(folder: Path, split: str, out: Path, minutes: float | None, choice: Choice) -> None:
    """Write one split, unless it is there already. A training set shorter than ``minutes`` is refused."""
    version = espeak.version() if choice.token_type == "phn" else ""
    key = key_of(folder, split, choice.lang, choice.token_type, choice.train_from, minutes, version)
    stamp = out / ".prepared"
    if stamp.is_file() and read_text(stamp).partition("\n")[0] == key:
        return
    clips = clips_of(folder, split, choice.train_from)
    part = draw(clips, choice.lang, choice.token_type, minutes, choice.nj)
    if not part.utts:
        reason = f", e.g. {part.left_out[0][0]}: {part.left_out[0][1]}" if part.left_out else ""
        raise DataError(f"{folder}: {split}: none of {len(clips)} clips can be used{reason}")
    if split == "train" and minutes is not None and part.seconds < 0.95 * 60 * minutes:
        more = "" if choice.train_from == "validated" else ', or --local-data-opts "--train-from validated"'
        raise DataError(
            f"{folder}: {choice.train_from}.tsv has {part.seconds / 60:.1f} usable minutes, {choice.subset} wanted; "
            f"take a smaller --subset, or all{more}"
        )
    write(part, out, key)


def clips_of(folder: Path, split: str, train_from: str) -> list[Clip]:
    """The clips of one split, checked; of ``validated``, without the speakers of dev and test."""
    table = folder / f"{train_from if split == 'train' else split}.tsv"
    clips = read_table(table)
    if table.stem == "validated":
        others = [clip for name in ("dev", "test") for clip in read_table(folder / f"{name}.tsv")]
        clips = without_speakers_of(clips, others)
    return with_files(clips, table)


def draw(clips: Sequence[Clip], lang: str, token_type: str, minutes: float | None, nj: int) -> Part:
    """Usable clips in the order of their ids' SHA-256, up to the total nearest to ``minutes`` (None: all).

    Always a prefix of that order, so that smaller subsets lie inside larger ones, as `DataDir.subset` has it; but no
    more clips are opened than it takes.
    """
    part, total = Part(), 0.0
    ordered = sorted(clips, key=lambda clip: hashlib.sha256(utterance_id(clip)[0].encode()).digest())
    for clip, seconds in progress(measured(ordered, nj), f"clips ({lang})", None if minutes else len(ordered)):
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


def write(part: Part, out: Path, key: str) -> None:
    """The data directory, with ``words`` (the sentences: ``text`` may hold phones) and ``left_out.tsv`` besides."""
    out.mkdir(parents=True, exist_ok=True)
    (out / ".prepared").unlink(missing_ok=True)
    DataDir(out, part.utts).write(out)
    write_lines(out / "words", (f"{utt} {part.words[utt]}" for utt in sorted(part.words)))
    write_lines(out / "left_out.tsv", ("\t".join(row) for row in [("utterance", "reason"), *part.left_out]))
    write_lines(out / ".prepared", [key, describe(str(out), part)])


def describe(name: str, part: Part) -> str:
    """One line for the screen."""
    reasons = collections.Counter(re.split(r"[:(]", reason)[0].strip() for _, reason in part.left_out)
    why = f" ({', '.join(f'{reason}: {count}' for reason, count in reasons.most_common())})" if reasons else ""
    speakers = len({u.speaker for u in part.utts})
    size = f"{len(part.utts)} clips, {speakers} speakers, {part.seconds / 60:.1f} min"
    return f"{name}: {size}; left out: {len(part.left_out)}{why}"


def overlaps(folders: dict[str, Path]) -> tuple[list[str], list[str]]:
    """What the splits share: (sentences, and that they share no speakers; warnings of speakers that they share)."""
    speakers, words = {}, {}
    for split, folder in folders.items():
        speakers[split] = {u.speaker for u in DataDir.read(folder).utts}
        words[split] = [row.partition(" ")[2] for row in read_text(folder / "words").splitlines()]
    warnings = [
        f"{len(both)} speakers are both in {first} and in {second}"
        for first, second in (("train", "dev"), ("train", "test"), ("dev", "test"))
        if (both := speakers[first] & speakers[second])
    ]
    trained = set(words["train"])
    shared = len([sentence for sentence in words["test"] if sentence in trained])
    lines = [] if warnings else ["speakers: none is in two of train, dev and test"]
    lines.append(f"sentences: {shared} of {len(words['test'])} test clips read a sentence that is in train, too")
    return lines, warnings


def key_of(folder: Path, *words: object) -> str:
    """Digest of everything that decides the result: the rules, the tables of the release, and ``words``."""
    rules = [Path(module.__file__).read_bytes() for module in (languages, espeak, commonvoice_release)]
    rules.append(Path(__file__).read_bytes())
    tables = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.tsv"))]
    return hashlib.sha256(b"".join(rules) + repr((str(folder.resolve()), tables, words)).encode()).hexdigest()
