"""The command: what it writes, that the page holds together, and what it refuses."""

from __future__ import annotations

import csv
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from s3router import cli
from s3router.analysis import typology
from s3router.analysis.drawing import number
from s3router.analysis.mask_set import read_sources
from s3router.errors import PackError
from s3router.packs import read_pack, write_pack
from tests.analysis.conftest import ROOT, packs_of_tiny

FIVE = "tests/fixtures/five"
ROUTES = ["es", "it", "fr", "ru", "mboshi"]
needs_lang2vec = pytest.mark.skipif(typology.data_folder() is None, reason="lang2vec is not installed")


def run(*words: object) -> int:
    return cli.main(["analyze", *map(str, words)])


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def relatedness(path: Path, routes: list[str]) -> Path:
    lines = [f"{a},{b},{n}" for n, (a, b) in enumerate((a, b) for a in routes for b in routes if a < b)]
    path.write_text("\n".join(["a,b,value", *lines]) + "\n")
    return path


def transferred(path: Path, routes: list[str]) -> Path:
    """Error rates of all in all, as s3router transfer writes them: two seeds each, and without a mask."""
    lines = [
        f"{a},{b},{0.3 + 0.1 * m + 0.01 * n * m - 0.1 * (a == b) + 0.001 * seed},{seed}"
        for n, a in enumerate(["none", *routes])
        for m, b in enumerate(routes)
        for seed in (0, 1)
    ]
    path.write_text("\n".join(["a,b,value,seed", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def made(packs, tmp_path_factory) -> Path:
    """The folder of an analysis with everything that there is, and a page of Markdown beside it."""
    folder = tmp_path_factory.mktemp("analysis")
    table = relatedness(folder / "families.csv", ["es", "it", "fr", "ru"])
    matrix = transferred(folder / "transfer.csv", ROUTES)
    more = ("--relate", f"families={table}", f"transfer={matrix}", "--markdown", folder / "ANALYSIS.md")
    languages = ("--language", "mboshi=mdw") if typology.data_folder() else ()
    assert run(*packs, "-o", folder / "out", "--audio", FIVE, "--typology", *sets(), *more, *languages) == 0
    return folder


def sets() -> tuple[str, ...]:
    return ("inventory", "family") if typology.data_folder() else ("none",)


def test_the_tables_say_what_the_packs_are(made, packs):
    found = rows(made / "out/packs.csv")
    assert [row["pack"] for row in found] == ["es, seed 0", "es, seed 1", "fr", "it", "mboshi", "ru"]
    masks = [read_pack(path).masks for path in packs]
    for row, mask in zip(found, masks, strict=True):
        assert int(row["removed"]) == sum(int((~m).sum()) for m in mask.values())
        assert 0.7 < float(row["changed_from_initial"]) < 0.9  # at random: a fifth is where it began
        assert abs(float(row["explained_by_magnitude"])) < 0.05
    every = [row for row in rows(made / "out/pairs.csv") if row["scope"] == "all"]
    assert len(every) == 15
    first = {name: ~m.reshape(-1).numpy() for name, m in masks[0].items()}
    second = {name: ~m.reshape(-1).numpy() for name, m in masks[1].items()}
    common = sum(int((first[name] & second[name]).sum()) for name in first)
    assert int(float(every[0]["removed_by_both"])) == common
    assert [row["same_route"] for row in every].count("True") == 1
    assert all(abs(float(row["z"])) < 5 for row in every)
    assert {row["pairs_of"] for row in rows(made / "out/references.csv")} == {
        "a mask and its initial one",
        "different routes",
        "same route, another seed",
    }


def test_shared_and_layers_and_heads(made):
    shared = rows(made / "out/shared.csv")
    assert len(shared) == 7
    assert sum(float(row["share"]) for row in shared) == pytest.approx(1)
    assert float(shared[1]["share"]) == pytest.approx(float(shared[1]["expected_by_chance"]), rel=0.1)
    layers = rows(made / "out/layers.csv")
    assert {(row["layer"], row["role"]) for row in layers} == {(n, r) for n in "01" for r in ("ffn", "attention")}
    heads = rows(made / "out/heads.csv")
    assert {row["head"] for row in heads} == {"0", "1"}
    assert len(heads) == 6 * 2 * 4 * 2  # packs, layers, matrices, heads


def test_representations(made):
    found = rows(made / "out/representations.csv")
    assert len(found) == 3 * 7 * 6 // 2
    assert {float(row["cka"]) for row in found if row["layer"] == "0"} == {1.0}
    weights = rows(made / "out/layer_weights.csv")
    assert sum(float(row["weight"]) for row in weights if row["pack"] == "ru") == pytest.approx(1, abs=1e-5)


def test_relations(made):
    found = {row["measure"]: row for row in rows(made / "out/relations.csv")}
    assert found["families"]["routes"] == "4"
    assert found["families"]["missing"] == "mboshi"
    assert found["families"]["permutations"] == "24"
    assert 1 / 24 - 1e-6 <= float(found["families"]["spearman_p_two_sided"]) <= 1


def test_masks_that_serve_others(made):
    [found] = rows(made / "out/ordered.csv")  # families does not tell the orders of pairs apart
    assert (found["measure"], found["items"], found["pairs"], found["permutations"]) == ("transfer", "5", "20", "120")
    assert -1 <= float(found["spearman"]) <= 1
    assert found["low"] == found["high"] == ""  # of five languages most samples have too few
    own = sum(0.2 + 0.1 * m + 0.01 * (m + 1) * m + 0.0005 for m in range(5)) / 5
    assert float(found["mean_own"]) == pytest.approx(own)
    assert float(found["mean_unmasked"]) == pytest.approx(0.5005)
    assert float(found["mean_best"]) <= float(found["mean_nearest"])
    relation = next(row for row in rows(made / "out/relations.csv") if row["measure"] == "transfer")
    assert (relation["routes"], relation["meaning"]) == ("5", "transfer, less each language's mean")
    drawn = (made / "out/ordered_transfer.svg").read_text(encoding="utf-8")
    assert "<title>mask none, language es: 0.3" in drawn
    assert "<title>mask es, language it: " in drawn
    text = (made / "ANALYSIS.md").read_text(encoding="utf-8")
    assert "## Does the mask of one serve another?" in text
    assert "(out/ordered_transfer.svg)" in text
    assert f"their own mask {number(own)}, " in " ".join(text.split())


def test_too_few_are_served(packs, tmp_path, capsys):
    table = transferred(tmp_path / "t.csv", ["es", "it", "fr"])
    assert (
        run(*packs, "-o", tmp_path / "out", "--typology", "none", "--bits-only", "--relate", f"transfer={table}") == 0
    )
    assert "transfer: 3 languages are served; a correlation within each needs four." in capsys.readouterr().err
    assert not (tmp_path / "out/ordered.csv").exists()


def test_masks_whose_languages_are_not_served(packs, tmp_path):
    """As of s3router transfer --langs: they serve others all the same, and no sentence has a dash for a number."""
    lines = [
        line for line in transferred(tmp_path / "t.csv", ROUTES).read_text().splitlines() if ",mboshi," not in line
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    words = (*packs, "-o", tmp_path / "out", "--typology", "none", "--bits-only")
    assert run(*words, "--relate", f"WER={tmp_path / 't.csv'}", "--markdown", tmp_path / "out/A.md") == 0
    [found] = rows(tmp_path / "out/ordered.csv")
    assert (found["items"], found["pairs"], found["mean_languages"]) == ("5", "16", "4")
    others = [0.3 + 0.1 * m + 0.01 * n * m + 0.0005 for m in range(4) for n in range(1, 6) if n != m + 1]
    assert float(found["mean_others"]) == pytest.approx(np.mean(others))
    drawn = (tmp_path / "out/ordered_WER.svg").read_text(encoding="utf-8")
    assert "<title>mask mboshi, language es: " in drawn
    assert "language mboshi" not in drawn
    said = " ".join((tmp_path / "out/A.md").read_text(encoding="utf-8").split())
    assert "![WER: masks that serve others]" in said
    assert "(no interval, which takes six; two-sided p " in said
    assert "With 120 permutations no p below 0.00833 can come out. All this is of" in said
    constant = ["a,b,value", *(f"{a},{b},0.9" for a in ("none", *ROUTES) for b in ROUTES if a != b)]
    (tmp_path / "t.csv").write_text("\n".join(constant) + "\n")
    assert run(*words, "--relate", f"WER={tmp_path / 't.csv'}", "--markdown", tmp_path / "out/A.md") == 0
    said = " ".join((tmp_path / "out/A.md").read_text(encoding="utf-8").split())
    assert "of one column. Within no language is there a correlation with similarity: it takes three" in said


@needs_lang2vec
def test_typology(made):
    found = {row["measure"]: row for row in rows(made / "out/relations.csv")}
    assert (found["inventory"]["routes"], found["inventory"]["missing"]) == ("4", "mboshi")
    assert found["family"]["routes"] == "5"
    assert {row["language"] for row in rows(made / "out/packs.csv")} == {"spa", "fra", "ita", "mdw", "rus"}
    assert "Left out, since nothing is known of them: mboshi" in (made / "out/index.html").read_text()


class Page(HTMLParser):
    """Checks that tags are closed, and collects what a page has."""

    VOID = frozenset(("meta", "link", "br"))

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        given = dict(attrs)
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.ids |= {given["id"]} if "id" in given else set()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(made):
    text = (made / "out/index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert all(link.startswith("#") or link == "data:," for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert page.counts["figure"] == page.counts["figcaption"] == page.counts["svg"] >= 8
    assert page.counts["th"] == page.counts["button"]
    assert "url(" not in text
    assert "@import" not in text
    assert "s3router analyze" in text


def test_every_figure_is_a_document_of_its_own(made):
    found = sorted((made / "out").glob("*.svg"))
    assert {path.stem for path in found} >= {
        "similarity",
        "map",
        "shared",
        "magnitudes",
        "layer_similarity",
        "representations",
    }
    for path in found:
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for node in root.iter():
            if node.tag.endswith(("}circle", "}rect")):
                x = float(node.attrib.get("cx") or node.attrib["x"])
                y = float(node.attrib.get("cy") or node.attrib["y"])
                assert 0 <= x <= width, (path.name, node.attrib)
                assert 0 <= y <= height, (path.name, node.attrib)
        assert "nan" not in path.read_text(encoding="utf-8")


def test_markdown(made):
    text = (made / "ANALYSIS.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\((\S+)\)", text)
    assert len(pictures) >= 8
    assert all((made / path).is_file() for path in pictures)
    assert "| pairs of" in text
    assert "```sh\ns3router analyze" in text


def test_the_same_again_and_without_what_is_gone(made, packs, tmp_path):
    for _ in range(2):
        assert run(*packs, "-o", tmp_path / "out", "--typology", "none", "--audio", FIVE) == 0
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        (tmp_path / "out/own.csv").write_text("kept\n")
    assert run(*packs, "-o", tmp_path / "out", "--typology", "none") == 0
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after.pop("own.csv") == b"kept\n"
    assert before.keys() - after.keys() == {"own.csv", "representations.csv", "representations.svg"} & before.keys()
    same = before.keys() & after.keys() - {"index.html"}
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert "no audio was given" in after["index.html"].decode()


def test_files_of_others_stay(packs, tmp_path, capsys):
    """However they are called, and whatever an earlier analysis left there."""
    out = tmp_path / "out"
    out.mkdir()
    own = {"relation_notes.csv", "ordered_words.csv", "heads.csv", "relation_mine.svg", "map_2.svg", "purity.svg"}
    for name in own:
        (out / name).write_text("" if name == "purity.svg" else "mine of old\n")
    table = relatedness(out / "relation_families.csv", ["es", "it", "fr", "ru"])
    words = (*packs, "-o", out, "--typology", "none", "--bits-only")
    assert run(*words, "--relate", f"families={table}") == 0
    assert (out / "relations.csv").is_file()
    assert (out / "relation_families.svg").is_file()
    (out / "for_the_paper.svg").write_text((out / "relation_families.svg").read_text())
    kept = {path: path.read_text() for path in (table, out / "for_the_paper.svg", *(out / name for name in own))}
    assert run(*words) == 0
    assert {path: path.read_text() for path in kept} == kept
    assert not (out / "relations.csv").exists()
    assert not (out / "relation_families.svg").exists()
    # what is read is never written over
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    relatedness(out / "relations.csv", ["es", "it", "fr", "ru"])
    assert run(*words, "--relate", f"families={out / 'relations.csv'}") == 1
    assert "relations.csv: an analysis writes a file of this name there" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in out.iterdir() if path.name != "relations.csv"}


def test_without_the_backbone(packs, tmp_path, capsys):
    assert run(*packs[:3], "-o", tmp_path, "--bits-only", "--typology", "none", "--upstream-ckpt", "/nowhere") == 0
    captured = capsys.readouterr()
    assert "loading" not in captured.err
    assert "The backbone was left out" in captured.err
    assert not (tmp_path / "magnitudes.csv").exists()
    assert "z_given_magnitude" not in rows(tmp_path / "pairs.csv")[0]


def test_masks_that_remove_nothing(backbone, tmp_path, recwarn):
    """There is no chance level then: figures say so, and nothing is drawn at NaN."""
    from tests.analysis.conftest import make

    for route, sparsity in (("es", 0.0), ("it", 0.0), ("fr", 0.1), ("ru", 0.1)):
        write_pack(tmp_path / f"{route}.pack", make(backbone, route, sparsity=sparsity))
    table = relatedness(tmp_path / "t.csv", ["es", "it", "fr", "ru"])
    given = ("--relate", f"families={table}", "--typology", "none", "--command", "ours", "--bits-only")
    assert run(*sorted(tmp_path.glob("*.pack")), "-o", tmp_path / "out", *given) == 0
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
    assert not [path for path in (tmp_path / "out").glob("*.svg") if "nan" in path.read_text(encoding="utf-8")]
    found = {frozenset((row["a"], row["b"])): row for row in rows(tmp_path / "out/pairs.csv") if row["scope"] == "all"}
    assert found[frozenset(("es", "it"))]["above_chance"] == found[frozenset(("es", "it"))]["z"] == ""
    assert float(found[frozenset(("es", "it"))]["cosine"]) == 1
    assert '<pre tabindex="0">ours</pre>' in (tmp_path / "out/index.html").read_text(encoding="utf-8")


def test_masks_that_remove_nothing_or_all_beside_their_initial_ones(packs, tmp_path, capsys):
    """A mask of sparsity 0 began as what it is, and says so; one that removes all has no cosine, others have."""
    pack = read_pack(packs[2])
    for name, kept, sparsity in (("nothing", True, 0.0), ("everything", False, 0.99)):
        masks = {weight: torch.full_like(mask, kept) for weight, mask in pack.masks.items()}
        meta = replace(pack.meta, mask={**pack.meta.mask, "sparsity": sparsity})
        write_pack(tmp_path / f"{name}.pack", replace(pack, route=name, masks=masks, meta=meta))
    assert run(*packs[2:4], *tmp_path.glob("*.pack"), "-o", tmp_path / "out", "--typology", "none") == 0
    assert "are not known" not in capsys.readouterr().err
    for row in rows(tmp_path / "out/references.csv"):
        assert 0 < float(row["cosine_by_chance"]) < 1
        assert 0 < float(row["cosine"]) < 1


def test_counts_are_whole_numbers(tmp_path):
    """Of large models, too, where six digits do not tell them."""
    from tests.analysis.conftest import make
    from tests.packs.conftest import Backbone

    backbone = Backbone(width=500, layers=2)
    for route in ("aa", "bb"):
        write_pack(tmp_path / f"{route}.pack", make(backbone, route))
    assert run(*tmp_path.glob("*.pack"), "-o", tmp_path / "out", "--typology", "none", "--bits-only") == 0
    found = rows(tmp_path / "out/pairs.csv")[0]
    masks = [read_pack(path).masks for path in tmp_path.glob("*.pack")]
    total = sum(mask.numel() for mask in masks[0].values())
    assert total > 2_000_000
    assert found["total"] == str(total)
    assert found["removed_by_both"] == str(sum(int((~a & ~masks[1][n]).sum()) for n, a in masks[0].items()))


def test_sentences_name_what_is_there(packs, tmp_path):
    """Without the backbone and without seeds there are no references, and no next figure."""
    page = tmp_path / "out/index.html"
    assert run(*packs[2:5], "-o", tmp_path / "out", "--typology", "none", "--bits-only") == 0
    text = page.read_text(encoding="utf-8")
    assert "table above" not in text
    assert "see the next figure" not in text
    assert "magnitudes alone predict" not in text
    assert run(*packs[2:5], "-o", tmp_path / "out", "--typology", "none") == 0
    text = page.read_text(encoding="utf-8")
    assert "Hold the values against those of the initial masks (table above)." in text
    assert "(see the next figure)" in text
    assert "where magnitudes alone predict as many" in text


@needs_lang2vec
def test_languages_without_relatives_and_languages_of_two_routes(packs, tmp_path):
    """URIEL names no family of Basque, so it is left out; and two routes of Spanish are not two languages."""
    for route, path in zip(("es_5min", "es_60min", "fr", "ru", "eu"), packs, strict=False):
        write_pack(tmp_path / f"{route}.pack", replace(read_pack(path), route=route))
    words = ("-o", tmp_path / "out", "--typology", "family", "--bits-only")
    assert run(*sorted(tmp_path.glob("*.pack")), *words) == 0
    [found] = rows(tmp_path / "out/relations.csv")
    assert (found["routes"], found["pairs"], found["permutations"], found["missing"]) == ("4", "6", "24", "eu")
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "Some routes are of one language (spa: es_5min, es_60min)" in text
    assert run(*sorted(tmp_path.glob("*.pack"))[1:], *words) == 0
    assert "Some routes are of one language" not in (tmp_path / "out/index.html").read_text(encoding="utf-8")


def test_a_pruned_backbone(in_place, small_upstream, tmp_path, monkeypatch, recwarn, capsys):
    """Half of its weights are 0: no warnings, no columns without values, and a note for the reader."""
    from transformers import HubertModel

    model = HubertModel.from_pretrained(small_upstream)
    for name, weight in model.named_parameters():
        if "encoder.layers" in name and weight.dim() == 2:
            weight.data[weight.abs() < weight.abs().median()] = 0
    shutil.copytree(small_upstream, tmp_path / "pruned")
    model.save_pretrained(tmp_path / "pruned")
    monkeypatch.setenv("S3ROUTER_TINY", str(tmp_path / "pruned"))
    (tmp_path / "packs").mkdir()
    packs = packs_of_tiny(tmp_path / "packs", ["es", "it", "fr"])
    recwarn.clear()
    assert run(*packs, "-o", tmp_path / "out", "--typology", "none") == 0
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
    said = capsys.readouterr().err
    assert "Many of the masked weights have equal magnitudes in the backbone (49.9 % are 0)" in said
    assert all(row["z_given_magnitude"] for row in rows(tmp_path / "out/pairs.csv"))
    shares = rows(tmp_path / "out/magnitudes.csv")
    assert all(0 < float(row["share_removed"]) < 1 for row in shares)
    assert not [row for row in shares if 10 < float(row["magnitude_percentile"]) < 45]


def test_packs_that_were_pruned(packs, tmp_path, capsys):
    """Their masks follow the weights that they bring, so nothing is said of the backbone's magnitudes."""
    pruned = read_pack(packs[4])
    training = {"method": "imp", "seed": 0}
    write_pack(tmp_path / "pruned.pack", replace(pruned, meta=replace(pruned.meta, training=training)))
    out = tmp_path / "out"
    assert run(packs[0], packs[2], tmp_path / "pruned.pack", "-o", out, "--typology", "none") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "What magnitudes say of" in line]
    assert len(said) == 1
    assert f"of {pruned.route} is left empty" in said[0]
    for name in ("packs", "layers"):
        given = {(row["pack"], row["explained_by_magnitude"] != "") for row in rows(out / f"{name}.csv")}
        assert given == {("es", True), ("fr", True), (pruned.route, False)}
    for row in rows(out / "pairs.csv"):
        assert (row["z_given_magnitude"] == "") == (pruned.route in (row["a"], row["b"]))
        assert row["z"]
    assert {row["pack"] for row in rows(out / "magnitudes.csv")} == {"es", "fr"}
    assert "expected_given_magnitude" not in rows(out / "shared.csv")[0]
    other = replace(pruned, route="other", meta=replace(pruned.meta, training=training))
    write_pack(tmp_path / "other.pack", other)
    assert run(tmp_path / "pruned.pack", tmp_path / "other.pack", "-o", out, "--typology", "none") == 0
    assert not (out / "magnitudes.csv").exists()


def test_coded_packs(packs, tmp_path, capsys):
    from s3router.upstreams.hub import build

    backbone = build(upstream="tiny").backbone
    for path, codec in zip(packs[:2], ("coded", "gaps"), strict=True):
        write_pack(tmp_path / path.name, read_pack(path), codec, backbone)
    coded = sorted(tmp_path.glob("*.pack"))
    assert run(*coded, "-o", tmp_path / "coded", "--typology", "none") == 0
    assert run(*packs[:2], "-o", tmp_path / "bits", "--typology", "none") == 0
    assert (tmp_path / "coded/pairs.csv").read_bytes() == (tmp_path / "bits/pairs.csv").read_bytes()
    assert run(*coded, "-o", tmp_path / "x", "--bits-only") == 1
    assert "is coded relative to its backbone" in capsys.readouterr().err


@pytest.fixture
def refused(capsys, tmp_path):
    """refused(words, part of the message): one line on stderr, and nothing written."""

    def check(words: list[object], *parts: str) -> None:
        assert run(*words, "-o", tmp_path / "out") == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("s3router analyze: error: ")]
        assert len(errors) == 1
        for part in parts:
            assert part in errors[0]
        assert not (tmp_path / "out").exists()

    return check


def test_bad_input(packs, refused, tmp_path, monkeypatch):
    refused([packs[0]], "is the only pack: name at least two")
    other, bare, damaged = (tmp_path / f"{name}.pack" for name in ("other", "bare", "damaged"))
    pack = read_pack(packs[2])
    write_pack(other, replace(pack, meta=replace(pack.meta, fingerprint="0" * 32)))
    refused([packs[0], other], "other.pack: made for another backbone")
    refused([packs[0], other, "--bits-only"], "other.pack: for another backbone", "analyse them apart")
    write_pack(bare, replace(pack, masks={}, delta={"layer_norm.bias": pack.featurizer["weights"]}))
    refused([packs[0], bare, "--bits-only"], "bare.pack: it holds no masks (router)", "leave it out")
    damaged.write_bytes(packs[0].read_bytes()[:-9])
    refused([packs[0], damaged], "damaged.pack")
    refused([packs[0], tmp_path / "none.pack"], "none.pack: no such pack")
    refused([packs[0], packs[0]], "two packs are both called es, es0")
    refused([packs[0], packs[1], "--language", "xx=spa"], "--language: no pack has the route xx; known: es")
    refused([packs[0], packs[1], "--language", "es"], "es: expected ROUTE=CODE, each name once, as in yoruba=yor")
    refused([packs[0], packs[1], "--typology", "sounds"], "no typological features sounds; known: inventory, ")
    refused([packs[0], packs[1], "--frames", "3"], "--frames 3: at least 4")
    refused([packs[0], packs[1], "--seed", "-1"], "--seed -1: a whole number from 0 up")
    refused([packs[0], packs[1], "--audio", tmp_path / "none.wav"], "none.wav: no such file")
    refused([packs[0], packs[1], "--bits-only", "--audio", FIVE], "leave --bits-only out")
    refused([packs[0], packs[1], "--device", "gpu"], "--device gpu: no such device; known: cpu, cuda")
    monkeypatch.setattr(typology, "data_folder", lambda: None)
    refused([packs[0], packs[1], "--typology", "family"], "pip install lang2vec")


def test_a_file_in_the_place_of_the_folder(packs, tmp_path, capsys):
    (tmp_path / "file").touch()
    for folder in ("file", "file/deeper"):
        assert run(*packs, "-o", tmp_path / folder) == 1
        assert "file: a file; name a folder" in capsys.readouterr().err


def test_a_markdown_page_that_cannot_be_is_told_at_once(packs, refused, tmp_path, monkeypatch):
    """Before minutes of work, and before anything is written over."""
    monkeypatch.setattr("s3router.analysis.report.analyse", None)
    table = relatedness(tmp_path / "t.csv", ["es", "it", "fr", "ru"])
    (tmp_path / "file").touch()
    refused([*packs, "--markdown", tmp_path], "a folder; name a file for the Markdown page")
    refused([*packs, "--markdown", tmp_path / "file/A.md"], "file: a file; name a folder")
    refused([*packs, "--markdown", tmp_path / "out/index.html"], "index.html: an analysis writes a file of this name")
    refused([*packs, "--relate", f"x={table}", "--markdown", table], "t.csv: it is read, and would be written over")
    refused([*packs, "--markdown", packs[0]], "it is read, and would be written over")
    assert table.read_text(encoding="utf-8").startswith("a,b,value")


@needs_lang2vec
def test_tasks_are_no_languages(packs, tmp_path, capsys):
    """ks, sd and st are codes of ISO 639, too: Kashmiri, Sindhi and Southern Sotho."""
    pack, folder = read_pack(packs[0]), tmp_path / "packs"
    folder.mkdir()
    head = {"weight": torch.zeros(2, 32), "bias": torch.zeros(2)}
    ks = replace(pack, route="ks", head=head, meta=replace(pack.meta, labels=("yes", "no")))
    write_pack(folder / "ks.pack", ks)
    for route, named in (("sd", {}), ("st", {}), ("es_5min", {"language": "es"}), ("fr", {"text_language": "fr"})):
        meta = replace(pack.meta, preprocessing={**pack.meta.preprocessing, **named})
        write_pack(folder / f"{route}.pack", replace(pack, route=route, meta=meta))
    words = (*sorted(folder.iterdir()), "-o", tmp_path / "out", "--bits-only", "--typology", "family")
    assert run(*words, "--language", "st=none") == 0
    found = {row["pack"]: row["language"] for row in rows(tmp_path / "out/packs.csv")}
    assert found == {"es_5min": "spa", "fr": "fra", "ks": "", "sd": "snd", "st": ""}
    said = capsys.readouterr().err
    assert "Languages by the routes' names alone: sd is snd (--language ROUTE=CODE says another" in said
    assert "No language is known for ks (--language" in said
    assert run(*words, "--language", "st=none", "sd=none", "ks=kas") == 0
    assert "names alone" not in capsys.readouterr().err
    found |= {"sd": "", "ks": "kas"}
    assert {row["pack"]: row["language"] for row in rows(tmp_path / "out/packs.csv")} == found


@needs_lang2vec
def test_an_unknown_language(packs, refused):
    refused([packs[0], packs[2], "--language", "es=qqq"], "lang2vec knows no language es=qqq")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("a,b\nes,it\n", ("the columns a, b and value are needed, found a, b",)),
        ("a,b,value\nes,xx,1\n", (":2: no route 'xx' among the packs; known: es, fr",)),
        ("a,b,value\nes,fr,1\nes,fr,much\n", (":3: 'much' is no number",)),
        ("a,b,value\nes,fr,1\nes\n", (":3: the line ends before the column b",)),
        ("a,b,value\nes,fr,1\nfrançais,es,2\n", ("t.csv: line 3 is not UTF-8",)),
    ],
)
def test_bad_tables_of_pairs(packs, refused, tmp_path, monkeypatch, content, parts):
    (tmp_path / "t.csv").write_text(content, encoding="latin-1")
    monkeypatch.setattr("s3router.analysis.work.load_resident", None)  # the table is read before the backbone
    refused([packs[0], packs[2], "--relate", f"family_tree={tmp_path / 't.csv'}"], *parts)
    refused([packs[0], packs[2], "--relate", f"a/b={tmp_path / 't.csv'}"], "a name of letters, digits")
    refused([packs[0], packs[2], "--relate", f"inventory={tmp_path / 't.csv'}"], "that no typology has")


