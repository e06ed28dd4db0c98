from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import av
import kaldiio
import numpy as np
import pytest
import soundfile

from s3router.data.audio import (
    duration,
    file_of,
    is_in_archive,
    join_stretch,
    probe,
    read_audio,
    read_bytes,
    read_native,
    resample,
    split_stretch,
    write_audio,
)
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError, TooLongError


@pytest.fixture
def speech(five) -> np.ndarray:
    """float32 (25600,), 1.6 s of real speech at 16 kHz."""
    return read_audio(DataDir.read(five).utts[0].source)


def best_correlation(a: np.ndarray, b: np.ndarray, delay: int = 0) -> float:
    """Of ``b`` with ``a`` delayed by up to so many samples (coders shift)."""
    size = min(len(a), len(b)) - delay
    lag = int(np.argmax(np.correlate(a[: size + delay], b[:size], mode="valid"))) if delay else 0
    return float(np.corrcoef(a[lag : lag + size], b[:size])[0, 1])


def test_written_and_read_back_bit_by_bit(tmp_path, speech):
    for name in ("a.wav", "a.flac"):
        write_audio(tmp_path / name, speech, 16000)
        back = read_audio(tmp_path / name)
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, speech)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("spelling", ["./a.wav", "sub/../a.wav", ".//a.wav", "././a.wav", "{folder}//a.wav"])
def test_a_path_may_be_spelled_in_any_way(tmp_path, speech, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    write_audio(tmp_path / "a.wav", speech, 16000)
    source = spelling.format(folder=tmp_path)
    np.testing.assert_array_equal(read_audio(source), speech)
    assert probe(source).format == "WAV"
    assert not is_in_archive(source)


@pytest.mark.parametrize(
    ("suffix", "rate", "delay"), [("wav", 8000, 0), ("flac", 44100, 0), ("ogg", 48000, 0), ("mp3", 22050, 1600)]
)
def test_any_rate_and_format_is_resampled(tmp_path, speech, suffix, rate, delay):
    soundfile.write(tmp_path / f"a.{suffix}", resample(speech, 16000, rate), rate)
    assert read_native(tmp_path / f"a.{suffix}")[1] == rate
    back = read_audio(tmp_path / f"a.{suffix}")
    assert abs(len(back) - len(speech)) <= delay + 2
    assert best_correlation(back, speech, delay) > 0.95


def test_a_pipe_does_not_eat_what_its_caller_reads(tmp_path, speech):
    write_audio(tmp_path / "a.wav", speech, 16000)
    source = f"cat >/dev/null; cat {tmp_path}/a.wav |"  # as ffmpeg does without -nostdin
    code = f"from s3router.data.audio import read_audio; read_audio({source!r})"
    loop = 'while read -r line; do echo "$line"; "$0" -c "$1"; done'
    done = subprocess.run(
        ["bash", "-c", loop, sys.executable, code], input="en\nfr\n", capture_output=True, text=True, check=True
    )
    assert done.stdout == "en\nfr\n"


def test_stereo_is_the_mean_of_its_channels(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", np.stack([speech, np.zeros_like(speech)], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), speech / 2, atol=1e-7)


def test_stereo_that_ffmpeg_decodes_is_the_mean_of_its_channels_too(tmp_path, speech):
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_f32le", rate=16000, layout="stereo", format="flt")
        pairs = np.stack([speech, speech], 1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pairs), format="flt", layout="stereo")
        frame.sample_rate = 16000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    np.testing.assert_allclose(read_audio(path), speech, atol=1e-7)
    assert read_bytes(path.read_bytes(), "a.mka", max_seconds=2).shape == speech.shape


def test_audio_in_a_format_that_ffmpeg_does_not_know(tmp_path, speech):
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    path.write_bytes(path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT"))
    with pytest.raises(DataError, match=r"a.mka: audio in a format that ffmpeg does not know; convert it to wav"):
        read_audio(path)


def test_a_header_does_not_decide_how_much_memory_is_taken(tmp_path, speech):
    write_audio(tmp_path / "a.flac", speech, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] | 0x0F]) + b"\xff" * 4  # the number of samples, 36 bits: 256 GiB of them
    with pytest.raises(DataError, match=r"truncated \(25600 of 68719476735 samples\)|damaged or truncated"):
        read_bytes(bytes(content), "a.flac")


@pytest.mark.parametrize("rate", [1, 999, 2_000_000])
def test_rates_that_no_recording_has(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), rate)
    with pytest.raises(DataError, match=rf"a.wav: a sample rate of {rate} Hz; 1000 to 768000 Hz can be read"):
        read_audio(tmp_path / "a.wav")


def test_a_recording_that_changes_is_read_again(tmp_path, speech):
    write_audio(tmp_path / "a.wav", speech, 16000)
    first = read_audio(f"{tmp_path}/a.wav#t=0,1")
    write_audio(tmp_path / "a.wav", speech[8000:], 16000)
    assert not np.array_equal(read_audio(f"{tmp_path}/a.wav#t=0,1"), first)


