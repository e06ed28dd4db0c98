from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from s3router.cli import main
from s3router.data import format_wav
from s3router.data.audio import read_audio, resample, write_audio
from s3router.data.format_wav import format_dir
from s3router.data.kaldi import DataDir
from s3router.data.tokens import TokenIds, build_token_list
from s3router.data.validate import validate
from s3router.errors import DataError
from s3router.files import unfinished


@pytest.fixture
def mixed(five, tmp_path):
    """The five utterances as flac 16 kHz (as is), stereo wav at 44.1 kHz, mp3, an ark offset and a pipe."""
    u = {v.utt: v for v in DataDir.read(five).utts}
    speech = {utt: read_audio(v.source) for utt, v in u.items()}
    names = sorted(u)
    stereo = resample(speech[names[1]], 16000, 44100)
    soundfile.write(tmp_path / "stereo.wav", np.stack([stereo, stereo], 1), 44100)
    soundfile.write(tmp_path / "a.mp3", speech[names[2]], 16000)
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        writer(names[3], (16000, (speech[names[3]] * 32768).astype(np.int16)))
    write_audio(tmp_path / "piped.wav", speech[names[4]], 16000)
    sources = [u[names[0]].source, f"{tmp_path}/stereo.wav", f"{tmp_path}/a.mp3"]
    sources += [(tmp_path / "a.scp").read_text().split()[1], f"cat {tmp_path}/piped.wav |"]
    (five / "wav.scp").write_text("".join(f"{n} {s}\n" for n, s in zip(names, sources, strict=True)))
    (five / "utt2dur").unlink()
    return five, speech


def test_espnet_reads_the_result(mixed, tmp_path):
    reader = pytest.importorskip("espnet2.fileio.sound_scp").SoundScpReader
    source, speech = mixed
    result = format_dir(source, tmp_path / "out", nj=2)
    assert result.left_out == []
    loaded = reader(tmp_path / "out/wav.scp", dtype="float32")
    for utt, original in speech.items():
        rate, samples = loaded[utt]
        assert rate == 16000
        assert samples.ndim == 1
        assert abs(len(samples) - len(original)) < 1700  # mp3 pads
        if not utt.endswith("is-in-use"):
            assert np.corrcoef(samples[: len(original)], original[: len(samples)])[0, 1] > 0.99
    assert validate(tmp_path / "out", sample_rate=16000).problems == []
    texts = [u.text for u in DataDir.read(source).utts]
    assert [u.text for u in result.data.utts] == texts


def test_what_espnet_reads_already_is_not_copied(mixed, tmp_path):
    source, _ = mixed
    result = format_dir(source, tmp_path / "out")
    assert result.data.utts[0].source == DataDir.read(source).utts[0].source
    assert len(list((tmp_path / "out/wav").iterdir())) == 4


def test_a_second_run_decodes_nothing_and_a_changed_file_is_redone(mixed, tmp_path, monkeypatch):
    source, _ = mixed
    first = format_dir(source, tmp_path / "out")
    decoded = []
    original = format_wav.read_native
    monkeypatch.setattr(format_wav, "read_native", lambda s: decoded.append(s) or original(s))
    assert format_dir(source, tmp_path / "out").data == first.data
    assert decoded == []
    soundfile.write(tmp_path / "stereo.wav", np.full(8000, 0.1), 8000)
    again = format_dir(source, tmp_path / "out")
    assert decoded == [f"{tmp_path}/stereo.wav"]
    assert again.data.utts[1].duration == pytest.approx(1.0)
    assert len(list((tmp_path / "out/wav").iterdir())) == 4, "what nothing refers to is removed"


