"""Query by example: time warping against s3prl's own matching, hidden states on disk, refusals, the recipe's parts."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import types
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from s3router.cli.superb_search import parser
from s3router.corpora import quesst14
from s3router.data.kaldi import DataDir
from s3router.errors import CheckpointError, ConfigError, DataError
from s3router.miniatures import superb_pairs
from s3router.superb.qbe import search
from s3router.superb.qbe.dtw import subsequence_costs

NAMES = ("dev", "documents", "test")


@pytest.fixture(scope="session")
def quesst(tmp_path_factory) -> Path:
    """A miniature of QUESST 2014."""
    top = tmp_path_factory.mktemp("quesst")
    superb_pairs.quesst(top)
    return top


@pytest.fixture(scope="session")
def sets(quesst: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data")
    quesst14.prepare(quesst, out)
    return out


@pytest.fixture
def expert(monkeypatch):
    """s3prl's module of this task, unmodified; what it imports in vain (sox effects, lxml) is stood in for."""
    for name, attributes in {
        "torchaudio.sox_effects": {"apply_effects_file": None},
        "lxml": {"etree": ElementTree},
    }.items():
        stand_in = types.ModuleType(name)
        vars(stand_in).update(attributes)
        monkeypatch.setitem(sys.modules, name, stand_in)
    package = types.ModuleType("s3prl.downstream")  # its own __init__ imports what is gone
    package.__path__ = [str(Path(importlib.import_module("s3prl").__file__).parent / "downstream")]
    monkeypatch.setitem(sys.modules, "s3prl.downstream", package)
    yield importlib.import_module("s3prl.downstream.quesst14_dtw.expert")
    for name in [name for name in sys.modules if name.startswith("s3prl.downstream.quesst14_dtw")]:
        del sys.modules[name]


SETTINGS = {"step_pattern": "asymmetric", "keep_internals": False, "distance_only": False}
SETTINGS |= {"open_begin": True, "open_end": True}


def test_costs_are_those_of_s3prl(expert, monkeypatch):
    random = np.random.default_rng(0)
    documents = [random.standard_normal((n, 6)).astype(np.float32) for n in (1, 2, 30, 9, 17)]
    for frames in (5, 12):
        query = random.standard_normal((frames, 6)).astype(np.float32)
        theirs = [expert.match(query, d, "q", "d", expert.cosine_exp, True, SETTINGS)[2] for d in documents[2:]]
        np.testing.assert_allclose(-subsequence_costs(query, documents[2:]), theirs, rtol=1e-6)
        whole = subsequence_costs(query, documents)
        monkeypatch.setattr("s3router.superb.qbe.dtw._CELLS", 20 * frames)  # several portions
        np.testing.assert_allclose(subsequence_costs(query, documents), whole)


def test_scores_are_those_of_s3prl(expert):
    """Normalised features and scores, out of s3prl's own record of a whole set."""
    import torch

    random = np.random.default_rng(1)
    queries = {f"q{n}": random.standard_normal((n, 4)).astype(np.float32) for n in (4, 7, 11)}
    documents = {f"d{n}": 3 + random.standard_normal((n, 4)).astype(np.float32) for n in (20, 25, 31)}
    feats = torch.from_numpy(np.concatenate([*queries.values(), *documents.values()]))
    mean, deviation = feats.mean(0).numpy(), feats.std(0).numpy()
    found = search.search(queries, documents)
    assert set(found["q4"].values()) == {0.0}  # shorter than five frames
    for query in ("q7", "q11"):
        pair = [((x - mean) / deviation) for x in (queries[query], *documents.values())]
        raw = np.array([expert.match(pair[0], d, "q", "d", expert.cosine_exp, True, SETTINGS)[2] for d in pair[1:]])
        assert list(found[query].values()) == pytest.approx((raw - raw.mean()) / raw.std(), abs=1e-3)


