"""Search for spoken queries in spoken documents (QUESST 2014) by time warping, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from s3router.data.kaldi import DataDir, summary
from s3router.errors import ConfigError, DataError
from s3router.files import write_json, write_lines
from s3router.scoring.files import read_text
from s3router.scoring.mtwv import maximum_term_weighted_value

if TYPE_CHECKING:
    import numpy as np

    from s3router.superb.qbe.hidden import HiddenStates

GAIN_DB = -3.0  # of sox, in s3prl
LEAST_FRAMES = 5  # shorter queries fit everywhere, and are found nowhere
DETECTED = 2.0  # standard deviations above a query's mean score: a decision of YES
Scores = dict[str, dict[str, float]]
"""query -> (document -> score)"""


@dataclass(frozen=True)
class Queries:
    """A set of queries, and the documents that hold each (of those of the search set)."""

    data: DataDir
    hits: dict[str, set[str]]

    @classmethod
    def read(cls, path: Path, documents: Sequence[str]) -> Queries:
        """``wav.scp`` and ``hits`` (``query document document …``; a query alone is in none).

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
        return cls(data, hits)


def search(queries: Mapping[str, np.ndarray], documents: Mapping[str, np.ndarray]) -> Scores:
    """Score of every pair, standardised over the documents for each query.

    Args:
        queries, documents: id -> float32 (frames, width), of one layer. Each dimension is standardised over all
            frames of both.
    """
    import numpy as np

    from s3router.superb.qbe.dtw import subsequence_costs

    mean, deviation = _moments([*queries.values(), *documents.values()])
    stored = [(frames - mean) / deviation for frames in documents.values()]
    found: Scores = {}
    for query, frames in queries.items():
        if len(frames) < LEAST_FRAMES:
            values = np.zeros(len(stored))
        else:
            values = -subsequence_costs((frames - mean) / deviation, stored)
        values = (values - values.mean()) / max(values.std(), 1e-9)
        found[query] = {name: round(float(value), 4) for name, value in zip(documents, values, strict=True)}
    return found


