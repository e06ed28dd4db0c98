"""Search for spoken queries in spoken documents (QUESST 2014) by time warping, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError
from s3router.files import write_json, write_lines
from s3router.superb.qbe.queries import Queries

if TYPE_CHECKING:
    import numpy as np

    from s3router.superb.qbe.hidden import HiddenStates

GAIN_DB = -3.0  # of sox, in s3prl
LEAST_FRAMES = 5  # shorter queries fit everywhere, and are found nowhere
DETECTED = 2.0  # standard deviations above a query's mean score: a decision of YES
FIGURES = {"mtwv": "MTWV × 100", "mtwv_english": "MTWV × 100, English only"}
Scores = dict[str, dict[str, float]]
"""query -> (document -> score)"""


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

    Where the queries' directories have ``all_languages.json``, ``mtwv`` is on the leaderboard's scale, which also
    chooses the layer, and ``mtwv_english`` is that of these queries and documents alone; else ``mtwv`` is the latter.

    Writes ``RESULTS.md``, ``layers.json`` and, for each test set, ``predict_SET/result.json`` and
    ``predict_SET/qbe_public/benchmark.stdlist.xml``.

    Args:
        documents_dir: Kaldi directory with ``wav.scp``.
        valid_dir, test_dirs: the same of queries, with ``hits`` (see `Queries.read`).
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
    values: dict[int, dict[str, Any]] = {}
    for layer in layers:
        values[layer] = valid.score(search(queries[0].layer(layer), stored.layer(layer)))
        say(f"layer {layer}: MTWV {values[layer]['mtwv']:.4f} on {valid_dir.name}")
    best = max(layers, key=lambda layer: (values[layer]["mtwv"], -layer))
    figures = [name for name in FIGURES if name in values[best]]
    report = {name: {layer: value[name] for layer, value in values.items()} for name in figures}
    write_json(output_dir / "layers.json", {"selected": best, "set": valid_dir.name, **report})
    results = []
    for folder, test, hidden in zip(test_dirs, tests, queries[1:], strict=True):
        scores = search(hidden.layer(best), stored.layer(best))
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
                "valid_mtwv": values[best]["mtwv"],
                **test.score(scores),
                "n_queries": len(test.hits),
                "n_documents": len(ids),
            }
        )
        write_json(target / "result.json", results[-1])
    write_lines(output_dir / "RESULTS.md", _table(valid_dir.name, values, results))
    return results


def _table(valid: str, values: Mapping[int, Mapping[str, Any]], results: Sequence[dict]) -> list[str]:
    """Markdown: the test sets, and the layers on the validation set."""
    found = [name for name in FIGURES if all(name in row for row in (*values.values(), *results))]
    heads = " | ".join(FIGURES[name] for name in found)

    def cells(row: Mapping[str, Any]) -> str:
        return " | ".join(f"{100 * row[name]:.2f}" for name in found)

    lines = [
        f"| set | upstream | track | layer | queries | documents | {heads} |",
        f"|---|---|---|---:|---:|---:|{'---:|' * len(found)}",
    ]
    lines += [
        f"| {Path(r['data_dir']).name} | {r['upstream']} | {r['track']} | {r['layer']} | {r['n_queries_with_hits']} "
        f"| {r['n_documents']} | {cells(r)} |"
        for r in results
    ]
    lines += ["", f"| layer, on {valid} | {heads} |", f"|---:|{'---:|' * len(found)}"]
    lines += [f"| {layer} | {cells(value)} |" for layer, value in values.items()]
    if "mtwv_english" in found:
        lines += [
            "",
            "MTWV as the leaderboard counts it, with the ground truth of all languages; it chooses the layer.",
        ]
    return lines


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
