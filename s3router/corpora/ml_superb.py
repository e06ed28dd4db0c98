"""ML-SUPERB 2.0: about an hour of each of 141 languages, and varieties of them, for recognition and identification."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from s3router.corpora.ml_superb_layouts import CORPUS, DEV, DIALECT, SUBSETS, TEST, TRAIN, Item, read_corpus
from s3router.corpora.ml_superb_reserved import FEW, RESERVED
from s3router.corpora.sets import Prepared, StrPath, progress
from s3router.data.audio import SAMPLE_RATE, Seconds, probe, read_audio, write_audio
from s3router.data.format_wav import as_is
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.ml_superb_text import EXCLUDED, tagged, training_text
from s3router.data.threads import threads
from s3router.data.tokens import build_token_list, min_ctc_frames, split, write_token_list
from s3router.data.validate import misfit
from s3router.errors import ConfigError, DataError, S3RouterError
from s3router.files import write_lines

ALL = "all"
"""Folder of the sets of all languages together."""
LONGEST: Seconds = 20.0
HELD_OUT = 0.1
REFERENCE = "reference"
"""File of the sets in `ALL`: transcripts as given out, with the language before them."""
_AT_A_TIME = 256


def prepare(
    source: StrPath,
    target: StrPath,
    *,
    subset: str = "1h",
    langs: Sequence[str] = (),
    dialects: StrPath | None = None,
    nj: int = 2,
) -> Prepared:
    """Prepare ML-SUPERB 2.0 for a model of each language and for the challenge's six figures.

    Corpus: https://multilingual.superbbenchmark.org; huggingface.co/datasets/espnet/ml_superb_hf (14.8 GB), or the
    archive at ftshijt/mlsuperb_8th. Licences: those of its 14 sources.

    Layout of ``source``, one of two: the HuggingFace dataset, as parquet files (in it or in data/) or as a folder that
    ``save_to_disk`` wrote; or eighth_version/SOURCE/LANG/{wav/UTT.wav,transcript_{10min,1h}_train.txt,
    transcript_10min_{dev,test}.txt}.

    Writes ``target``/LANG/{train_SUBSET,dev,test} with tokens.txt beside them, and ``target``/all/{test,dialect} with
    all languages and ``reference`` (the transcripts as given out, after their language). The HuggingFace dataset has no
    test set: its dev becomes ``test``, and a tenth of each language's training utterances ``dev``. Texts are upper
    case without punctuation (`s3router.data.ml_superb_text`). What is not mono wav or flac at 16 kHz already is
    written to ``target``/audio. Norwegian is left out, as in the challenge; of training also what is longer than 20 s,
    what has more characters than frames, and all but five utterances of the 20 reserved languages.

    Args:
        source: the folder.
        target: folder to write.
        subset: of training, 10min or 1h; the HuggingFace dataset has 1h alone.
        langs: codes of the languages to prepare; none: all.
        dialects: the development set of language varieties, beside an eighth_version.
        nj: threads that read recordings.

    Raises:
        ConfigError: an unknown subset or language, or pyarrow is missing.
        DataError: neither layout, parts are missing or damaged, or no language can be used.
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {' or '.join(SUBSETS)}, not {subset!r}")
    items, has_dev = read_corpus(source, subset, dialects)
    target = Path(target)
    found = Collected()
    found.take(items, set(langs), target / "audio", nj)
    if unknown := sorted(set(langs) - found.there):
        raise ConfigError(f"--langs {' '.join(unknown)}: not in {source}; there are {' '.join(sorted(found.there))}")
    found.keep_few_of_reserved()
    if not has_dev:
        found.hold_out()
    return _written(found, target, subset)


