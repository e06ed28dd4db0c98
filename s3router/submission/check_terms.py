"""Check of the answer to QUESST's queries: XML of up to millions of lines, read as a stream."""

from __future__ import annotations

import math
from typing import BinaryIO
from xml.parsers import expat

from s3router.submission.check_files import Checked, compare_totals
from s3router.submission.expected import Expected
from s3router.submission.formats import DOCUMENTS, number_problem

PARENTS = {"stdlist": None, "detected_termlist": "stdlist", "term": "detected_termlist"}
TOLERANCE = 0.01
"""For the mean (0) and standard deviation (1) of a query's scores, which are written with a few decimals."""


def check_terms(found: Checked, path: str, file: BinaryIO, expected: Expected | None) -> None:
    """``stdlist > detected_termlist(termid) > term(file, score, decision)``, scores z-normalised for each query."""
    reader = _Terms(found, path, expected)
    try:
        reader.parser.ParseFile(file)
    except expat.ExpatError as error:
        found.wrong(path, error.lineno, f"not well-formed XML ({expat.ErrorString(error.code)})")
        return
    found.entries = len(reader.queries)
    if not reader.queries:
        found.wrong(path, None, "no detected_termlist, so no query is answered")
    compare_totals(found, path, reader.queries, expected)


class _Terms:
    """Callbacks of the XML parser."""

    def __init__(self, found: Checked, path: str, expected: Expected | None):
        self.found, self.path = found, path
        self.known = None if expected is None else set(expected.ids)
        self.documents = None if expected is None else set(expected.documents)
        self.queries: dict[str, int] = {}
        self.open: list[str] = []
        self.query, self.scores = "", {}
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.EntityDeclHandler = self.entity

    def wrong(self, text: str) -> None:
        self.found.wrong(self.path, self.parser.CurrentLineNumber, text)

    def entity(self, *_) -> None:
        self.parser.EntityDeclHandler = None
        raise _entities(self.parser.CurrentLineNumber)

    def text(self, data: str) -> None:
        if data.strip():
            self.wrong(f"text {data.strip()[:40]!r} between elements; scores stand in attributes")

    def start(self, tag: str, values: dict[str, str]) -> None:
        parent = self.open[-1] if self.open else None
        self.open.append(tag)
        if tag not in PARENTS or PARENTS[tag] != parent:
            self.wrong(f"<{tag}> inside of {f'<{parent}>' if parent else 'nothing'}; expected {' > '.join(PARENTS)}")
        elif tag == "detected_termlist":
            self.begin(values.get("termid"))
        elif tag == "term":
            self.term(values)

    def begin(self, query: str | None) -> None:
        self.query, self.scores = query or "", {}
        if not query:
            self.wrong("detected_termlist without a termid")
        elif query in self.queries:
            self.wrong(f"query {query} appears twice (first in line {self.queries[query]})")
        else:
            self.queries[query] = self.parser.CurrentLineNumber
            if self.known is not None and query not in self.known:
                self.wrong(f"query {query} is not in the list of the test set")

    def term(self, values: dict[str, str]) -> None:
        missing = [name for name in ("file", "score", "decision") if name not in values]
        if missing:
            self.wrong(f"term without {', '.join(missing)}")
            return
        document = values["file"]
        if document in self.scores:
            self.wrong(f"document {document} appears twice for query {self.query}")
        elif self.documents is not None and document not in self.documents:
            self.wrong(f"document {document} is not in the list of documents")
        if problem := number_problem(values["score"]):
            self.wrong(problem)
        self.scores[document] = math.nan if problem else float(values["score"])
        if values["decision"] not in ("YES", "NO"):
            self.wrong(f"decision {values['decision']!r} is neither YES nor NO")

    def end(self, tag: str) -> None:
        self.open.pop()
        if tag != "detected_termlist":
            return
        if self.documents is None and len(self.scores) not in DOCUMENTS:
            english, every = DOCUMENTS
            self.wrong(
                f"query {self.query} is searched in {len(self.scores):,} documents; the benchmark has {english:,} "
                f"English ones, {every:,} in all (no list given)"
            )
        if self.documents is not None and (missing := sorted(self.documents - self.scores.keys())):
            more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
            self.wrong(f"query {self.query}: no score for the documents {', '.join(missing[:5])}{more}")
        scores = [score for score in self.scores.values() if math.isfinite(score)]
        if not self.scores:
            self.wrong(f"query {self.query} has no terms")
        elif scores:
            mean = sum(scores) / len(scores)
            spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
            constant = all(score == 0 for score in scores)
            if not constant and (abs(mean) > TOLERANCE or abs(spread - 1) > TOLERANCE):
                self.wrong(
                    f"query {self.query}: its scores have mean {mean:.3g} and standard deviation {spread:.3g}; they "
                    "must be z-normalised per query (0 and 1)"
                )


def _entities(line: int) -> expat.ExpatError:
    """Stops the parser where a document declares entities, which could fill the memory."""
    error = expat.ExpatError("entities")
    error.lineno, error.code = line, expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]
    return error
