"""Sets of recordings and texts between the forms that people keep them in; audio is a recipe's miniature."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router import cli
from s3router.corpora.librispeech import read_part
from s3router.data.audio import join_stretch, read_audio, write_audio
from s3router.data.convert import convert, format_of
from s3router.data.hf_dataset import read_dataset
from s3router.data.kaldi import DataDir
from s3router.data.nemo_manifest import read_manifest
from s3router.errors import ConfigError, DataError
from s3router.miniatures.mini_librispeech import write_speaker
from s3router.miniatures.sentences import sentences

NEEDS = {"lhotse": "lhotse", "hf": "datasets"}
TARGETS = {"kaldi": "data", "nemo": "set.jsonl", "lhotse": "set.jsonl.gz", "hf": "dataset"}


@pytest.fixture(scope="module")
def kaldi(tmp_path_factory) -> Path:
    """A data directory of two readers, four recordings, one of which is a stretch."""
    folder = tmp_path_factory.mktemp("mini")
    texts = sentences("en", 4)
    for speaker in (0, 1):
        write_speaker(folder / "LibriSpeech", speaker, texts[2 * speaker : 2 * speaker + 2])
    utts = read_part(folder / "LibriSpeech")
    utts[1] = replace(utts[1], source=join_stretch(utts[1].source, 0.25, 1.0), duration=None)
    DataDir(folder, utts).write(folder / "kaldi")
    return folder / "kaldi"


def content(path: Path) -> dict[str, tuple]:
    """Id -> text, speaker, samples."""
    return {u.utt: (u.text, u.speaker, read_audio(u.source).tolist()) for u in DataDir.read(path).utts}


@pytest.mark.parametrize("form", ["nemo", "lhotse", "hf"])
def test_there_and_back(kaldi, tmp_path, form):
    if form in NEEDS:
        pytest.importorskip(NEEDS[form], reason="tools/setup.sh --with-data")
    convert(kaldi, tmp_path / TARGETS[form], form)
    assert format_of(tmp_path / TARGETS[form]) == form
    convert(tmp_path / TARGETS[form], tmp_path / "again", "kaldi")
    assert content(tmp_path / "again") == content(kaldi)
    sources = [u.source for u in DataDir.read(tmp_path / "again").utts]
    assert sum("#t=" in source for source in sources) == (form != "hf")  # there, stretches are recordings of their own


def test_through_all_of_them(kaldi, tmp_path):
    pytest.importorskip("lhotse", reason="tools/setup.sh --with-data")
    pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
    path = kaldi
    for number, form in enumerate(("lhotse", "nemo", "hf", "nemo", "lhotse", "kaldi")):
        (tmp_path / str(number)).mkdir()
        target = tmp_path / str(number) / TARGETS[form]
        assert cli.main(["convert", str(path), str(target), "--to", form]) == 0
        path = target
    assert content(path) == content(kaldi)


def test_a_manifest_as_nemo_writes_it(kaldi, tmp_path):
    utts = DataDir.read(kaldi).utts
    os.symlink(utts[0].source, tmp_path / "a.flac")
    lines = [
        {"audio_filepath": "a.flac", "duration": 0.5, "text": "one\ntwo", "offset": 0.25, "lang": "en"},
        {"audio_filepath": utts[2].source, "duration": 9.0, "text": "whole"},
    ]
    (tmp_path / "m.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {u.utt: u for u in convert(tmp_path / "m.json", tmp_path / "kaldi", "kaldi").utts}
    assert found["a-0000250"].text == "one two"
    assert len(read_audio(found["a-0000250"].source)) == 8000
    assert np.array_equal(read_audio(found["a-0000250"].source), read_audio(utts[0].source)[4000:12000])
    assert found[Path(utts[2].source).stem].source == utts[2].source
    written = (tmp_path / "kaldi" / "text").read_text()
    assert "a-0000250 one two\n" in written


def test_a_manifest_as_editors_leave_it(tmp_path):
    """A byte order mark, an empty line, and a line separator inside of a text."""
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 16000)
    line = json.dumps({"audio_filepath": "a.wav", "text": "one\u2028two"}, ensure_ascii=False)
    (tmp_path / "m.json").write_text(f"\n{line}\n", encoding="utf-8-sig")
    [found] = convert(tmp_path / "m.json", tmp_path / "kaldi", "kaldi").utts
    assert found.text == "one two"


def test_ids_that_become_one_file_name(tmp_path):
    datasets = pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
    content = []
    for level in (0.1, 0.2):
        write_audio(tmp_path / "a.wav", np.full(800, level), 16000)
        content.append({"bytes": (tmp_path / "a.wav").read_bytes(), "path": "a.wav"})
    rows = datasets.Dataset.from_dict({"id": ["a/1", "a_1"], "audio": content, "text": ["one", "two"]})
    found = read_dataset(rows, tmp_path / "wav")
    assert [read_audio(utt.source)[0] for utt in found] == pytest.approx([0.1, 0.2], abs=1e-3)


def test_ids_of_sentences_that_several_speak(tmp_path):
    datasets = pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
    write_audio(tmp_path / "a.wav", np.full(800, 0.1), 16000)
    content = [{"bytes": (tmp_path / "a.wav").read_bytes(), "path": "a.wav"}] * 2
    columns = {"id": [903, 903], "audio": content, "text": ["one", "one"], "speaker_id": [0, 1]}
    rows = datasets.Dataset.from_dict(columns)
    for source in (rows, rows.to_iterable_dataset()):  # a stream tells no id before its row
        found = read_dataset(source, tmp_path / "wav")
        assert [(utt.utt, utt.speaker) for utt in found] == [("903", "0"), ("903-0000001", "1")]


def test_an_id_may_be_the_number_0(tmp_path):
    write_audio(tmp_path / "a.wav", np.full(800, 0.1), 16000)
    entries = [{"audio_filepath": "a.wav", "text": "x", "id": number} for number in (0, 1)]
    (tmp_path / "m.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    assert [utt.utt for utt in read_manifest(tmp_path / "m.jsonl")] == ["0", "1"]


def test_a_duration_without_an_offset_is_that_of_the_beginning(tmp_path):
    write_audio(tmp_path / "a.wav", np.full(32000, 0.1), 16000)
    entries = [
        {"audio_filepath": "a.wav", "duration": seconds, "text": "x", "id": str(seconds)} for seconds in (1, 1.95)
    ]
    (tmp_path / "m.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    part, rounded = read_manifest(tmp_path / "m.jsonl")
    assert part.source == f"{tmp_path / 'a.wav'}#t=0.00000,1.00000"
    assert rounded.source == str(tmp_path / "a.wav")


@pytest.mark.parametrize("damage", ["line", "cut"])
def test_damaged_cuts(kaldi, tmp_path, capsys, damage):
    pytest.importorskip("lhotse", reason="tools/setup.sh --with-data")
    path = tmp_path / "set.jsonl.gz"
    convert(kaldi, path)
    lines = gzip.decompress(path.read_bytes())
    packed = gzip.compress(lines * 200, 0)
    path.write_bytes(gzip.compress(lines + b"{}\n") if damage == "line" else packed[: len(packed) // 2])
    assert cli.main(["convert", str(path), str(tmp_path / "back"), "--to", "kaldi"]) == 1
    assert f"{path}: no cuts of lhotse" in capsys.readouterr().err
    path.write_bytes(packed[:60])
    assert cli.main(["convert", str(path), str(tmp_path / "back"), "--to", "kaldi"]) == 1
    assert "neither a manifest of NeMo's nor cuts of lhotse's" in capsys.readouterr().err


def test_what_a_manifest_or_a_dataset_names_is_never_run(tmp_path):
    command = f"x; touch {tmp_path}/ran; cat a.wav |"
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": command, "text": "one"}))
    with pytest.raises(DataError, match=r"line 1: audio_filepath: .* is a shell command, which only wav.scp may hold"):
        convert(tmp_path / "m.jsonl", tmp_path / "kaldi", "kaldi")
    datasets = pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
    rows = datasets.Dataset.from_dict({"audio": [command], "text": ["one"]})
    with pytest.raises(DataError, match=r"utt0000000: .* is a shell command"):
        convert(rows, tmp_path / "kaldi", "kaldi")
    assert not list(tmp_path.glob("ran"))
    assert not (tmp_path / "kaldi").exists()


def test_nothing_is_written_in_the_folder_of_names(kaldi, tmp_path):
    """Manifests beside their audio name it from there, so that both can be moved together."""
    folder = Path(DataDir.read(kaldi).utts[0].source).parents[3]
    convert(kaldi, folder / "set.jsonl")
    named = [json.loads(line)["audio_filepath"] for line in (folder / "set.jsonl").read_text().splitlines()]
    assert all(not Path(name).is_absolute() for name in named)
    moved = folder.rename(tmp_path / "moved")
    back = convert(moved / "set.jsonl", tmp_path / "kaldi", "kaldi")
    assert all(u.source.startswith(str(moved)) for u in back.utts)
    moved.rename(folder)


def test_columns_and_splits(kaldi, tmp_path):
    datasets = pytest.importorskip("datasets", reason="tools/setup.sh --with-data")
    utts = DataDir.read(kaldi).utts
    sentence = [u.text for u in utts]
    rows = {"path": [u.source.split("#")[0] for u in utts], "sentence": sentence}
    part = datasets.Dataset.from_dict(rows).cast_column("path", datasets.Audio())
    both = datasets.DatasetDict({"train": part, "test": part.select([0])})
    both.save_to_disk(str(tmp_path / "saved"))
    columns = {"audio": "path", "text": "sentence"}
    for source in (both, tmp_path / "saved"):
        found = convert(source, tmp_path / "kaldi", "kaldi", split="train", **columns)
        assert [u.text for u in found.utts] == sentence
        with pytest.raises(ConfigError, match="split is missing; the dataset has: train, test"):
            convert(source, tmp_path / "kaldi", "kaldi", **columns)
    with pytest.raises(ConfigError, match="no split 'dev'"):
        convert(both, tmp_path / "kaldi", "kaldi", split="dev", **columns)
    with pytest.raises(ConfigError, match="no column 'audio'; the dataset has: path, sentence"):
        convert(part, tmp_path / "kaldi", "kaldi")
    with pytest.raises(DataError, match="exists already"):
        convert(kaldi, tmp_path / "saved", "hf")


def test_cuts_that_have_no_place_elsewhere(kaldi, tmp_path):
    lhotse = pytest.importorskip("lhotse", reason="tools/setup.sh --with-data")
    convert(kaldi, tmp_path / "set.jsonl.gz")
    cuts = lhotse.CutSet.from_file(tmp_path / "set.jsonl.gz")
    assert [cut.supervisions[0].text for cut in cuts] == [u.text for u in DataDir.read(kaldi).utts]
    assert len(convert(cuts, tmp_path / "kaldi", "kaldi").utts) == 4
    first = next(iter(cuts))
    for cut, message in (
        (first.drop_supervisions(), "no supervision, so no text"),
        (first.pad(duration=60.0), "mixed, padded, or of several channels"),
        (first.move_to_memory(), "its audio is of type memory; save it as a file"),
        (first.perturb_speed(0.9), "its recording is changed as it is read"),
    ):
        with pytest.raises(DataError, match=message):
            convert(lhotse.CutSet.from_cuts([cut]), tmp_path / "no", "kaldi")
    assert not (tmp_path / "no" / "wav.scp").exists()


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("m.jsonl", '{"audio_filepath": "a.wav", "offset": 1}', "line 1: an offset needs a duration"),
        ("m.jsonl", '{"audio_filepath": "a.wav"}\n{"text": "b"}\nno', "2 problems:\n  line 2: expected an object"),
        ("m.jsonl", '{"audio_filepath": "a.wav", "duration": NaN}', "line 1: duration nan: seconds above 0 are needed"),
        ("m.jsonl", '{"audio_filepath": "a.wav", "duration": 1, "offset": -0.1}', "line 1: offset -0.1: seconds of 0"),
        ("m.jsonl", '{"text": "b"}', "neither a manifest of NeMo's nor cuts of lhotse's"),
        ("m.txt", "no JSON", "neither a manifest of NeMo's nor cuts of lhotse's"),
        ("m.jsonl", '{"audio_filepath": "a.wav"}\n{"audio_filepath": "b/a.wav"}', "id 'a' is empty, or that of"),
    ],
)
def test_damaged_sources(tmp_path, capsys, name, written, message):
    (tmp_path / name).write_text(written)
    assert cli.main(["convert", str(tmp_path / name), str(tmp_path / "kaldi"), "--to", "kaldi"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "kaldi").exists()


def test_targets_and_sources_that_cannot_be(kaldi, tmp_path, capsys):
    for source, target, message in (
        (kaldi, tmp_path / "folder", "a folder may be kaldi or hf; say which (--to)"),
        (tmp_path / "none", tmp_path / "m.jsonl", "no such file or folder"),
        (tmp_path, tmp_path / "m.jsonl", "neither a Kaldi directory (wav.scp) nor a dataset"),
    ):
        assert cli.main(["convert", str(source), str(target)]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(ConfigError, match="kaldi is a folder"):
        convert(kaldi, tmp_path / "m.jsonl", "kaldi")
    with pytest.raises(ConfigError, match=r"list: expected a path, a Dataset of datasets, or a CutSet of lhotse"):
        convert([], tmp_path / "m.jsonl")
    (tmp_path / "piped").mkdir()
    (tmp_path / "piped" / "wav.scp").write_text("a cat a.wav |\n")
    (tmp_path / "piped" / "text").write_text("a one\n")
    with pytest.raises(DataError, match=r"s3router format-wav makes some of pipes and archives"):
        convert(tmp_path / "piped", tmp_path / "m.jsonl")
