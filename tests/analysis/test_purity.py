"""Purity of characters under masks: the frames it rests on, what the command writes, and what is refused."""

from __future__ import annotations

import copy
import csv
import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from s3router import cli
from s3router.analysis import purity
from s3router.analysis.representation import load_resident, routed
from s3router.asr.frame_labels import frame_labels
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from s3router.data.tokens import build_token_list
from s3router.masks import load_masks
from s3router.packs import read_pack, write_pack
from s3router.scoring.purity import held_out_purity
from s3router.serving.route_heads import route_head

FIVE = Path("tests/fixtures/five")


@pytest.fixture(scope="module")
def with_heads(packs, tmp_path_factory) -> list[Path]:
    """Packs that write the fixture's letters."""
    folder = tmp_path_factory.mktemp("heads")
    tokens = tuple(build_token_list(utt.text for utt in DataDir.read(FIVE).utts))
    made = []
    for number, path in enumerate(packs[:3]):
        pack = read_pack(path)
        weight = torch.randn(len(tokens), 32, generator=torch.Generator().manual_seed(number))
        made.append(folder / path.name)
        write_pack(made[-1], dataclasses.replace(pack, head={"weight": weight}, tokens=tokens))
    return made


@pytest.fixture
def few_clusters(monkeypatch):
    monkeypatch.setattr(purity, "CLUSTERS", 5)


def test_large_hidden_states_stay_finite():
    kept = purity._kept(torch.tensor([[1.0, 1e6, -1e6]]))
    assert kept.tolist() == [[1.0, 65504.0, -65504.0]]


def test_it_is_that_of_models_of_their_own(with_heads, few_clusters):
    resident = load_resident(with_heads[0])
    pack = read_pack(with_heads[0])
    speech = DataDir.read(FIVE).with_durations().utts
    stranger = dataclasses.replace(speech[0], utt="x", text="日本")  # the head cannot write it
    lecture = dataclasses.replace(speech[0], utt="y", duration=purity.MOST_SECONDS + 1)  # longer than all that is taken
    with routed(resident, [("es", pack)]):
        found = purity.character_purity(resident, "es", route_head(pack).eval(), [lecture, *speech, stranger], seed=3)
    plain = load_resident(with_heads[0]).upstream
    model, head = copy.deepcopy(plain), route_head(pack)
    load_masks(model.backbone, pack.masks)
    halves, labels = {False: [], True: []}, []
    for number, utt in enumerate(speech):
        wave = torch.from_numpy(read_audio(utt.source))
        with torch.no_grad():
            masked = model.hidden([wave])
            log_probs = head(masked, torch.tensor([masked[0].size(1)]))[0]
            halves[bool(number % 2)].append([state[0] for state in (*plain.hidden([wave]), *masked)])
        if number % 2:
            labels.append(frame_labels(log_probs, head.tokens.encode(utt.text)))
    truth = np.concatenate(labels)
    values = []
    for place in range(6):
        fitted, held_out = (torch.cat([s[place] for s in halves[half]]).half().numpy() for half in (False, True))
        values.append(held_out_purity(fitted, held_out, truth, 5, seed=3))
    assert found.frozen == pytest.approx(values[:3])
    assert found.masked == pytest.approx(values[3:])
    assert found.frozen[0] == found.masked[0]  # what enters the transformer is the same
    assert (found.frozen[1:] != found.masked[1:]).any()
    assert found.one == pytest.approx(np.bincount(truth).max() / len(truth))
    assert (found.frames, round(found.seconds, 1)) == (len(truth), 4.5)


def test_the_command_writes_it(with_heads, few_clusters, tmp_path, monkeypatch, capsys):
    routes = dict.fromkeys(path.stem[:2] for path in with_heads)
    for route in routes:
        shutil.copytree(FIVE, tmp_path / "data" / route)
    words = [*with_heads, "-o", tmp_path / "out", "--typology", "none", "--markdown", tmp_path / "ANALYSIS.md"]
    assert cli.main(["analyze", *map(str, words), "--speech", f"{tmp_path}/data/{{lang}}"]) == 0
    with open(tmp_path / "out/purity.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(with_heads)
    assert {row["route"] for row in rows} == set(routes)
    assert all(0 < float(row["one_cluster"]) <= float(row["masked"]) <= 1 for row in rows)
    text = (tmp_path / "ANALYSIS.md").read_text(encoding="utf-8")
    assert "(out/purity.svg)" in text
    assert "5 k-means clusters" in " ".join(text.split())
    assert "What masks do to the purity of characters" in (tmp_path / "out/index.html").read_text(encoding="utf-8")
    # of one route alone: the others are said to be missing; and on a terminal
    one = next(iter(routes))
    assert "clusters of" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    more = ("--speech", f"{one}={tmp_path}/data/{one}", "--audio", str(FIVE))
    assert cli.main(["analyze", *map(str, words), *more]) == 0
    said = capsys.readouterr().err
    for bar in ("representations", f"hidden states of {one}", f"clusters of {one}"):
        assert re.search(rf"{bar}[^:]*: 100%", said), bar
    for route in routes:
        assert (f"Purity of characters, {route}: no speech was given (--speech)." in said) == (route != one)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits-only", "--speech", f"es={FIVE}"], "--speech needs the backbone; leave --bits-only out"),
        (["--speech", str(FIVE)], "give one path with {lang} in it"),
        (["--speech", "nowhere/{lang}"], "nowhere/es"),
        (["--speech", f"es={FIVE}"], "--speech of es: "),
    ],
)
def test_what_is_refused(with_heads, tmp_path, capsys, words, message):
    made = ["analyze", *map(str, with_heads), "-o", str(tmp_path / "out"), "--typology", "none"]
    assert cli.main([*made, *words]) != 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last
    assert (
        message != "--speech of es: " or "frames of speech with texts are too few for 100 clusters; give more" in last
    )
    assert not (tmp_path / "out").exists()