def test_preparation_takes_what_s3prl_takes(quesst, sets):
    from s3prl.dataio.corpus.quesst14 import Quesst14

    theirs = Quesst14(str(quesst / "quesst14Database"))
    for name, paths in zip(NAMES, (theirs.valid_queries, theirs.docs, theirs.test_queries), strict=True):
        ours = DataDir.read(sets / name, need_text=False).utts
        assert {u.source for u in ours} == {str(path) for path in paths}
    whole = {
        "documents": 9,
        "queries_with_hits": 4,
        "hits": dict.fromkeys((f"quesst14_eval_000{n}" for n in (1, 2, 3)), 2),
    }
    assert json.loads((sets / "test/all_languages.json").read_text()) == whole
    assert (sets / "test/hits").read_text().splitlines()[0] == "quesst14_eval_0001 quesst14_00003 quesst14_00004"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: shutil.rmtree(c / "scoring"), "not QUESST 2014 .*expected scoring in it or in quesst14Database/"),
        (lambda c: next(c.rglob("quesst14_eval.rttm")).unlink(), "the ground truth belongs to the corpus"),
        (lambda c: next(c.rglob("quesst14_eval.rttm")).write_text("LEXEME x\n"), "line 1 is not 'LEXEME FILE"),
        (lambda c: next(c.rglob("quesst14_eval.rttm")).write_text(""), "none of the English queries .eval."),
        (lambda c: (c / "eval_queries/quesst14_eval_0002.wav").unlink(), "line 2: .*0002.wav is missing"),
        (lambda c: (c / "scoring/language_key_dev.lst").write_text("a\n"), "line 1 is not 'quesst14Database/"),
        (lambda c: (c / "scoring/language_key_dev.lst").write_text("a/b.wav czech\n"), "no recording of nnenglish"),
    ],
)
def test_incomplete_corpora_are_refused(quesst, tmp_path, change, message):
    corpus = shutil.copytree(quesst / "quesst14Database", tmp_path / "quesst14Database")
    change(corpus)
    with pytest.raises(DataError, match=message):
        quesst14.prepare(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def command(sets: Path, upstream: Path, tmp_path: Path):
    """A function: further options -> the results of a search with the small random upstream."""

    def run(*more: str, top: Path = sets) -> list[dict]:
        given = ["--documents", str(top / "documents"), "--valid-dir", str(top / "dev")]
        given += ["--test-dirs", str(top / "test"), "--output-dir", str(tmp_path / "exp")]
        given += ["--hidden-dir", str(tmp_path / "hidden"), "--upstream", "hf_hubert_custom"]
        args = parser().parse_args([*given, "--upstream-ckpt", str(upstream), *more])
        names = {"documents": "documents_dir"}
        return search.search_sets(**{names.get(name, name): value for name, value in vars(args).items()})

    return run


def test_from_recordings_to_the_submission(command, tmp_path, sets):
    (result,) = command()
    report = json.loads((tmp_path / "exp/layers.json").read_text())
    values = {int(layer): value for layer, value in report["mtwv"].items()}
    assert result["layer"] == report["selected"] == max(values, key=lambda layer: (values[layer], -layer))
    assert list(report) == ["selected", "set", "mtwv", "mtwv_english"]
    assert result["all_languages"] == {"documents": 9, "queries_with_hits": 4}
    assert len(values) == 3  # two layers and what goes into the first
    root = ElementTree.parse(tmp_path / "exp/predict_test/qbe_public/benchmark.stdlist.xml").getroot()
    documents = [u.utt for u in DataDir.read(sets / "documents", need_text=False).utts]
    assert [terms.get("termid") for terms in root] == [f"quesst14_eval_000{n}" for n in (1, 2, 3)]
    for terms in root:
        assert [term.get("file") for term in terms] == documents
        scores = [float(term.get("score")) for term in terms]
        assert np.mean(scores) == pytest.approx(0, abs=1e-3)
        assert np.std(scores) == pytest.approx(1, abs=1e-3)
        assert [term.get("decision") for term in terms] == ["YES" if score > 2 else "NO" for score in scores]
    assert (
        f"| test | hf_hubert_custom | constrained | {result['layer']} | 3 | 8 "
        f"| {100 * result['mtwv']:.2f} | {100 * result['mtwv_english']:.2f} |"
        in (tmp_path / "exp/RESULTS.md").read_text()
    )

    before = (tmp_path / "hidden/documents/layer_00.f32").stat().st_mtime_ns
    assert command("--layers", str(result["layer"])) == [result]  # from the states on disk
    assert (tmp_path / "hidden/documents/layer_00.f32").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="--layers 9: hf_hubert_custom has the layers 0 to 2"):
        command("--layers", "9")
    (tmp_path / "hidden/dev/layer_01.f32").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"layer_01.f32 is missing or cut short; delete .*/dev"):
        command()


def test_the_leaderboards_scale_chooses_the_layer(command, sets, tmp_path, monkeypatch):
    """On the English part one layer is best, on the scale of all languages another; without counts there is one."""
    top = shutil.copytree(sets, tmp_path / "sets")
    documents = [u.utt for u in DataDir.read(sets / "documents", need_text=False).utts]
    hits = {line.split()[0]: set(line.split()[1:]) for line in (sets / "dev/hits").read_text().splitlines()}
    first = next(iter(hits))

    def layered(queries, stored):
        """Layer 0 finds one query without a mistake; layer 1 all of them, with a false alarm above each."""
        if layered.calls % 3 == 0:
            rows = {q: {d: float(q == first and d in hits[q]) for d in documents} for q in hits}
        else:
            alarm = {q: next(d for d in documents if d not in hits[q]) for q in hits}
            rows = {q: {d: 2.0 * (d == alarm[q]) + (d in hits[q]) for d in documents} for q in hits}
        layered.calls += 1
        return rows if queries.keys() == hits.keys() else {q: dict.fromkeys(documents, 0.0) for q in queries}

    monkeypatch.setattr(search, "search", layered)
    for files, layer in ((None, 0), (12_492, 1)):
        for name in ("dev", "test"):
            path = top / name / "all_languages.json"
            counts = json.loads((sets / name / "all_languages.json").read_text())
            if files is None:
                path.unlink()
            else:
                path.write_text(json.dumps({**counts, "documents": files}))
        layered.calls = 0
        (result,) = command(top=top)
        assert result["layer"] == layer
        assert ("mtwv_english" in result) == (files is not None)
    assert result["valid_mtwv"] == pytest.approx(3 / 4 * (1 - 12.49 / 12_490), abs=1e-6)
    (top / "dev/all_languages.json").write_text('{"documents": 3, "queries_with_hits": 4, "hits": {}}')
    with pytest.raises(
        DataError, match=r"all_languages.json does not fit the files beside it.*prepare the corpus again"
    ):
        command(top=top)


@pytest.mark.parametrize(
    ("hits", "message"),
    [
        ("quesst14_dev_0001 nothing\n", "hit nothing is not a document"),
        ("quesst14_dev_0009\n", "quesst14_dev_0009 is in hits, but not in wav.scp"),
        ("quesst14_dev_0001\nquesst14_dev_0002\nquesst14_dev_0003\n", "no query is in any document"),
    ],
)
def test_strange_hits_are_refused_before_anything_is_computed(command, sets, tmp_path, hits, message):
    top = shutil.copytree(sets, tmp_path / "sets")
    (top / "dev/hits").write_text(hits)
    with pytest.raises(DataError, match=message):
        command(top=top)
    assert not (tmp_path / "hidden").exists()