def _moments(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each dimension over all frames, float32 (width,)."""
    import numpy as np

    count = sum(len(part) for part in parts)
    mean = sum(part.sum(0, dtype=np.float64) for part in parts) / count
    variance = sum(np.square(part - mean).sum(0) for part in parts) / max(count - 1, 1)
    return mean.astype(np.float32), np.maximum(np.sqrt(variance), 1e-9).astype(np.float32)


def stdlist(scores: Scores) -> list[str]:
    """Lines of ``benchmark.stdlist.xml``, in the form that QUESST's scorer and SUPERB's submission take."""
    root = ElementTree.Element(
        "stdlist",
        termlist_filename="benchmark.stdlist.xml",
        indexing_time="1.00",
        language="english",
        index_size="1",
        system_id="benchmark",
    )
    fixed = {"channel": "1", "tbeg": "0.000", "dur": "0.00"}
    for query, found in scores.items():
        terms = ElementTree.SubElement(
            root, "detected_termlist", termid=query, term_search_time="1.0", oov_term_count="1"
        )
        for document, score in found.items():
            decision = "YES" if score > DETECTED else "NO"
            ElementTree.SubElement(terms, "term", file=document, **fixed, score=f"{score:.4f}", decision=decision)
    ElementTree.indent(root)
    return ["<?xml version='1.0' encoding='UTF-8'?>", *ElementTree.tostring(root, encoding="unicode").splitlines()]


def search_sets(
    documents_dir: Path,
    valid_dir: Path,
    test_dirs: Sequence[Path],
    output_dir: Path,
    hidden_dir: Path,
    upstream: str = "tiny",
    upstream_ckpt: str | None = None,
    layers: Sequence[int] | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> list[dict]:
    """Search for the queries of test sets with the layer that is best on the validation set.

    Writes ``RESULTS.md``, ``layers.json`` and, for each test set, ``predict_SET/result.json`` and
    ``predict_SET/qbe_public/benchmark.stdlist.xml``.

    Args:
        documents_dir: Kaldi directory with ``wav.scp``.
        valid_dir, test_dirs: the same of queries, with ``hits``.
        output_dir: where the files go.
        hidden_dir: keeps the hidden states: many gigabytes.
        upstream, upstream_ckpt: its name and checkpoint, as in training.
        layers: the layers to try, from 0; None: all.
        device: ``cpu`` or ``cuda``, for the upstream.
        say: gets a line for each set and layer, as they are done.

    Returns:
        The contents of the files ``result.json``.

    Raises:
        ConfigError: sets of the same name, layers that the upstream does not have.
        DataError: directories that are incomplete or disagree.
    """
    names = [folder.name for folder in (documents_dir, valid_dir, *test_dirs)]
    if len(set(names)) < len(names):
        raise ConfigError(f"two of the sets have the same name ({', '.join(names)}); rename one")
    documents = DataDir.read(documents_dir, need_text=False)
    ids = [u.utt for u in documents.utts]
    valid, *tests = (Queries.read(folder, ids) for folder in (valid_dir, *test_dirs))
    sets = [documents, valid.data, *(test.data for test in tests)]
    stored, *queries = _hidden(sets, hidden_dir, upstream, upstream_ckpt, device, say)
    layers = list(range(stored.layers)) if layers is None else layers
    if strange := [layer for layer in layers if not 0 <= layer < stored.layers]:
        raise ConfigError(f"--layers {strange[0]}: {upstream} has the layers 0 to {stored.layers - 1}")
    values = {}
    for layer in layers:
        scores = search(queries[0].layer(layer), stored.layer(layer))
        values[layer] = maximum_term_weighted_value(scores, valid.hits).mtwv
        say(f"layer {layer}: MTWV {values[layer]:.4f} on {valid_dir.name}")
    best = max(layers, key=lambda layer: (values[layer], -layer))
    report = {"selected": best, "mtwv": values, "set": valid_dir.name}
    write_json(output_dir / "layers.json", report)
    results = []
    for folder, test, hidden in zip(test_dirs, tests, queries[1:], strict=True):
        scores = search(hidden.layer(best), stored.layer(best))
        value = maximum_term_weighted_value(scores, test.hits)
        target = output_dir / f"predict_{folder.name}"
        write_lines(target / "qbe_public/benchmark.stdlist.xml", stdlist(scores))
        results.append(
            {
                "task": "qbe",
                "method": "frozen",
                "track": "constrained",
                "upstream": upstream,
                "data_dir": str(folder),
                "documents_dir": str(documents_dir),
                "layer": best,
                "valid_mtwv": values[best],
                "mtwv": value.mtwv,
                "threshold": value.threshold if value.mtwv > 0 else None,
                "n_queries": len(test.hits),
                "n_queries_with_hits": value.queries,
                "n_documents": len(ids),
            }
        )
        write_json(target / "result.json", results[-1])
    write_lines(output_dir / "RESULTS.md", _table(valid_dir.name, values, results))
    return results


def _table(valid: str, values: Mapping[int, float], results: Sequence[dict]) -> list[str]:
    """Markdown: the test sets, and the layers on the validation set."""
    lines = [
        "| set | upstream | track | layer | queries | documents | MTWV × 100 |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {Path(r['data_dir']).name} | {r['upstream']} | {r['track']} | {r['layer']} | {r['n_queries_with_hits']} "
        f"| {r['n_documents']} | {100 * r['mtwv']:.2f} |"
        for r in results
    ]
    lines += ["", f"| layer | MTWV × 100 on {valid} |", "|---:|---:|"]
    return [*lines, *(f"| {layer} | {100 * value:.2f} |" for layer, value in values.items())]


def _hidden(
    sets: Sequence[DataDir],
    folder: Path,
    upstream: str,
    upstream_ckpt: str | None,
    device: str,
    say: Callable[[str], None],
) -> list[HiddenStates]:
    from s3router.superb.qbe.hidden import store
    from s3router.training.processes import processes
    from s3router.upstreams import hub
    from s3router.upstreams.s3prl_engine import load

    theirs = load("s3prl.nn.upstream")  # before the hub: it spares what s3prl imports in vain
    hub.register()
    with processes(device) as (_, _, device):
        loaded = theirs.S3PRLUpstream("s3router", upstream_ckpt, extra_conf={"upstream": upstream}).to(device)
        needed = loaded.upstream.anatomy.receptive_field
        found = []
        for data in sets:
            say(f"{data.path}: hidden states of {len(data.utts)} recordings")
            found.append(store(loaded, data, folder / data.path.name, needed, GAIN_DB, device))
    return found