def test_segments_are_cut_out_with_one_decoding(five, tmp_path, monkeypatch):
    recording = DataDir.read(five).utts[0]
    (five / "segments").write_text(f"a/1 {recording.utt} 0.0 0.8\na/2 {recording.utt} 0.8 1.6\n")
    (five / "text").write_text("a/1 premere zero\na/2 per l'aiuto\n")
    for name in ("utt2spk", "utt2dur"):
        (five / name).unlink()
    decoded = []
    original = format_wav.read_native
    monkeypatch.setattr(format_wav, "read_native", lambda s: decoded.append(s) or original(s))
    result = format_dir(five, tmp_path / "out")
    assert decoded == [recording.source]
    whole = read_audio(recording.source)
    np.testing.assert_array_equal(read_audio(result.data.utts[0].source), whole[:12800])
    np.testing.assert_array_equal(read_audio(result.data.utts[1].source), whole[12800:])


def test_a_stretch_of_a_recording_that_is_listed_whole_is_cut_out(five, tmp_path):
    recording = DataDir.read(five).utts[0]
    (five / "wav.scp").write_text(f"a {recording.source}\nb {recording.source}#t=0.8,1.6\n")
    (five / "text").write_text("a premere zero\nb zero\n")
    for name in ("utt2spk", "utt2dur"):
        (five / name).unlink()
    whole, part = format_dir(five, tmp_path / "out").data.utts
    assert whole.source == os.path.abspath(recording.source)
    np.testing.assert_array_equal(read_audio(part.source), read_audio(recording.source)[12800:25600])
    assert part.duration == pytest.approx(0.8)


def test_what_cannot_be_used_is_left_out_and_listed(five, change, tmp_path):
    change("text", "domani", "ono" * 9)
    tokens = TokenIds(build_token_list(u.text for u in DataDir.read(five).utts))
    result = format_dir(five, tmp_path / "out", tokens=tokens, max_seconds=1.5, min_frames=36)
    assert [u.utt for u in result.data.utts] == ["it_carlo-is-in-use", "it_carlo-vm-Cust2"]
    table = (tmp_path / "out/left_out.tsv").read_text().splitlines()
    assert [line.split(":")[0] for line in table] == [
        "utterance\treason",
        "it_carlo-dictate_forhelp\ttoo long",
        "it_carlo-digits_tomorrow\ttoo short",
        "it_carlo-vm-goodbye\ttoo short",
    ]
    result = format_dir(five, tmp_path / "out", tokens=tokens)
    assert [utt for utt, _ in result.left_out] == ["it_carlo-digits_tomorrow"]
    assert result.left_out[0][1].startswith("too many tokens: CTC needs 35 frames")


def test_labels_turns_and_trials_of_what_is_left_go_along(five, tmp_path):
    (five / "text").unlink()
    utts = sorted(DataDir.read(five, need_text=False).with_durations().utts, key=lambda u: u.duration)
    longest, short, other = utts[-1].utt, utts[0].utt, utts[1].utt
    ids = sorted(u.utt for u in utts)
    (five / "utt2label").write_text("".join(f"{utt} change language ; none\n" for utt in ids))
    (five / "rttm").write_text("".join(f"SPEAKER {utt} 1 0 0.1 <NA> <NA> a <NA> <NA>\n" for utt in (short, longest)))
    (five / "trials").write_text(f"1 {short} {other}\n0 {short} {longest}\n")
    format_dir(five, tmp_path / "new", need_text=False, max_seconds=utts[-1].duration - 0.01)
    left = [utt for utt in ids if utt != longest]
    assert (tmp_path / "new/utt2label").read_text() == "".join(f"{utt} change language ; none\n" for utt in left)
    assert (tmp_path / "new/rttm").read_text().split()[1] == short
    assert (tmp_path / "new/trials").read_text() == f"1 {short} {other}\n"
    assert not (tmp_path / "new/text").exists()
    (five / "utt2label").unlink()
    (five / "trials").write_text("")
    format_dir(five, tmp_path / "new", need_text=False)
    assert not (tmp_path / "new/utt2label").exists()
    assert not (tmp_path / "new/trials").exists()


