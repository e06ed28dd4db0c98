"""Training from a program: any form of data in, a pack that serves out."""

from __future__ import annotations

from pathlib import Path

import pytest

import s3router
from s3router.api.training import _sets
from s3router.data.convert import convert
from s3router.data.kaldi import DataDir
from s3router.data.words import joined
from s3router.errors import ConfigError, DataError
from s3router.packs.pack_file import read_parts
from tests.seq2seq.conftest import whisper_folder  # noqa: F401

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"
QUICK = {"max_updates": 2, "valid_interval": 2, "progress_interval": 1}


@pytest.fixture
def at_root(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)  # the fixture's paths are relative


@pytest.mark.usefixtures("at_root")
def test_a_whole_recogniser_from_a_dataset(whisper_folder, tmp_path):  # noqa: F811
    datasets = pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
    convert(FIVE, tmp_path / "five", "hf")
    dataset = datasets.load_from_disk(str(tmp_path / "five")).rename_column("text", "sentence")
    where = {"output": tmp_path / "out", "text": "sentence", "language": "fr"}
    model = {"task": "seq2seq", "upstream": "auto", "upstream_ckpt": str(whisper_folder)}
    more = {**QUICK, "mask_conf": {"targets": ["ffn"]}, "sparsity": 0.2, "amp_dtype": "float32", "batch_size": 2}
    pack = s3router.train(dataset, **where, **model, corpus="five prompts", licence="CC0-1.0", **more)
    assert pack == tmp_path / "out" / "fr.pack"
    meta = read_parts(pack).description.meta
    assert (meta.corpus, meta.licence, meta.training["method"]) == ("five prompts", "CC0-1.0", "router")
    assert meta.mask["sparsity"] == 0.2
    assert {len(DataDir.read(tmp_path / "out" / "data" / name).utts) for name in ("train", "valid")} == {4, 1}
    router = s3router.Router("auto", packs=[pack], upstream_ckpt=str(whisper_folder))
    found = router.transcribe(sorted((FIVE / "audio").iterdir())[0])
    assert (found.route, found.language) == ("fr", "fr")
    timed = router.transcribe(sorted((FIVE / "audio").iterdir())[0], words=True)
    assert (found.words, timed.text, timed.confidence) == (None, found.text, found.confidence)
    assert joined(timed.words) == timed.text
    assert all(0 <= word.start <= word.end <= timed.seconds for word in timed.words)
    before = (tmp_path / "out" / "exp" / "best.pth").stat().st_mtime_ns
    assert s3router.train(dataset, **where, **model, **more) == pack
    assert (tmp_path / "out" / "exp" / "best.pth").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="seed"):
        s3router.train(dataset, **where, **model, **more, seed=1)


@pytest.mark.usefixtures("at_root")
def test_letters_from_a_manifest(small_upstream, tmp_path, monkeypatch):
    monkeypatch.setenv("S3ROUTER_TINY", str(small_upstream))
    convert(FIVE, tmp_path / "train.jsonl")
    pack = s3router.train(
        tmp_path / "train.jsonl",
        FIVE,
        output=tmp_path / "es",
        upstream="tiny",
        sparsity=0.3,
        amp_dtype="float32",
        **QUICK,
    )
    assert pack == tmp_path / "es" / "es.pack"
    found = s3router.Router(packs=[pack]).transcribe(sorted((FIVE / "audio").iterdir())[0], words=True)
    assert found.route == "es"
    assert found.words is not None


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize("on_disk", [False, True])
def test_splits_of_a_dataset(tmp_path, on_disk):
    datasets = pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
    convert(FIVE, tmp_path / "five", "hf")
    part = datasets.load_from_disk(str(tmp_path / "five"))
    splits = datasets.DatasetDict({"train": part.select(range(3)), "validation": part.select([3]), "test": part})
    if on_disk:
        splits.save_to_disk(str(tmp_path / "splits"))
        splits = tmp_path / "splits"
    for valid, counts in ((None, (3, 1)), (part.select(range(2)), (3, 2)), (splits, (3, 1)), (FIVE, (3, 5))):
        found = _sets(splits, valid, tmp_path / "data", "audio", "text")
        assert tuple(len(data.utts) for data in found) == counts


@pytest.mark.usefixtures("at_root")
def test_what_is_refused(tmp_path):
    for more, message in (
        ({"task": "asr"}, "task 'asr' is not known; known: auto, seq2seq, ctc"),
        ({"route": "a b"}, "route 'a b'"),
        ({"max_update": 3}, "unknown options: max_update; s3router seq2seq-train --help lists them"),
        ({"max_updates": "many"}, "an option has a wrong value"),
        ({"train_dir": "x"}, "unknown options: train_dir"),
        ({"task": "ctc", "upstream": "tiny", "token_type": "phn"}, "unknown options: token_type"),
    ):
        with pytest.raises(ConfigError, match=message):
            s3router.train(FIVE, FIVE, output=tmp_path / "out", **more)
    assert not (tmp_path / "out" / "exp").exists()
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.wav", "text": "a"}\n')
    with pytest.raises(DataError, match="one utterance is not enough"):
        s3router.train(tmp_path / "m.jsonl", output=tmp_path / "out")