def test_pipes(tmp_path, speech):
    write_audio(tmp_path / "a b.wav", speech, 16000)
    np.testing.assert_array_equal(read_audio(f"cat '{tmp_path}/a b.wav' |"), speech)
    with pytest.raises(DataError, match=r"failed with status 1: .*No such file"):
        read_audio("cat /nowhere/a.wav | cat |")
    with pytest.raises(DataError, match="wrote nothing"):
        read_audio("true |")


def test_archives_with_offsets(tmp_path, speech):
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        writer("one", (16000, (speech[:1600] * 32768).astype(np.int16)))
        writer("two", (16000, (speech * 32768).astype(np.int16)))
    first, second = (line.split()[1] for line in (tmp_path / "a.scp").read_text().splitlines())
    assert file_of(second) == tmp_path / "a.ark"
    np.testing.assert_array_equal(read_audio(first), speech[:1600])
    np.testing.assert_array_equal(read_audio(second), speech)
    assert duration(second) == len(speech) / 16000
    with pytest.raises(DataError, match=r"a\.ark:7: no readable audio at this offset"):
        read_audio(f"{tmp_path}/a.ark:7")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ALAW", "ULAW"])
def test_archives_of_any_wav(tmp_path, speech, subtype):
    soundfile.write(tmp_path / "a.wav", np.stack([speech, speech], 1), 16000, subtype=subtype)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.ark").write_bytes(b"one " + content + b"two " + content)
    for offset in (4, 4 + len(content) + 4):
        np.testing.assert_array_equal(read_audio(f"{tmp_path}/a.ark:{offset}"), read_audio(tmp_path / "a.wav"))
    (tmp_path / "a.ark").write_bytes(b"one " + content[:-100])
    with pytest.raises(DataError, match="truncated"):
        read_audio(f"{tmp_path}/a.ark:4")


def test_an_archive_of_features_is_not_audio(tmp_path):
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        writer("one", np.zeros((5, 13), np.float32))
    with pytest.raises(DataError, match="a matrix, not audio"):
        read_audio((tmp_path / "a.scp").read_text().split()[1])


def write_g722(path, samples: np.ndarray) -> None:
    with av.open(str(path), "w", format="g722") as out:
        stream = out.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)


def test_g722_is_decoded(tmp_path, speech):
    write_g722(tmp_path / "a.g722", speech)
    back = read_audio(tmp_path / "a.g722")
    assert abs(len(back) - len(speech)) <= 640
    assert best_correlation(back, speech, 40) > 0.95
    assert duration(tmp_path / "a.g722") == len(back) / 16000


@pytest.mark.parametrize("suffix", [".gsm", ".GSM"])
def test_headerless_gsm_is_decoded(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes((bytes([0xD8]) + bytes(32)) * 50)  # frames of 20 ms of silence
    samples, rate = read_native(tmp_path / f"a{suffix}")
    assert (len(samples), rate) == (8000, 8000)


def test_stretches(tmp_path, speech):
    write_audio(tmp_path / "a.wav", speech, 16000)
    source = join_stretch(f"{tmp_path}/a.wav", 0.25, 1)
    assert split_stretch(source) == (f"{tmp_path}/a.wav", 0.25, 1.0)
    np.testing.assert_array_equal(read_audio(source), speech[4000:16000])
    assert duration(source) == 0.75
    np.testing.assert_array_equal(read_audio(f"{tmp_path}/a.wav#t=1,2"), speech[16000:])  # within Kaldi's tolerance
    with pytest.raises(DataError, match="not inside the recording"):
        read_audio(f"{tmp_path}/a.wav#t=1,9")


def test_probe_reads_the_header(tmp_path, speech):
    soundfile.write(tmp_path / "a.flac", np.stack([speech, speech], 1), 8000)
    found = probe(tmp_path / "a.flac")
    assert (found.seconds, found.rate, found.channels, found.format) == (len(speech) / 8000, 8000, 2, "FLAC")


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(DataError, match="the file is empty"):
        read_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), 16000)
    with pytest.raises(DataError, match="no audio in it"):
        read_audio(tmp_path / "silent.wav")
    (tmp_path / "text.wav").write_text("this is not audio")
    with pytest.raises(DataError, match="not audio that can be decoded"):
        read_audio(tmp_path / "text.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), 16000, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN or infinite"):
        read_audio(tmp_path / "nan.wav")


