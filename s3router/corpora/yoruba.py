"""Yoruba, read by one speaker: 50 minutes of training, for a language that public models hardly know."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

from s3router.corpora.sets import ORDER, Prepared, StrPath, find_folder, progress, read_text, training_set
from s3router.data import languages
from s3router.data.audio import probe
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.errors import ConfigError, DataError

PARTS = {"train": "train", "dev": "val", "test": "test"}
OFFICIAL = {"train": 280, "dev": 70, "test": 350}
"""Utterances of the repository's own partition."""
SUBSETS = {"10min": 10.0, "all": None}
"""Minutes of training; None: all of it, 50."""
ENDINGS = (".wav", ".opus", ".flac", ".ogg")
SPEAKER = "yor_874"
"""The one speaker, as the recordings' names have it."""

_LINK = re.compile(r".*/(yor_split_\d+\.txt) \(line (\d+)\) ; .*/([^/]+)\.wav")
_LOOKALIKES = str.maketrans({"ί": "í", "ὸ": "ò"})
"""Greek letters that stand for Yoruba ones in a few of the texts."""


def prepare(source: StrPath, target: StrPath, *, subset: str = "all") -> Prepared:
    """Prepare the Yoruba speech project: read sentences of up to 20 words, one male speaker.

    Corpus: ogunlao/yoruba_speech_project on GitHub; egs/yoruba/asr1/local/data.sh fetches it. Licence: MIT.

    Layout of ``source``: data/records/{train,val,test}/NAME.wav (or .opus, .flac), recordings/*/*_linker.txt and
    split_text/yor_split_N.txt, in it or in yoruba_speech_project/ under it.

    Writes ``target``/train_SUBSET (train for all of it), dev (val) and test, by the repository's own partition. Texts
    are normalised (`s3router.data.languages`): NFC, lower case, no punctuation; diacritics as they are written, which
    is unevenly. Recordings stay where they are.

    Args:
        source: folder of the repository, or the one that holds it.
        target: folder to write.
        subset: 10min or all (50 minutes); always the same 10 minutes.

    Raises:
        ConfigError: an unknown subset.
        DataError: parts are missing, or recordings and texts do not go together; all problems.
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {' or '.join(SUBSETS)}, not {subset!r}")
    wanted = ["data/records/train", "data/records/val", "data/records/test", "recordings", "split_text"]
    corpus = find_folder(source, "the Yoruba speech project", wanted, ["yoruba_speech_project"])
    texts, done, target = read_texts(corpus), Prepared(), Path(target)
    read = {name: read_part(corpus / "data" / "records" / part, texts) for name, part in PARTS.items()}
    for name in ORDER:
        data = DataDir(target / name, read[name])
        done.compare(name, len(data.utts), OFFICIAL[name])
        if name == "train":
            minutes = SUBSETS[subset]
            data = replace(data if minutes is None else data.subset(minutes), path=training_set(target, subset))
        data = data.write(data.path)
        done.add(data.path, f"{len(data.utts)} utterances, {data.seconds / 60:.1f} min")
    return done


def read_texts(corpus: Path) -> dict[str, str]:
    """Recording's name -> its sentence as it is written, without the mark of its end. Raises DataError."""
    texts, problems, lines = {}, [], {}
    for linker in sorted(corpus.glob("recordings/*/*_linker.txt")):
        for line in filter(None, read_text(linker).splitlines()):
            if not (match := _LINK.fullmatch(line.strip())):
                problems.append(f"{linker.name}: not '…/yor_split_N.txt (line M) ; …/NAME.wav': {line!r}")
                continue
            file, number, name = match[1], int(match[2]), match[3]
            if file not in lines:
                lines[file] = read_text(corpus / "split_text" / file).splitlines()
            if not 0 < number <= len(lines[file]):
                problems.append(f"{linker.name}: {file} has no line {number}")
                continue
            texts[name] = lines[file][number - 1].removesuffix(".").rstrip().removesuffix("##").strip()
    if problems or not texts:
        raise DataError(summary(corpus / "recordings", problems or ["no *_linker.txt in its folders"]))
    return texts


def read_part(folder: Path, texts: dict[str, str]) -> list[Utterance]:
    """The utterances of one part of the partition. Raises DataError with all problems."""
    utts, problems = [], []
    recordings = sorted(f for f in folder.iterdir() if f.suffix in ENDINGS)
    for one, other in itertools.pairwise(recordings):
        if one.stem == other.stem:
            problems.append(f"{one.name} and {other.name}: one recording in two formats; leave one")
    for recording in progress(recordings, folder.name):
        try:
            text = languages.normalize(texts[recording.stem].translate(_LOOKALIKES), "yo")
            seconds = probe(recording).seconds
        except KeyError:
            problems.append(f"{recording.name}: no text; the linker files do not name it")
        except DataError as error:
            problems.append(f"{recording.name}: {error}")
        else:
            source = str(recording.resolve())
            utts.append(Utterance(f"{SPEAKER}-{recording.stem}", source, text, SPEAKER, seconds))
    if problems or not utts:
        raise DataError(summary(folder, problems or ["no recordings in it"]))
    return utts
