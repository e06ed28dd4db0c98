"""QUESST 2014, the English part: documents and spoken queries for SUPERB's query by example."""

from __future__ import annotations

from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, find_folder, read_text
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.utt2label import write_beside
from s3router.errors import DataError

LANGUAGE = "nnenglish"
QUERIES = {"dev": "dev", "test": "eval"}  # our name: theirs


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare QUESST 2014 for query by example.

    Corpus: https://speech.fit.vutbr.cz/files/quesst14Database.tgz; egs/superb/qbe1/local/data.sh fetches it.

    Layout of ``source``: scoring/ and the folders of recordings in it, or in quesst14Database/ under it.

    Writes ``target``/{documents,dev,test}; the recordings stay where they are. As in SUPERB, only what
    ``scoring/language_key_*.lst`` marks as non-native English: documents, development queries (dev) and evaluation
    queries (test). ``hits`` beside ``wav.scp`` names the documents that hold a query, from the ground truth.

    Args:
        source: folder of the corpus, or the one that holds it.
        target: folder to write.

    Raises:
        DataError: lists, ground truth or recordings are missing or of another form.
    """
    top, target = find_folder(Path(source).resolve(), "QUESST 2014", ["scoring"], ["quesst14Database"]), Path(target)
    documents = recordings(top, "utterances")
    sets = {}
    for name, theirs in QUERIES.items():
        queries = recordings(top, theirs)
        truth = top / "scoring" / f"groundtruth_quesst14_{theirs}" / f"quesst14_{theirs}.rttm"
        sets[name] = queries, read_hits(truth, {q.utt for q in queries}, {d.utt for d in documents})
    done = Prepared()
    DataDir(target, documents).write(target / "documents")
    done.add(target / "documents", f"{len(documents)} documents")
    for name, (queries, hits) in sets.items():
        lines = (" ".join([query, *sorted(hits[query])]) for query in sorted(hits))
        write_beside(target / name, queries, "hits", lines)
        done.add(target / name, f"{len(queries)} queries, {sum(map(bool, hits.values()))} of them in some document")
    return done


def recordings(top: Path, listed: str) -> list[Utterance]:
    """The English recordings of a list. Raises DataError for a list that is missing or of another form."""
    path = top / "scoring" / f"language_key_{listed}.lst"
    if not path.is_file():
        raise DataError(f"{path} is missing: not the folder quesst14Database of QUESST 2014, or not all of it")
    found, problems = [], []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split()
        if len(parts) != 2 or "/" not in parts[0]:
            problems.append(f"line {number} is not 'quesst14Database/FOLDER/FILE.wav LANGUAGE': {line!r}")
            continue
        if parts[1] == LANGUAGE:
            wav = top / parts[0].split("/", 1)[1]
            found.append(Utterance(wav.stem, str(wav)))
            if not wav.is_file():
                problems.append(f"line {number}: {wav} is missing")
    if not found:
        problems.append(f"no recording of {LANGUAGE}")
    if problems:
        raise DataError(summary(path, problems))
    return found


def read_hits(path: Path, queries: set[str], documents: set[str]) -> dict[str, set[str]]:
    """Query -> documents with it, of those asked for. Raises DataError where the ground truth is missing or strange."""
    if not path.is_file():
        raise DataError(f"{path} is missing: the ground truth belongs to the corpus")
    hits: dict[str, set[str]] = {query: set() for query in queries}
    problems = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split()
        if not parts or parts[0] != "LEXEME":
            continue
        if len(parts) < 6:
            problems.append(f"line {number} is not 'LEXEME FILE CHANNEL START DURATION QUERY …': {line!r}")
        elif parts[5] in hits and parts[1] in documents:
            hits[parts[5]].add(parts[1])
    if not problems and not any(hits.values()):
        problems.append("none of the English queries is in any of the English documents")
    if problems:
        raise DataError(summary(path, problems))
    return hits