def test_the_recipe_says_what_is_missing(tmp_path):
    script = ROOT / "egs/asterisk/asr1/run_analysis.sh"
    unfinished = tmp_path / "es_router"
    unfinished.mkdir()
    done = subprocess.run(
        [script, "--runs", f"{tmp_path}/*_router"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "0 finished runs; two at least are compared (s3router experiment run conf/ctc.yaml makes" in done.stderr
    (unfinished / "result.json").write_text('{"method": "router"}\n')
    done = subprocess.run(
        [script, "--runs", f"{tmp_path}/*_router"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "es_router: its grid has no languages; say LANG=PATTERN in --runs" in done.stderr


def test_experiment_folders_are_taken(zygote, tmp_path):
    made = [
        zygote.run(tmp_path / name, "--sparsity", "0.2", "--seed", str(n)).exp for n, name in enumerate(("aa", "bb"))
    ]
    assert run(*made, "-o", tmp_path / "out", "--typology", "none") == 0
    found = rows(tmp_path / "out/packs.csv")
    assert [row["pack"] for row in found] == ["aa", "bb"]
    assert all(0 <= float(row["changed_from_initial"]) < 0.5 for row in found)  # six updates from the start
    assert all(not math.isnan(float(row["above_chance_to_initial"])) for row in found)
    assert np.mean([float(row["explained_by_magnitude"]) for row in found]) > 0.3
    with pytest.raises(PackError, match=r"aa: trained on another backbone .* leave --upstream out"):
        list(read_sources(made, fingerprint="0" * 32))


@needs_lang2vec
def test_measures_of_too_few_routes_are_named_in_one_line(packs, tmp_path):
    page = tmp_path / "ANALYSIS.md"
    assert run(packs[0], packs[2], "-o", tmp_path / "out", "--markdown", page, "--typology", "syntax", "family") == 0
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "Known of fewer than three routes, which a correlation takes: syntax, family." in text
    assert not (tmp_path / "out/relations.csv").exists()
