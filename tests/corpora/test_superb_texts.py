"""The preparation of LibriSpeech and Audio SNIPS for SUPERB on miniatures, against s3prl's own readers; refusals."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from s3router.cli.prepare_mini import SUPERB
from s3router.corpora import librispeech, snips
from s3router.errors import DataError
from s3router.superb.labels import LabelledDir
from s3router.superb.tasks import TASKS
from s3router.upstreams.s3prl_engine import load as load_s3prl
from s3router.upstreams.s3prl_engine import problem

ROOT = Path(__file__).parents[2]
SETS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("mini")
    for task in ("pr", "asr", "sf"):
        SUPERB[task][0](top / task)
    return top


def prepare(task: str, corpus: Path, out: Path) -> dict[str, LabelledDir]:
    if task == "sf":
        snips.prepare(corpus, out)
    else:
        librispeech.prepare_superb(corpus, out, lexicon=[corpus / "lexicon.txt"] if task == "pr" else [])
    return {name: TASKS[task].read(out / name) for name in SETS}


def libri_of_s3prl(root: Path):
    corpus = load_s3prl("s3prl.dataio.corpus.librispeech").LibriSpeech
    return corpus(str(root / "LibriSpeech"), 1, *([part] for part in SETS.values()))


def test_letters_are_those_that_s3prl_reads(miniatures, tmp_path):
    found = prepare("asr", miniatures / "asr", tmp_path)
    for name, part in zip(SETS, libri_of_s3prl(miniatures / "asr").data_split, strict=True):
        assert found[name].labels == {utt: item["transcription"] for utt, item in part.items()}
        sources = {u.utt: u.source for u in found[name].data.utts}
        assert sources == {utt: str(item["wav_path"]) for utt, item in part.items()}
    assert any("'" in text for text in found["train"].labels.values())


def test_phonemes_are_those_of_the_lexicon(miniatures, tmp_path):
    found = prepare("pr", miniatures / "pr", tmp_path)
    lexicon = dict(line.split(" ", 1) for line in (miniatures / "pr/lexicon.txt").read_text().splitlines())
    for name, part in zip(SETS, libri_of_s3prl(miniatures / "pr").data_split, strict=True):
        wanted = {u: " ".join(lexicon[word] for word in item["transcription"].split()) for u, item in part.items()}
        assert found[name].labels == wanted


def test_slots_are_those_that_s3prl_reads_and_encodes(miniatures, tmp_path):
    found = prepare("sf", miniatures / "sf", tmp_path / "out")
    kind, classes = TASKS["sf"], TASKS["sf"].inventory(found["train"])
    encoder = kind.encoder(classes)
    settings = problem("SuperbSF").default_config()["prepare_data"]
    settings["dataset_root"] = str(miniatures / "sf/SNIPS")
    theirs = load_s3prl("s3prl.problem.asr.superb_sf").audio_snips_for_slot_filling
    train, valid, tests = theirs(tmp_path, None, **settings)
    for name, path in zip(SETS, (train, valid, *tests), strict=True):
        clips = kind.clips(found[name], encoder, kind.settings())
        ours = {clips[0, i]["unique_name"]: clips[0, i] for i in range(len(clips))}
        with path.open() as file:
            rows = {row["id"]: row for row in csv.DictReader(file)}
        assert ours.keys() == rows.keys()
        for utt, row in rows.items():
            ids = encoder.encode(row["transcription"], row["iob"])
            assert ours[utt]["class_ids"].tolist() == ids
            assert ours[utt]["labels"] == encoder.decode(ids)
    assert "?" not in classes[0]
    assert classes[1] == ["album", "artist", "city", "condition_description", "party_size_number", "timeRange"]


def rewrite(corpus: Path, before: str, after: str) -> None:
    """Change the texts of Audio SNIPS."""
    path = corpus / "SNIPS/all.iob.snips.txt"
    content = path.read_text(encoding="utf-8")
    assert before in content
    path.write_text(content.replace(before, after), encoding="utf-8")


def test_words_that_s3prl_cleans_away_need_no_tag(miniatures, tmp_path):
    """What the corpus holds, going by s3prl's cleaning: a magazine's Chinese name, quotation marks, blank lines."""
    corpus = tmp_path / "sf"
    shutil.copytree(miniatures / "sf", corpus)
    plain = prepare("sf", corpus, tmp_path / "plain")
    rewrite(corpus, "BOS PLAY BLUE NOTE", 'BOS PLAY 官方杂志 " BLUE NOTE')
    rewrite(corpus, "PlayMusic\n", "PlayMusic\n\n")
    cleaned = prepare("sf", corpus, tmp_path / "cleaned")
    for name in SETS:
        assert cleaned[name].labels == plain[name].labels


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("pr", lambda c: (c / "lexicon.txt").unlink(), "lexicon.txt: no such file"),
        ("pr", lambda c: (c / "lexicon.txt").write_text("THE\n"), "line 1 is not 'WORD P1 P2"),
        ("pr", lambda c: (c / "lexicon.txt").write_text("THE DH AH0\n"), "APPLES is not in the lexicon"),
        ("asr", lambda c: shutil.rmtree(c / "LibriSpeech/dev-clean"), "dev-clean missing; LibriSpeech has it"),
        (
            "asr",
            lambda c: shutil.rmtree(c / "LibriSpeech/train-clean-100"),
            "train-clean-100 missing; LibriSpeech has it",
        ),
        ("asr", lambda c: next((c / "LibriSpeech/test-clean").rglob("*.flac")).unlink(), "missing, but"),
        ("sf", lambda c: (c / "SNIPS/all.iob.snips.txt").unlink(), "all.iob.snips.txt missing; Audio SNIPS has it"),
        (
            "sf",
            lambda c: shutil.rmtree(c / "SNIPS/valid"),
            "valid missing; Audio SNIPS has it: unpack",
        ),
        ("sf", lambda c: rewrite(c, "EOS\tO O album album", "EOS\tO O album"), "has 8 words, but 7 tags"),
        (
            "sf",
            lambda c: (c / "SNIPS/all.iob.snips.txt").write_text("a X Y Z\tO O O\n"),
            "line 1 is not '<utterance> BOS",
        ),
        ("sf", lambda c: [path.unlink() for path in c.rglob("Amy-*.wav")], "valid: no recording .*Amy"),
    ],
)
def test_incomplete_and_wrong_corpora_are_refused(miniatures, tmp_path, task, change, message):
    corpus = tmp_path / task
    shutil.copytree(miniatures / task, corpus)
    change(corpus)
    with pytest.raises(DataError, match=message):
        prepare(task, corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_audio_snips_says_where_it_is_to_be_put(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "egs/superb/sf1/local/data.sh")],
        **{"capture_output": True, "text": True, "cwd": tmp_path, "check": False},
        env={**os.environ, "S3ROUTER_VENV": "/nonexistent/venv"},
    )
    assert done.returncode != 0
    assert f"Put SNIPS.zip into {tmp_path}/downloads" in done.stderr
    assert "--corpus DIR" in done.stderr
