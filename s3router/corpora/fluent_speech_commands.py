"""Fluent Speech Commands: intents of spoken commands (action, object, location)."""

from __future__ import annotations

from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, find_folder, progress, read_csv, write_set
from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import Label
from s3router.errors import DataError

NAME = "fluent_speech_commands_dataset"
SETS = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}
SLOTS = ("action", "object", "location")


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare Fluent Speech Commands for intent classification.

    Corpus: Fluent.ai gives it out on request
    (https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/), under a licence
    of its own.

    Layout of ``source``: data/{train,valid,test}_data.csv and wavs/ in it, or in fluent_speech_commands_dataset/ under
    it.

    Writes ``target``/{train,dev,test} with ``utt2label`` (``action ; object ; location``); the recordings stay where
    they are. An utterance's id is its file's name, as in a submission to SUPERB.

    Args:
        source: folder of the corpus, or the one that holds it.
        target: folder to write.

    Raises:
        DataError: tables, columns or recordings are missing, or two recordings have one name.
    """
    wanted = [*(f"data/{name}" for name in SETS.values()), "wavs"]
    corpus = find_folder(Path(source).resolve(), "Fluent Speech Commands", wanted, [NAME, f"{NAME}/{NAME}"])
    tables = {name: read_table(corpus, file) for name, file in SETS.items()}
    done = Prepared()
    for name, (utts, labels) in reversed(tables.items()):
        write_set(done, Path(target) / name, utts, labels, f"{len(utts)} utterances")
    return done


def read_table(corpus: Path, name: str) -> tuple[list[Utterance], dict[str, Label]]:
    """The utterances of one table, and their labels.

    Raises:
        DataError: columns or recordings are missing, or two recordings have one name.
    """
    path = corpus / "data" / name
    rows = read_csv(path, ("path", "speakerId", *SLOTS), "a table of Fluent Speech Commands")
    utts, labels, problems = [], {}, []
    for row in progress(rows, name):
        wav = corpus / row["path"]
        if not wav.is_file():
            problems.append(f"{wav} is missing")
        elif wav.stem in labels:
            problems.append(f"two recordings are called {wav.stem}")
        else:
            utts.append(Utterance(wav.stem, str(wav), "", row["speakerId"]))
            labels[wav.stem] = tuple(row[slot].strip() for slot in SLOTS)
    if problems:
        raise DataError(summary(path, problems))
    return utts, labels
