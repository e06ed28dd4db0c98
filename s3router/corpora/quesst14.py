"""QUESST 2014, the English part: documents and spoken queries for SUPERB's query by example."""

from __future__ import annotations

from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, find_folder, read_text
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.utt2label import write_beside
from s3router.errors import DataError
from s3router.files import write_json

LANGUAGE = "nnenglish"
QUERIES = {"dev": "dev", "test": "eval"}  # our name: theirs
OFFICIAL = {"documents": 2438, "test": 138}
"""Of the English part: documents, queries for the evaluation. All languages together have 12,492 documents."""
ALL_LANGUAGES = "all_languages.json"
Hits = dict[str, set[str]]
"""query -> documents with it"""


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare QUESST 2014 for query by example.

    Corpus: https://speech.fit.vutbr.cz/files/quesst14Database.tgz; egs/superb/qbe1/local/data.sh fetches it.

    Layout of ``source``: scoring/ and the folders of recordings in it, or in quesst14Database/ under it.

    Writes ``target``/{documents,dev,test}; the recordings stay where they are. As in SUPERB, only what
    ``scoring/language_key_*.lst`` marks as non-native English: documents, development queries (dev) and evaluation
    queries (test). ``hits`` beside ``wav.scp`` names the documents that hold a query, from the ground truth.
    ``all_languages.json`` has the counts with which the benchmark scores: its ground truth is that of all languages.

    Args:
        source: folder of the corpus, or the one that holds it.
        target: folder to write.

    Raises:
        DataError: lists, ground truth or recordings are missing or of another form.
    """
    top, target = find_folder(Path(source).resolve(), "QUESST 2014", ["scoring"], ["quesst14Database"]), Path(target)
    documents = recordings(top, "utterances")
    known = {d.utt for d in documents}
    count = sum(1 for line in read_text(key_of(top, "utterances")).splitlines() if line.strip())
    sets = {}
    for name, theirs in QUERIES.items():
        queries = recordings(top, theirs)
        truth = read_hits(top / "scoring" / f"groundtruth_quesst14_{theirs}" / f"quesst14_{theirs}.rttm")
        hits = {q.utt: truth.get(q.utt, set()) for q in queries}
        if not any(found & known for found in hits.values()):
            raise DataError(f"{top}: none of the English queries ({theirs}) is in any of the English documents")
        sets[name] = queries, hits, {"documents": count, "queries_with_hits": len(truth)}
    done = Prepared()
    DataDir(target, documents).write(target / "documents")
    done.add(target / "documents", f"{len(documents)} documents")
    done.compare("documents", len(documents), OFFICIAL["documents"])
    for name, (queries, hits, counts) in sets.items():
        hit_counts = {query: len(found) for query, found in sorted(hits.items()) if found}
        write_json(target / name / ALL_LANGUAGES, {**counts, "hits": hit_counts})
        lines = (" ".join([query, *sorted(hits[query] & known)]) for query in sorted(hits))
        write_beside(target / name, queries, "hits", lines)
        done.add(target / name, f"{len(queries)} queries, {len(hit_counts)} of them in some document")
    done.compare("test", len(sets["test"][0]), OFFICIAL["test"])
    return done


def key_of(top: Path, listed: str) -> Path:
    """The list of recordings and their languages. Raises DataError where it is missing."""
    path = top / "scoring" / f"language_key_{listed}.lst"
    if not path.is_file():
        raise DataError(f"{path} is missing: not the folder quesst14Database of QUESST 2014, or not all of it")
    return path


def recordings(top: Path, listed: str) -> list[Utterance]:
    """The English recordings of a list. Raises DataError for a list that is missing or of another form."""
    path = key_of(top, listed)
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


def read_hits(path: Path) -> Hits:
    """The queries that are in some document, of all languages. Raises DataError where the file is missing."""
    if not path.is_file():
        raise DataError(f"{path} is missing: the ground truth belongs to the corpus")
    hits: Hits = {}
    problems = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split()
        if not parts or parts[0] != "LEXEME":
            continue
        if len(parts) < 6:
            problems.append(f"line {number} is not 'LEXEME FILE CHANNEL START DURATION QUERY …': {line!r}")
        else:
            hits.setdefault(parts[5], set()).add(parts[1])
    if problems:
        raise DataError(summary(path, problems))
    return hits
