"""``s3router superb-search``: spoken queries in spoken documents (QUESST 2014), by time warping, untrained.

Every layer of the frozen upstream is tried on the development queries; the one with the highest maximum term-weighted
value searches for the test queries. Leaves in the output folder ``RESULTS.md``, ``layers.json`` and, for each test
set, ``predict_SET/result.json`` and ``predict_SET/qbe_public/benchmark.stdlist.xml``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from s3router.data.kaldi import DataDir, summary
from s3router.errors import ConfigError, DataError, S3RouterError
from s3router.files import write_lines
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


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="s3router superb-search", description=__doc__.split("\n")[0])
    made.add_argument("--documents", type=Path, required=True, help="Kaldi directory with wav.scp")
    made.add_argument("--valid-dir", type=Path, required=True, help="the same of queries, with hits: decides the layer")
    made.add_argument("--test-dirs", type=Path, nargs="+", required=True, help="the same, searched with that layer")
    made.add_argument("--output-dir", type=Path, required=True, help="RESULTS.md, predictions, the submission's file")
    made.add_argument("--hidden-dir", type=Path, required=True, help="keeps the hidden states: many gigabytes")
    made.add_argument("--upstream", default="tiny", help="tiny, a name of s3router upstream list, or one of s3prl")
    made.add_argument("--upstream-ckpt", help="its checkpoint: path or URL")
    made.add_argument("--layers", type=int, nargs="+", help="the layers to try, from 0 (default: all)")
    made.add_argument("--device", default="cpu", help="cpu or cuda, for the upstream")
    return made


def run(args: argparse.Namespace) -> list[dict]:
    """The command; returns what the files ``result.json`` hold."""
    names = [folder.name for folder in (args.documents, args.valid_dir, *args.test_dirs)]
    if len(set(names)) < len(names):
        raise ConfigError(f"two of the sets have the same name ({', '.join(names)}); rename one")
    documents = DataDir.read(args.documents, need_text=False)
    ids = [u.utt for u in documents.utts]
    valid, *tests = (Queries.read(folder, ids) for folder in (args.valid_dir, *args.test_dirs))
    stored, *queries = _hidden(args, [documents, valid.data, *(test.data for test in tests)])
    layers = list(range(stored.layers)) if args.layers is None else args.layers
    if strange := [layer for layer in layers if not 0 <= layer < stored.layers]:
        raise ConfigError(f"--layers {strange[0]}: {args.upstream} has the layers 0 to {stored.layers - 1}")
    values = {layer: _value(search(queries[0].layer(layer), stored.layer(layer)), valid, layer) for layer in layers}
    best = max(layers, key=lambda layer: (values[layer], -layer))
    report = {"selected": best, "mtwv": values, "set": args.valid_dir.name}
    write_lines(args.output_dir / "layers.json", [json.dumps(report, indent=1)])
    results = []
    for folder, test, hidden in zip(args.test_dirs, tests, queries[1:], strict=True):
        scores = search(hidden.layer(best), stored.layer(best))
        value = maximum_term_weighted_value(scores, test.hits)
        target = args.output_dir / f"predict_{folder.name}"
        write_lines(target / "qbe_public/benchmark.stdlist.xml", stdlist(scores))
        results.append(
            {
                "task": "qbe",
                "mode": "frozen",
                "track": "constrained",
                "upstream": args.upstream,
                "data_dir": str(folder),
                "documents_dir": str(args.documents),
                "layer": best,
                "valid_mtwv": values[best],
                "mtwv": value.mtwv,
                "threshold": value.threshold if value.mtwv > 0 else None,
                "n_queries": len(test.hits),
                "n_queries_with_hits": value.queries,
                "n_documents": len(ids),
            }
        )
        write_lines(target / "result.json", [json.dumps(results[-1], indent=1)])
    write_lines(args.output_dir / "RESULTS.md", _table(args, values, results))
    return results


def _table(args: argparse.Namespace, values: Mapping[int, float], results: Sequence[dict]) -> list[str]:
    """Markdown: the test sets, and the layers on the validation set."""
    lines = [
        "| set | upstream | track | layer | queries | documents | MTWV × 100 |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {folder.name} | {args.upstream} | {r['track']} | {r['layer']} | {r['n_queries_with_hits']} "
        f"| {r['n_documents']} | {100 * r['mtwv']:.2f} |"
        for folder, r in zip(args.test_dirs, results, strict=True)
    ]
    lines += ["", f"| layer | MTWV × 100 on {args.valid_dir.name} |", "|---:|---:|"]
    return [*lines, *(f"| {layer} | {100 * value:.2f} |" for layer, value in values.items())]


def _hidden(args: argparse.Namespace, sets: Sequence[DataDir]) -> list[HiddenStates]:
    from s3router.superb.qbe.hidden import store
    from s3router.training.processes import processes
    from s3router.upstreams import hub
    from s3router.upstreams.s3prl_engine import load

    theirs = load("s3prl.nn.upstream")  # before the hub: it spares what s3prl imports in vain
    hub.register()
    with processes(args.device) as (_, _, device):
        extra = {"upstream": args.upstream}
        upstream = theirs.S3PRLUpstream("s3router", args.upstream_ckpt, extra_conf=extra).to(device)
        needed = upstream.upstream.anatomy.receptive_field
        found = []
        for data in sets:
            print(f"{data.path}: hidden states of {len(data.utts)} recordings", flush=True)
            found.append(store(upstream, data, args.hidden_dir / data.path.name, needed, GAIN_DB, device))
    return found


def _value(scores: Scores, queries: Queries, layer: int) -> float:
    value = maximum_term_weighted_value(scores, queries.hits).mtwv
    print(f"layer {layer}: MTWV {value:.4f} on {queries.data.path.name}", flush=True)
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = parser().parse_args(argv)
    try:
        results = run(args)
    except S3RouterError as error:
        print(f"superb-search: {error}", file=sys.stderr)
        return 1
    for folder, result in zip(args.test_dirs, results, strict=True):
        print(
            f"{folder}: MTWV {result['mtwv']:.4f} of {result['n_queries_with_hits']} queries with hits in "
            f"{result['n_documents']} documents, layer {result['layer']}, {result['track']} track"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