def test_nothing_left_is_an_error(five, tmp_path):
    with pytest.raises(DataError, match=r"nothing is left, e\.g\. it_carlo-dictate_forhelp: too short"):
        format_dir(five, tmp_path / "out", min_frames=1000)
    assert not (tmp_path / "out/wav.scp").exists()


def test_broken_audio_is_named_and_no_directory_appears(mixed, tmp_path, capsys):
    source, _ = mixed
    (tmp_path / "stereo.wav").write_bytes(b"RIFF")
    (tmp_path / "piped.wav").write_bytes(b"")
    assert main(["format-wav", str(source), str(tmp_path / "out"), "--nj", "2"]) == 1
    message = capsys.readouterr().err
    assert "2 problems" in message
    assert "stereo.wav: damaged or truncated" in message
    assert "piped.wav | wrote nothing" in message
    assert not (tmp_path / "out/wav.scp").exists()


def test_long_ids_in_other_scripts(five, tmp_path):
    utts = [replace(u, utt=f"{'ы' * 100}-{i}") for i, u in enumerate(DataDir.read(five).utts)]
    audio = [soundfile.read(u.source)[0] for u in utts]
    utts[1:2] = [replace(utts[1], source=f"cat '{utts[1].source}' |")]
    utts[2:3] = [replace(utts[2], source=f"cat '{utts[2].source}' |")]
    done = format_dir(DataDir(five, utts).write(tmp_path / "long").path, tmp_path / "out").data
    assert [u.utt for u in done.utts] == [u.utt for u in utts]
    for u, samples in zip(done.utts, audio, strict=True):
        np.testing.assert_array_equal(soundfile.read(u.source)[0], samples)


def test_input_and_output_must_differ(five):
    with pytest.raises(DataError, match="are the same directory"):
        format_dir(five, five)


def test_command(five, tmp_path, capsys):
    assert main(["format-wav", str(five), str(tmp_path / "out"), "--max-seconds", "1.5"]) == 0
    captured = capsys.readouterr()
    assert "4 utterances, 0.0 min; 1 left out" in captured.out
    assert "left out it_carlo-dictate_forhelp: too long: 1.6 s" in captured.err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_audio_that_is_no_number_is_found_before_training(five, tmp_path, value):
    data = DataDir.read(five)
    samples = read_audio(data.utts[0].source)
    samples[100] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    DataDir(five, [replace(data.utts[0], source=str(tmp_path / "a.wav"))]).write(five)
    with pytest.raises(DataError, match=r"a\.wav: contains NaN or infinite samples"):
        format_dir(five, tmp_path / "out")


def test_a_path_that_is_not_normalised_is_passed_through(five, tmp_path):
    data = DataDir.read(five)
    utt = data.utts[0]
    path = Path(utt.source)
    DataDir(five, [replace(utt, source=f"{path.parent}/.//{path.name}")]).write(five)
    (formatted,) = format_dir(five, tmp_path / "out").data.utts
    assert formatted.source == str(path)


def test_what_other_processes_write_is_left_alone(five, tmp_path):
    """Drafts of processes that live stay, those of killed ones go."""
    (tmp_path / "out/wav").mkdir(parents=True)
    alive = unfinished(tmp_path / "out/wav/a.flac")
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead = alive.with_name(alive.name.replace(f".{os.getpid()}-", f".{ended.pid}-"))
    for path in (alive, dead, tmp_path / "out/wav/old.flac"):
        path.touch()
    format_dir(five, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out/wav").iterdir()] == [alive.name]


def test_two_processes_that_make_one_directory(mixed, tmp_path):
    """Both end well, and what they leave is whole."""
    source, speech = mixed
    command = [sys.executable, "-m", "s3router", "format-wav", str(source), str(tmp_path / "out"), "--nj", "1"]
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 2
    assert len(DataDir.read(tmp_path / "out").utts) == len(speech)
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert validate(tmp_path / "out", sample_rate=16000).problems == []
