"""The matrix of transfer: its cells, going on with a table, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from s3router.analysis import transfer
from s3router.cli import main
from s3router.packs import read_pack, write_pack
from s3router.upstreams.hub import build
from tests.analysis.conftest import ROOT

FIVE = ROOT / "tests/fixtures/five"
OPTIONS = ("--max-updates", "4", "--batch-seconds", "2", "--amp-dtype", "float32")


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data(in_place, tmp_path) -> Path:
    """Five utterances in each of two languages."""
    for lang in ("es", "it"):
        (tmp_path / "data" / lang).mkdir(parents=True)
        for file in FIVE.iterdir():
            if file.is_file():
                shutil.copy(file, tmp_path / "data" / lang)
    return tmp_path / "data"


@pytest.fixture
def words(data, tokens_file, packs):
    """The command for two packs, without its table."""
    sets = [word for name in transfer.SETS for word in (f"--{name}", f"{data}/{{lang}}")]
    two = [packs[0], next(path for path in packs if path.name.startswith("it"))]
    (data.parent / "tokens").mkdir()
    for lang in ("es", "it"):
        shutil.copy(tokens_file, data.parent / "tokens" / lang)

    def made(*more: object, packs: list[Path] = two) -> list[str]:
        tokens = ("--tokens", data.parent / "tokens" / "{lang}")
        return list(map(str, ["transfer", *packs, *sets, *tokens, *OPTIONS, *more]))

    return made


def test_the_matrix(words, tmp_path, monkeypatch, capsys):
    table = tmp_path / "transfer.csv"
    made: list[str] = []
    own = transfer.hidden_states
    monkeypatch.setattr(transfer, "hidden_states", lambda *args: made.append(args[1]) or own(*args))
    assert main(words("-o", table, "--langs", "es")) == 0
    found = rows(table)
    assert [(row["a"], row["b"]) for row in found] == [("none", "es"), ("es", "es"), ("it", "es")]
    assert made == [label for label in ("frozen", "es0", "it2") for _ in transfer.SETS]  # once for each set
    assert all(0 < float(row["value"]) <= 3 and row["value"] == row["dev"] for row in found)  # test is dev here
    assert {(row["updates"], row["test_seconds"], row["arithmetic"]) for row in found} == {("4", "4.5", "float32")}
    assert tuple(found[0]) == transfer.COLUMNS
    # the other language and another seed are added, and nothing is made twice
    made.clear()
    assert main(words("-o", table)) == 0
    assert made == [label for label in ("frozen", "es0", "it2") for _ in transfer.SETS]
    assert main(words("-o", table, "--seeds", "0", "1")) == 0
    assert [row for row in rows(table) if row["b"] == "es" and row["seed"] == "0"] == found
    assert len(rows(table)) == 12
    made.clear()
    before = table.read_text()
    assert main(words("-o", table, "--seeds", "0", "1")) == 0
    assert (made, table.read_text()) == ([], before)
    assert f"{table}: 12 cells" in capsys.readouterr().out


def test_an_interrupted_table_is_gone_on_with(words, tmp_path, monkeypatch):
    table, whole = tmp_path / "transfer.csv", tmp_path / "whole.csv"
    assert main(words("-o", whole)) == 0
    fit, done = transfer.fit_head, []

    def interrupted(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return fit(*args)

    monkeypatch.setattr(transfer, "fit_head", interrupted)
    assert main(words("-o", table)) == 130
    assert len(rows(table)) == 2
    monkeypatch.setattr(transfer, "fit_head", fit)
    assert main(words("-o", table)) == 0
    assert table.read_text() == whole.read_text()


def test_a_table_has_one_run_at_a_time(words, tmp_path, capsys):
    table = tmp_path / "transfer.csv"
    with FileLock(tmp_path / ".transfer.csv.lock"):
        assert main(words("-o", table)) == 1
    assert "transfer.csv: another run is filling this table; wait for it" in capsys.readouterr().err
    assert not table.exists()


def test_a_table_is_of_one_arithmetic(words, tmp_path, monkeypatch, capsys):
    """Whatever this machine finds faster."""
    table, whole = tmp_path / "transfer.csv", tmp_path / "whole.csv"
    assert main(words("-o", whole)) == 0
    assert main(words("-o", table, "--langs", "es")) == 0
    monkeypatch.setattr("s3router.training.arithmetic.choose_arithmetic", lambda *args: "bfloat16")
    assert main(words("-o", table, "--amp-dtype", "auto")) == 0
    assert table.read_text() == whole.read_text()
    capsys.readouterr()
    assert main(words("-o", table, "--amp-dtype", "bfloat16")) == 1
    said = capsys.readouterr().err
    assert "transfer.csv: its cells were made in float32, not bfloat16; leave --amp-dtype out" in said
    assert "loading" not in said
    assert main(words("-o", tmp_path / "new.csv", "--langs", "es", "--amp-dtype", "auto")) == 0
    assert {row["arithmetic"] for row in rows(tmp_path / "new.csv")} == {"bfloat16"}
    table.write_text(table.read_text().replace("float32", "bfloat16", 1))
    assert main(words("-o", table, "--amp-dtype", "auto")) == 1
    assert "transfer.csv: cells of bfloat16 and float32; delete the lines of one" in capsys.readouterr().err


def test_progress(words, tmp_path, monkeypatch, capsys):
    """A line for each cell in a log, a bar on a terminal."""
    assert main(words("-o", tmp_path / "a.csv", "--langs", "es")) == 0
    said = capsys.readouterr().err
    assert [line.split(":")[0] for line in said.splitlines() if " for es: " in line] == [
        "1/3 none for es",
        "2/3 es for es",
        "3/3 it for es",
    ]
    assert "%|" not in said
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(words("-o", tmp_path / "b.csv", "--langs", "es")) == 0
    assert "transfer: 100%" in capsys.readouterr().err


def test_a_cut_test_set_is_said(words, tmp_path):
    table = tmp_path / "transfer.csv"
    assert main(words("-o", table, "--langs", "it", "--max-test-seconds", "2")) == 0
    assert all(0.5 < float(row["test_seconds"]) < 4 and row["whole_test_seconds"] == "4.5" for row in rows(table))
    assert all(row["train_seconds"] == "4.5" for row in rows(table))


@pytest.fixture
def refused(words, tmp_path, capsys):
    def check(says: str, *more: object, **packs) -> None:
        before = sorted(tmp_path.rglob("*.csv"))
        assert main(words("-o", tmp_path / "new.csv", *more, **packs)) in (1, 2)
        assert says in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*.csv")) == before

    return check


def test_bad_input(refused, packs, data, tmp_path, tokens_file):
    refused("--train xx=…: not one of the languages that are served (es, it)", "--train", "xx=a")
    refused("--test data: give one path with {lang} in it, and LANG=PATH for others", "--test", "data")
    refused("--dev: none for it; add a path", "--dev", f"es={data}/es")
    refused("--max-test-seconds 0: a number above 0", "--max-test-seconds", "0")
    refused("updates 0: at least 1 is needed", "--max-updates", "0")
    refused("--device gpu: no such device; known: cpu, cuda", "--device", "gpu")
    refused(
        f"{data / 'de' / 'wav.scp'}: no such file",
        "--langs",
        "es",
        "de",
        "--tokens",
        tokens_file.parent / "{lang}",
        f"de={tokens_file}",
        f"es={tokens_file}",
    )
    refused("no such token list; write one with s3router tokens", "--tokens", f"{data}/{{lang}}/none")
    refused("es: no pack brings its tokens; name its token list (--tokens)", "--tokens", f"it={tokens_file}")
    short = tmp_path / "tokens.txt"
    short.write_text("<blank>\n<unk>\n<space>\na\n<sos/eos>\n")
    refused("not in the token list: p", "--tokens", f"es={short}", f"it={tokens_file}")
    refused("two packs are called es0; name each pack once", packs=[packs[0], packs[0]])
    none = dataclasses.replace(read_pack(packs[0]), route="none")
    write_pack(tmp_path / "n.pack", none)
    refused("n.pack: a route called none cannot be told", "--langs", "es", "it", packs=[packs[0], tmp_path / "n.pack"])
    other = read_pack(packs[0])
    other = dataclasses.replace(other, meta=dataclasses.replace(other.meta, fingerprint="0" * 32))
    write_pack(tmp_path / "o.pack", other)
    refused("o.pack", packs=[packs[0], tmp_path / "o.pack"])


def test_tables_of_another_kind(words, tmp_path, packs, capsys):
    table = tmp_path / "transfer.csv"

    def says(text: str, *more: object, **given) -> None:
        before = table.read_text()
        assert main(words("-o", table, *more, **given)) in (1, 2)
        assert text in capsys.readouterr().err
        assert table.read_text() == before

    table.write_text("a,b,value\nes,it,0.5\n")
    says("transfer.csv: not a table that this command has written")
    table.unlink()
    assert main(words("-o", table, "--langs", "es")) == 0
    says("the cell none, es was made with updates 4, now it is 5; name another file", "--max-updates", "5")
    says("was made with test seconds 4.5, now it is", "--max-test-seconds", "2")
    moved = tmp_path / "es0.pack"
    pack = read_pack(packs[0])
    write_pack(moved, dataclasses.replace(pack, masks={name: mask.flip(0) for name, mask in pack.masks.items()}))
    says("the pack es0 had other masks when the cell es, es was made", packs=[moved, packs[1]])
    table.write_text(table.read_text().replace("none,es,", "none,es,x"))
    says("transfer.csv:2: damaged")


def test_tokens_come_with_the_packs(data, tmp_path, tokens_file):
    """As of trained recognisers."""
    from s3router.data.tokens import read_token_list
    from tests.packs.conftest import random_masks

    backbone = build(upstream="tiny")
    masks = {n: m for n, m in random_masks(backbone.backbone).items() if "dense" in n}
    tokens = tuple(read_token_list(tokens_file))
    import torch

    from s3router.packs import MaskPack, PackMeta

    meta = PackMeta("tiny", backbone.backbone_fingerprint, preprocessing={"token_type": "char"})
    head = {"weight": torch.zeros(len(tokens), 32), "bias": torch.zeros(len(tokens))}
    write_pack(tmp_path / "it.pack", MaskPack("it", masks, {}, {}, head, tokens, meta))
    sets = [word for name in transfer.SETS for word in (f"--{name}", str(data / "it"))]
    assert main(["transfer", str(tmp_path / "it.pack"), "-o", str(tmp_path / "t.csv"), *sets, *OPTIONS]) == 0
    assert [row["a"] for row in rows(tmp_path / "t.csv")] == ["none", "it"]