@dataclass
class Collected:
    """What was read.

    Attributes:
        parts: (language, part) -> utterances.
        references: of `TEST` and `DIALECT`, utterance -> transcript as given out, after its language.
        left_out: (part, utterance, reason).
        notes: for the screen.
        there: all languages that there are, wanted or not.
    """

    parts: dict[tuple[str, str], list[Utterance]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)

    def take(self, items: Iterable[Item], langs: set[str], folder: Path, nj: int) -> None:
        """Collect the utterances of some languages (none named: all), and see to their audio.

        Raises:
            DataError: an id that is there twice or has blanks in it, or a recording that cannot be read; all of them.
        """
        seen, problems = set(), []
        with threads(nj) as pool:
            for block in itertools.batched(progress(items, CORPUS), _AT_A_TIME):
                wanted = [item for item in block if item.lang not in EXCLUDED and (not langs or item.lang in langs)]
                self.there |= {item.lang for item in block}
                self.left_out += [(i.part, i.utt, "Norwegian") for i in block if i.lang in EXCLUDED]
                for item, audio in zip(wanted, pool.map(lambda item: _placed(item, folder), wanted), strict=True):
                    if isinstance(audio, S3RouterError):
                        problems.append(str(audio))
                    elif item.utt in seen or len(item.utt.split()) != 1:
                        problems.append(f"{item.utt!r}: {'there twice' if item.utt in seen else 'not an id'}")
                    else:
                        self._add(item, *audio)
                    seen.add(item.utt)
        if problems:
            raise DataError(summary(CORPUS, problems))

    def _add(self, item: Item, path: Path, seconds: Seconds) -> None:
        text = training_text(item.text, item.lang)
        utt = Utterance(item.utt, str(path), text, item.utt, seconds)
        reason = None
        if not text:
            reason = "nothing but punctuation"
        elif item.part == TRAIN:
            reason = misfit(utt, None, LONGEST, max(1, min_ctc_frames(split(text))))
        if reason:
            self.left_out.append((item.part, item.utt, reason))
        else:
            self.parts.setdefault((item.lang, item.part), []).append(utt)
        if item.part in (TEST, DIALECT):
            self.references[item.utt] = tagged(item.lang, item.text)

    def keep_few_of_reserved(self) -> None:
        """Leave five training utterances to each reserved language: those of the benchmark, else the first ones."""
        for (lang, part), utts in self.parts.items():
            if part != TRAIN or lang not in RESERVED or len(utts) <= FEW:
                continue
            kept = [utt for utt in utts if utt.utt in RESERVED[lang]]
            if not kept:
                self.notes.append(f"{lang} is reserved, and has none of the benchmark's ids: the first {FEW} are taken")
            kept = kept or utts[:FEW]
            self.left_out += [(part, u.utt, "of a reserved language") for u in utts if u not in kept]
            self.parts[lang, part] = kept

    def hold_out(self) -> None:
        """Turn a tenth of each training set into its development set, by the ids' SHA-256; one utterance at least."""
        for lang, part in [key for key in self.parts if key[1] == TRAIN]:
            utts = sorted(self.parts[lang, part], key=lambda u: hashlib.sha256(u.utt.encode()).digest())
            count = max(1, round(HELD_OUT * len(utts)))
            self.parts[lang, DEV], self.parts[lang, TRAIN] = utts[:count], utts[count:]

    def trained(self) -> list[str]:
        """The languages that have utterances for training, development and test."""
        names = sorted({lang for lang, _ in self.parts})
        return [lang for lang in names if all(self.parts.get((lang, part)) for part in (TRAIN, DEV, TEST))]


def _placed(item: Item, folder: Path) -> tuple[Path, Seconds] | S3RouterError:
    """The file of a recording as mono wav or flac at 16 kHz, and its length; or what is wrong with it.

    Content is written to ``folder``, and so is what has another form; a file that is there already is taken.
    """
    try:
        path = item.audio if isinstance(item.audio, Path) else _stored(item.audio, folder, item)
        if (seconds := as_is(str(path), SAMPLE_RATE)) is not None:
            return path, seconds
        flac = folder / f"{item.utt}.16k.flac"
        if not flac.is_file():
            write_audio(flac, read_audio(path, SAMPLE_RATE), SAMPLE_RATE)
        return flac.resolve(), probe(flac).seconds
    except S3RouterError as error:
        return error


def _stored(content: bytes, folder: Path, item: Item) -> Path:
    suffix = Path(item.name).suffix or (".flac" if content[:4] == b"fLaC" else ".wav")
    path = (folder / f"{item.utt}{suffix}").resolve()
    if not path.is_file() or path.stat().st_size != len(content):  # which also finds a file that was cut off
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)  # a sync for each of 150,000 files would take hours
    return path


def _written(found: Collected, target: Path, subset: str) -> Prepared:
    """Write all sets; those of all languages come first."""
    langs, done = found.trained(), Prepared()
    if not langs:
        raise DataError(
            f"{CORPUS}: no language has utterances for training, development and test ({'; '.join(found.notes)})"
        )
    skipped = sorted({lang for lang, part in found.parts if part != DIALECT} - set(langs))
    if skipped:
        found.notes.append(f"nothing for training, development or test, so no model: {' '.join(skipped)}")
    for part in (TEST, DIALECT):
        utts = [utt for (_, of), some in found.parts.items() if of == part for utt in some]
        if utts:
            folder = target / ALL / part
            DataDir(folder, utts).write(folder)
            ordered = sorted(utts, key=attrgetter("utt"))
            write_lines(folder / REFERENCE, (f"{u.utt} {found.references[u.utt]}" for u in ordered))
            spoken = len({lang for lang, of in found.parts if of == part})
            done.add(folder, f"{len(utts)} utterances in {spoken} languages")
    write_lines(target / ALL / "left_out.tsv", map("\t".join, [("set", "utterance", "reason"), *found.left_out]))
    for lang in langs:
        _write_language(found, target / lang, lang, subset)
    hours = sum(u.duration for (_, part), utts in found.parts.items() if part == TRAIN for u in utts) / 3600
    done.lines.append(f"{target}/LANG: {len(langs)} languages, {hours:.2f} h of training: {' '.join(langs)}")
    reasons = Counter(reason.split(":")[0].split(" (")[0] for _, _, reason in found.left_out)
    done.lines += [f"left out: {count} ({reason})" for reason, count in reasons.most_common()]
    done.warnings += found.notes
    return done


def _write_language(found: Collected, folder: Path, lang: str, subset: str) -> None:
    names = {TEST: TEST, DEV: DEV, TRAIN: f"{TRAIN}_{subset}"}  # training last: a language that has it is complete
    texts = [utt.text for part in (TRAIN, DEV) for utt in found.parts[lang, part]]
    write_token_list(folder / "tokens.txt", build_token_list(texts))
    for part, name in names.items():
        if utts := found.parts.get((lang, part)):
            DataDir(folder / name, utts).write(folder / name)
