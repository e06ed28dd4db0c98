"""Audio SNIPS for SUPERB's slot filling."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, find_folder, read_text
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.slot_marks import marked
from s3router.errors import DataError

TEXTS = "all.iob.snips.txt"
SETS = {"train": "train", "dev": "valid", "test": "test"}
OFFICIAL = {"train": 104_672, "dev": 2800, "test": 2800}
"""Utterances: 13,084, 700 and 700 sentences by eight, four and four voices."""


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare Audio SNIPS as SUPERB has it.

    Corpus: prepared by the benchmark's makers, and downloaded by hand (see s3prl's documentation of SUPERB's SF).

    Layout of ``source``: all.iob.snips.txt and {train,valid,test}/*.wav in it, or in SNIPS/ under it.

    Writes ``target``/{train,dev,test}; a text has the marks ``B-slot`` and ``E-slot`` around each slot. Texts are
    cleaned by s3prl's own function, and the voices of the sets are those of its settings. The recordings stay where
    they are.

    Args:
        source: folder of the corpus, or the one that holds it.
        target: folder to write.

    Raises:
        DataError: texts or recordings are missing, or words and tags of a line differ in number.
    """
    from s3router.upstreams.s3prl_engine import problem

    corpus = find_folder(Path(source).resolve(), "Audio SNIPS", [TEXTS, *SETS.values()], ["SNIPS"])
    texts, uneven = check_texts(corpus / TEXTS)
    settings = problem("SuperbSF").default_config()["prepare_data"]
    voices = {name: settings[f"{folder}_speakers"] for name, folder in SETS.items()}
    target, done = Path(target), Prepared(warnings=check_sets(corpus, texts, voices))
    for name, utts in reversed(read(corpus, voices, uneven).items()):
        done.compare(name, len(utts), OFFICIAL[name])
        DataDir(target / name, utts).write(target / name)
        done.add(target / name, f"{len(utts)} utterances, voices: {', '.join(sorted({u.speaker for u in utts}))}")
    return done


def check_texts(path: Path) -> tuple[set[str], list[str]]:
    """The utterances that have a text, and a message for each whose words and tags differ in number.

    The latter are no mistake yet: s3prl's cleaning takes words out that may have no tag, and compares after it.

    Raises:
        DataError: lines of another form.
    """
    problems, found, uneven = [], set(), []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        words, tab, tags = line.strip().partition("\t")
        words, tags = words.split(), tags.split()
        # the first word is the utterance; BOS has a tag, and instead of EOS's there is the intent
        if len(words) < 4 or not tab or (words[1], words[-1]) != ("BOS", "EOS"):
            problems.append(f"line {number} is not '<utterance> BOS words EOS<tab>tags intent'")
            continue
        found.add(words[0])
        if len(words) - 1 != len(tags):
            uneven.append(f"line {number}: {words[0]} has {len(words) - 1} words, but {len(tags)} tags")
    if problems or not found:
        raise DataError(summary(path, problems or ["holds no text"]))
    return found, uneven


def check_sets(corpus: Path, texts: set[str], voices: dict[str, list[str]]) -> list[str]:
    """Warnings of recordings without a text.

    Raises:
        DataError: a set without a recording of its voices that has a text.
    """
    warnings = []
    for name, folder in SETS.items():
        theirs = [path.stem for path in (corpus / folder).rglob("*.wav") if path.stem.split("-")[0] in voices[name]]
        known = sum(utt in texts for utt in theirs)
        if not known:
            raise DataError(
                f"{corpus / folder}: no recording (*.wav) of {', '.join(voices[name])} that {TEXTS} has a text of"
            )
        if known != len(theirs):
            warnings.append(f"{folder}: {len(theirs) - known} recordings have no text in {TEXTS}")
    return warnings


def read(corpus: Path, voices: dict[str, list[str]], uneven: list[str]) -> dict[str, list[Utterance]]:
    """Set -> utterances, as s3prl reads and cleans them.

    Raises:
        DataError: even then words and tags differ in number; ``uneven`` says where they did before.
    """
    from s3router.upstreams.s3prl_engine import load

    theirs = load("s3prl.problem.asr.superb_sf").audio_snips_for_slot_filling
    found = {}
    with tempfile.TemporaryDirectory() as work:
        try:
            train, valid, tests = theirs(work, None, str(corpus), *voices.values())
        except AssertionError:
            unknown = ["an utterance has another number of words than of tags once s3prl has cleaned it"]
            raise DataError(summary(corpus / TEXTS, uneven or unknown)) from None
        for name, path in zip(SETS, (train, valid, *tests), strict=True):
            with path.open(encoding="utf-8", newline="") as file:
                found[name] = [
                    Utterance(row["id"], row["wav_path"], marked(row["transcription"], row["iob"]), row["speaker"])
                    for row in csv.DictReader(file)
                ]
    return found
