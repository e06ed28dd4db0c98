"""Sets of spoken queries, the documents that hold them, and the value of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.data.kaldi import DataDir, summary
from s3router.errors import DataError
from s3router.files import read_json
from s3router.scoring.files import read_text
from s3router.scoring.mtwv import WholeSearch, maximum_term_weighted_value

ALL_LANGUAGES = "all_languages.json"


@dataclass(frozen=True)
class Queries:
    """A set of queries, and the documents that hold each.

    Attributes:
        data: the queries.
        hits: query -> documents of the search set that hold it.
        whole: the search in all languages that the benchmark's ground truth is of; None: not known.
    """

    data: DataDir
    hits: dict[str, set[str]]
    whole: WholeSearch | None = None

    @classmethod
    def read(cls, path: Path, documents: Sequence[str]) -> Queries:
        """``wav.scp``, ``hits`` (``query document document …``; a query alone is in none), ``all_languages.json``.

        The last may be missing; it has the counts of the whole ground truth: ``documents``, ``queries_with_hits``, and
        in ``hits`` the number of documents that hold each query.

        Raises:
            DataError: files that do not agree, unknown documents, a set in which no query is in any document.
        """
        data = DataDir.read(path, need_text=False)
        hits = {query: set(found.split()) for query, found in read_text(Path(path) / "hits").items()}
        known, ids = set(documents), {u.utt for u in data.utts}
        problems = [f"{query} is in wav.scp, but not in hits" for query in sorted(ids - hits.keys())]
        problems += [f"{query} is in hits, but not in wav.scp" for query in sorted(hits.keys() - ids)]
        problems += [f"{query}: hit {d} is not a document" for query in hits for d in sorted(hits[query] - known)]
        problems += [f"{query} is in all documents: nothing to tell apart" for query in hits if known <= hits[query]]
        if not problems and not any(hits.values()):
            problems.append("no query is in any document: nothing could be scored")
        if problems:
            raise DataError(summary(path, problems))
        counts = Path(path) / ALL_LANGUAGES
        return cls(data, hits, _whole(counts, hits, len(known)) if counts.is_file() else None)

    def score(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        """``mtwv``, its ``threshold``, and counts; with the whole ground truth ``mtwv_english``, of this part, too.

        Args:
            scores: query -> (document -> score).
        """
        part = maximum_term_weighted_value(scores, self.hits)
        value = part if self.whole is None else maximum_term_weighted_value(scores, self.hits, whole=self.whole)
        found = {
            "mtwv": value.mtwv,
            "threshold": value.threshold if value.mtwv > 0 else None,
            "n_queries_with_hits": value.queries,
        }
        if self.whole is not None:
            found["mtwv_english"] = part.mtwv
            found["all_languages"] = {"documents": self.whole.files, "queries_with_hits": self.whole.queries}
        return found


def _whole(path: Path, hits: Mapping[str, set[str]], documents: int) -> WholeSearch:
    """Raises DataError for counts that are damaged, or smaller than those of the part."""
    again = "prepare the corpus again (stage 1)"
    content = read_json(path, again)
    try:
        whole = WholeSearch(int(content["documents"]), int(content["queries_with_hits"]), dict(content["hits"]))
        counts = {query: len(found) for query, found in hits.items() if found}
        small = whole.files < documents or whole.queries < len(whole.hits)
        if small or any(not count <= whole.hits[query] < whole.files for query, count in counts.items()):
            raise ValueError("counts smaller than those of hits and of the documents")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not fit the files beside it ({error!r}); {again}") from None
    return whole
