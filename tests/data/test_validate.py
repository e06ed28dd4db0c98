"""Bad input: each fault is one clear message and exit status 1, and nothing is written."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from s3router.cli import main
from s3router.data.audio import read_audio, write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.tokens import TokenIds, build_token_list, write_token_list
from s3router.data.validate import frames_of, misfit, validate


@pytest.fixture
def run(five, tmp_path, capsys):
    """run(*options) -> (exit status, standard error) of the command on the copy; fails if it writes anything."""
    write_token_list(tmp_path / "tokens.txt", build_token_list(u.text for u in DataDir.read(five).utts))

    def call(*options: str) -> tuple[int, str]:
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        status = main(["validate", str(five), "--token-list", str(tmp_path / "tokens.txt"), *options])
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
        return status, capsys.readouterr().err

    return call


@pytest.fixture
def audio(five, change, tmp_path):
    """Path of a wav that replaces the audio of it_carlo-digits_tomorrow in the copy."""
    utterance = next(u for u in DataDir.read(five).utts if u.utt == "it_carlo-digits_tomorrow")
    write_audio(tmp_path / "other.wav", read_audio(utterance.source), 16000)
    change("wav.scp", utterance.source, str(tmp_path / "other.wav"))
    return tmp_path / "other.wav"


def test_a_fit_directory(run):
    assert run("--min-frames", "10", "--max-seconds", "2", "--sample-rate", "16000") == (0, "")


def test_empty_audio(run, audio):
    audio.write_bytes(b"")
    status, message = run()
    assert status == 1
    assert "it_carlo-digits_tomorrow" in message
    assert "the file is empty; fetch or make it again" in message
    assert "utterances without one: 4" in message


def test_truncated_audio(run, audio):
    audio.write_bytes(audio.read_bytes()[:9000])
    status, message = run()
    assert status == 1
    assert "it_carlo-digits_tomorrow" in message
    assert "truncated (9000 of" in message


def test_audio_that_is_shorter_than_recorded(run, audio):
    soundfile.write(audio, np.full(3200, 0.1), 16000)
    status, message = run()
    assert status == 1
    assert "utt2dur says 0.53 s" in message
    assert "has 0.20 s; delete utt2dur if" in message


def test_wrong_sample_rate(run, audio):
    soundfile.write(audio, np.full(4208, 0.1), 8000)
    assert run() == (0, "")  # it is resampled when read
    status, message = run("--sample-rate", "16000")
    assert status == 1
    assert "has 8000 Hz, expected 16000; convert with s3router format-wav" in message


def test_a_character_outside_the_token_list(run, change):
    change("text", "domani", "domäni ß")
    status, message = run()
    assert status == 1
    assert "it_carlo-digits_tomorrow: outside the token list: 'ä' (U+00E4) 'ß' (U+00DF); normalise" in message
    status, message = run("--unknown-ok")
    assert status == 0
    assert "note: it_carlo-digits_tomorrow: outside the token list" in message


def test_too_long_and_too_short(run):
    status, message = run("--max-seconds", "1", "--min-frames", "30")
    assert status == 1
    assert (
        "it_carlo-dictate_forhelp: too long: 1.6 s, at most 1 s are taken; leave it out with s3router format-wav"
        in message
    )
    assert "it_carlo-digits_tomorrow: too short: 26 frames of 20 ms (0.53 s), at least 30 are needed" in message


def test_too_many_tokens_for_the_frames(run, change):
    change("text", "domani", "ono" * 9)
    status, message = run()
    assert status == 1
    assert "too many tokens: CTC needs 35 frames for them, 0.53 s of audio make 26" in message


def test_files_that_disagree_and_bad_audio_come_together(run, audio, change):
    audio.write_bytes(b"")
    change("text", "it_carlo-is-in-use è in uso\n", "")
    status, message = run()
    assert status == 1
    assert "audio without a transcript" in message
    assert "the file is empty" in message
    assert "problems: 2" in message


def test_a_broken_pipe_is_named(run, change, audio):
    change("wav.scp", str(audio), "cat /nowhere |")
    status, message = run()
    assert status == 1
    assert "it_carlo-digits_tomorrow: cat /nowhere | failed with status 1" in message


def test_a_segment_behind_the_end(five):
    (five / "segments").write_text("s it_carlo-vm-goodbye 0 9\n")
    for name in ("utt2spk", "utt2dur"):
        (five / name).unlink()
    (five / "text").write_text("s ciao\n")
    assert any("ends at 9.0 s of a recording of 0.71 s" in p for p in validate(five).problems)


def test_no_such_token_list(five, capsys):
    assert main(["validate", str(five), "--token-list", "/nowhere/tokens"]) == 1
    assert "no such token list" in capsys.readouterr().err


@pytest.mark.parametrize("samples", [0, 399, 400, 719, 720, 16000, 25600])
def test_frames_are_those_of_the_convolutions(samples):
    length = samples
    for kernel, stride in [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]:  # wav2vec2's feature extractor
        length = max(0, (length - kernel) // stride + 1)
    assert frames_of(samples / 16000) == length


def test_the_limit_itself_fits():
    tokens = TokenIds(build_token_list(["ab"]))
    exact = Utterance("u", "u.wav", "aab", "u", (400 + 3 * 320) / 16000)  # four frames: a, blank, a, b
    assert misfit(exact, tokens) is None
    assert "needs 5 frames" in misfit(Utterance("u", "u.wav", "aabb"[:3] + "a", "u", exact.duration), tokens)
