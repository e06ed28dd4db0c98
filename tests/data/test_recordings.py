from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from s3router.data.audio import write_audio
from s3router.data.recordings import find_recordings
from s3router.errors import DataError

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"
AUDIO = sorted((FIVE / "audio").iterdir())


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)  # the fixture's paths start there


def test_files_folders_scp_and_data_directories(tmp_path):
    shutil.copytree(FIVE / "audio", tmp_path / "audio" / "below")
    (tmp_path / "audio" / "notes.txt").write_text("not audio")
    scp = tmp_path / "some.scp"
    scp.write_text(f"b {AUDIO[1]}\n\na cat '{AUDIO[0]}' |\n")
    found = find_recordings([AUDIO[2], tmp_path / "audio", scp, FIVE])
    assert [utt.utt for utt in found[:1]] == [str(AUDIO[2])]
    assert [Path(utt.utt).name for utt in found[1:6]] == [path.name for path in AUDIO]
    assert [utt.utt for utt in found[6:8]] == ["b", "a"]
    assert [utt.utt for utt in found[8:]] == [path.stem for path in AUDIO]
    assert found[7].source.endswith("|")
    assert all(
        utt.duration == pytest.approx(other.duration, abs=0.01)
        for utt, other in zip(found[1:6], found[8:], strict=True)
    )


def test_a_folder_of_a_telephone_system(tmp_path):
    for name in ("a.gsm", "b.GSM"):
        (tmp_path / name).write_bytes((bytes([0xD8]) + bytes(32)) * 50)
    shutil.copy(AUDIO[0], tmp_path / "c.WAV")
    (tmp_path / "notes.txt").write_text("not audio")
    found = find_recordings([tmp_path])
    assert [Path(utt.utt).name for utt in found] == ["a.gsm", "b.GSM", "c.WAV"]
    assert found[0].duration == 1


def test_paths_may_be_spelled_in_any_way(monkeypatch):
    monkeypatch.chdir(FIVE)
    (found,) = find_recordings([f"./audio//{AUDIO[0].name}"])
    assert found.duration > 0


def test_names_that_would_do_harm_later(tmp_path):
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    shutil.copy(AUDIO[0], latin)
    command = tmp_path / "echo x >harm |"
    command.touch()
    with pytest.raises(DataError, match="its name is not UTF-8; rename it"):
        find_recordings([tmp_path])
    with pytest.raises(DataError, match="a file with the name of a command"):
        find_recordings([command])


def test_every_problem_is_named_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.scp").write_text("only-an-id\n")
    (tmp_path / "text.wav").write_text("no audio at all, but quite some text")
    with pytest.raises(DataError) as error:
        find_recordings(
            [tmp_path / "none.wav", tmp_path / "empty", tmp_path / "bad.scp", tmp_path / "text.wav", AUDIO[0]]
        )
    message = str(error.value)
    assert "4 problems" in message
    assert "none.wav: no such file" in message
    assert "neither audio files nor a wav.scp" in message
    assert "bad.scp:1: expected an id and a source" in message
    assert "text.wav: not audio" in message
    with pytest.raises(DataError, match=r"none\.wav: no such file"):
        find_recordings([tmp_path / "none.wav"])


def test_what_macos_puts_beside_each_file_is_no_recording(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(1600), 16000)
    (tmp_path / "._a.wav").write_bytes(b"\0\5\x16\7" + bytes(100))
    assert [utt.utt for utt in find_recordings([tmp_path])] == [str(tmp_path / "a.wav")]