@pytest.mark.parametrize("format", ["WAV", "FLAC", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_truncated_files_are_refused(tmp_path, speech, format):
    path = tmp_path / f"a.{format.lower()}"
    soundfile.write(path, speech, 16000, format=format)
    assert len(read_audio(path)) == len(speech)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="truncated"):
        read_audio(path)


def test_a_streamed_wav_without_a_length_is_read(tmp_path, speech):
    write_audio(tmp_path / "a.wav", speech, 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)  # what ffmpeg and sox write into a pipe
    (tmp_path / "b.wav").write_bytes(content)
    np.testing.assert_array_equal(read_audio(f"cat {tmp_path}/b.wav |"), speech)


@pytest.mark.parametrize("name", ["a.wav", "a.WAV"])
def test_gsm_in_wav_as_telephone_systems_write_it(tmp_path, speech, name):
    soundfile.write(tmp_path / name, resample(speech, 16000, 8000), 8000, subtype="GSM610", format="WAV")
    samples, rate = read_native(tmp_path / name)
    assert rate == 8000
    assert abs(len(samples) - len(speech) // 2) < 320  # whole blocks
    assert best_correlation(resample(samples, 8000, 16000), speech, 1000) > 0.8
    assert duration(tmp_path / name) == pytest.approx(len(samples) / 8000)


def test_a_pipe_that_hangs_is_ended_with_all_of_its_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("S3ROUTER_PIPE_TIMEOUT", "0.5")
    with pytest.raises(DataError, match=r"sleep 600 \| cat \| has not ended after 0.5 s; .* S3ROUTER_PIPE_TIMEOUT=1$"):
        read_audio(f"echo $$ >{tmp_path}/pid; sleep 600 | cat |")
    wait_for_the_end_of(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_a_wrong_timeout(monkeypatch, value):
    monkeypatch.setenv("S3ROUTER_PIPE_TIMEOUT", value)
    with pytest.raises(ConfigError, match="expected a number of seconds"):
        read_audio("cat a.wav |")


def wait_for_the_end_of(group: int) -> None:
    for _ in range(200):  # killed processes are still there until they have been waited for
        states = [
            line.split()
            for line in subprocess.run(["ps", "-eo", "pgid,stat"], capture_output=True, text=True).stdout.splitlines()
        ]
        if not any(found == str(group) and not state.startswith("Z") for found, state in states):
            return
        time.sleep(0.05)
    raise AssertionError(f"process group {group} is still there")


@pytest.mark.parametrize("command", ["validate --no-text {folder}", "format-wav --no-text {folder} {folder}/out"])
def test_a_terminated_command_ends_its_pipes(tmp_path, command):
    (tmp_path / "wav.scp").write_text(f"u1 echo $$ >{tmp_path}/pid; sleep 600 | cat |\n")
    words = [word.format(folder=tmp_path) for word in command.split()]
    running = subprocess.Popen([sys.executable, "-m", "s3router", *words])
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.02)
    running.terminate()
    assert running.wait(30) == 128 + signal.SIGTERM
    wait_for_the_end_of(int((tmp_path / "pid").read_text()))


def test_a_flac_file_that_was_cut_off_is_found_without_decoding(tmp_path, speech):
    write_audio(tmp_path / "a.flac", speech, 16000)
    assert probe(tmp_path / "a.flac").seconds == 1.6
    whole = (tmp_path / "a.flac").read_bytes()
    for part in (0.5, 0.9):
        (tmp_path / "a.flac").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(DataError, match=r"a\.flac: damaged or truncated"):
            probe(tmp_path / "a.flac")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.g722", "whatever", "../../etc/passwd"])
def test_bytes_are_read_as_files_are(tmp_path, speech, name):
    path = tmp_path / Path(name).name
    if path.suffix == ".g722":
        write_g722(path, speech)
    else:
        soundfile.write(path, speech, 16000, format=path.suffix[1:].upper() or "WAV")
    np.testing.assert_array_equal(read_bytes(path.read_bytes(), name), read_audio(path))


@pytest.mark.parametrize("format", ["WAV", "FLAC", "mp4", "g722"])
def test_long_recordings_are_refused_before_they_are_decoded(tmp_path, speech, format):
    path = tmp_path / f"a.{format.lower()}"
    if format == "mp4":
        with av.open(str(path), "w") as file:
            stream = file.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(speech[None], format="flt", layout="mono")
            frame.sample_rate = 16000
            file.mux([*stream.encode(frame), *stream.encode(None)])
    elif format == "g722":
        write_g722(path, speech)
    else:
        soundfile.write(path, speech, 16000)
    assert len(read_bytes(path.read_bytes(), path.name, max_seconds=2)) >= len(speech)
    with pytest.raises(TooLongError, match=r"longer than 1 s; cut it"):
        read_bytes(path.read_bytes(), path.name, max_seconds=1)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile {path}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    ],
)
def test_files_that_name_other_files_are_not_followed(tmp_path, speech, playlist, monkeypatch):
    """ffmpeg opens what playlists name, if it may; the first of these two would be read."""
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "secret.wav", speech, 16000)
    content = playlist.format(path="secret.wav").encode()
    with pytest.raises(DataError, match="not audio that can be decoded"):
        read_bytes(content, "a.m3u8")
    (tmp_path / "list.m3u8").write_bytes(content)
    with pytest.raises(DataError, match="not audio that can be decoded"):
        read_audio(tmp_path / "list.m3u8")
