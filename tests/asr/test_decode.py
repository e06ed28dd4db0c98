"""Decoding of data directories, on a small stand-in with ESPnet's entry points (the real model: test_decode_model)."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from s3router import cli
from s3router.asr.ctc_decode import BatchOptions, GreedySearch, collapse, cut, decode_many, emissions, plan_batches
from s3router.asr.decode import decode
from s3router.asr.decode_output import write_output
from s3router.asr.search import make_search
from s3router.data.kaldi import DataDir
from s3router.data.tokens import BLANK, SOS_EOS, SPACE, TokenIds
from s3router.errors import ConfigError, DataError

TOKENS = [BLANK, "<unk>", SPACE, "a", "b", "c", "d", SOS_EOS]
RATE, HOP = 16000, 320


class StandIn(torch.nn.Module):
    """Hears tones: the frame's token is the loudest of eight frequencies; the context of a frame is ±3 frames."""

    def __init__(self):
        super().__init__()
        time = torch.arange(400) / RATE
        waves = [f(2 * torch.pi * hertz * time) for hertz in range(400, 3600, 400) for f in (torch.sin, torch.cos)]
        self.weight = torch.nn.Parameter(torch.stack(waves)[:, None] / 20)
        self.feature_extractor = torch.nn.Conv1d(1, 1, 400, HOP)  # says how many samples a frame takes

    @property
    def ctc(self):
        return self

    def encode(self, speech, lengths):
        power = torch.nn.functional.conv1d(speech[:, None], self.weight, stride=HOP).square()
        power = power[:, 0::2] + power[:, 1::2]  # (batch, tokens, frames)
        smooth = torch.nn.functional.avg_pool1d(power, 7, stride=1, padding=3)
        return smooth.transpose(1, 2), (lengths - 400) // HOP + 1

    def log_softmax(self, encoded):
        return encoded.log_softmax(-1)


def tone(text: str, seconds: float = 0.16) -> np.ndarray:
    """The recording of `text`: a stretch of silence-free tone for every letter, blanks (token 0) between them."""
    ids = TokenIds(TOKENS).encode(text)
    time = np.arange(int(seconds * RATE)) / RATE
    parts = [np.sin(2 * np.pi * 400 * (token + 1) * time) for k in ids for token in (k, 0)]
    return np.concatenate(parts).astype(np.float32)


@pytest.fixture
def data(tmp_path):
    """Six utterances of different length, one of them long; speakers; in an order that is not by length."""
    rng = np.random.default_rng(0)
    texts = {f"u{k}": "".join(rng.choice(list("abcd "), n)).strip() or "a" for k, n in enumerate((5, 30, 2, 12, 9, 7))}
    texts = {utt: " ".join(text.split()) for utt, text in texts.items()}
    folder = tmp_path / "data"
    folder.mkdir()
    lines: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for utt, text in texts.items():
        soundfile.write(tmp_path / f"{utt}.wav", tone(text) * 0.9, RATE)
        for name, value in (("wav.scp", tmp_path / f"{utt}.wav"), ("text", text), ("utt2spk", "tone")):
            lines[name].append(f"{utt} {value}\n")
    for name, rows in lines.items():
        (folder / name).write_text("".join(rows))
    return folder


def test_collapse():
    assert collapse([0, 3, 3, 0, 3, 4, 4, 0, 0]) == [3, 3, 4]
    assert collapse([]) == []


def test_batches_are_sorted_and_bounded():
    lengths = [1.0, 7.0, 3.0, 3.0, 50.0, 2.0]
    batches = plan_batches(lengths, 10.0)
    assert batches == [[4], [1], [2, 3, 5], [0]]
    assert plan_batches([1.0, 1.0], 0) == [[0], [1]]
    assert plan_batches([], 10.0) == []


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 180, 181, 1000, 1017])
@pytest.mark.parametrize("overlap", [0, 20, 50])
def test_chunks_tile_the_recording(samples, overlap):
    chunks = cut(samples, 100, overlap)
    assert chunks[0].start == 0
    assert chunks[-1].stop == samples
    assert all(c.stop - c.start == min(100, samples) for c in chunks)
    for a, b in itertools.pairwise(chunks):
        assert a.stop - b.start >= overlap
        assert a.keep_to == b.keep_from
        assert b.start + overlap / 2 <= b.keep_from <= a.stop - overlap / 2
    kept = [sample for c in chunks for sample in range(c.start, c.stop) if c.keep_from <= sample < c.keep_to]
    assert kept == list(range(samples))


def test_bad_options_are_listed_together():
    with pytest.raises(ConfigError, match=r"batch seconds -1.*max seconds 0.*overlap"):
        BatchOptions(batch_seconds=-1, max_seconds=0, overlap_seconds=3)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 0.02, -1])
def test_lengths_of_chunks_that_cannot_be(seconds):
    with pytest.raises(ConfigError, match=f"max seconds {seconds} is not a number from 0.1 on"):
        BatchOptions(max_seconds=seconds, overlap_seconds=0)


def test_batched_equals_single_and_texts_come_out_right(data):
    model, tokens, directory = StandIn(), TokenIds(TOKENS), DataDir.read(data)
    truth = {utt.utt: utt.text for utt in directory.utts}
    batched = decode(model, tokens, directory, GreedySearch(), BatchOptions(batch_seconds=20))
    single = decode(model, tokens, directory, GreedySearch(), BatchOptions(batch_seconds=0))
    assert batched.texts == single.texts == truth
    assert list(batched.texts) == sorted(truth)
    assert batched.frames == single.frames
    assert batched.chunked == []
    assert batched.audio_seconds == pytest.approx(sum(soundfile.info(u.source).duration for u in directory.utts))


def test_long_recordings_are_chunked(data):
    model, tokens, directory = StandIn(), TokenIds(TOKENS), DataDir.read(data)
    truth = {utt.utt: utt.text for utt in directory.utts}
    options = BatchOptions(batch_seconds=4, max_seconds=2.0, overlap_seconds=0.4)
    found = decode(model, tokens, directory, GreedySearch(), options)
    assert found.texts == truth
    assert found.chunked == sorted(u.utt for u in directory.with_durations().utts if u.duration > 2.0)
    assert len(found.chunked) == 3


def test_chunked_emissions_are_those_of_the_whole():
    """Frames of chunks that start on the model's frame grid are, away from the recording's ends, the very same."""

    class Keep(GreedySearch):
        def reduce(self, log_probs):
            return log_probs

        def finish(self, frames):
            return frames

        def confidence(self, frames):
            return None

    model, wave = StandIn(), tone("abcd" * 10)
    options = BatchOptions(max_seconds=2.0, overlap_seconds=0.4)
    (_, whole), *_ = decode_many(model, lambda _: wave, [1.0], Keep(), BatchOptions(max_seconds=60))
    (_, parts), *_ = decode_many(model, lambda _: wave, [len(wave) / RATE], Keep(), options)
    assert parts.chunks == 8
    assert abs(len(parts.tokens) - len(whole.tokens)) <= parts.chunks
    torch.testing.assert_close(parts.tokens[:80], whole.tokens[:80])


def test_bf16_emissions_are_close_and_float32():
    model, waves = StandIn(), [tone("abc"), tone("dcba")]
    (exact, lengths), (rough, _) = emissions(model, waves), emissions(model, waves, bf16=True)
    assert rough.dtype == torch.float32
    assert lengths.tolist() == [(len(wave) - 400) // HOP + 1 for wave in waves]
    assert not torch.equal(exact, rough)
    assert torch.equal(exact.argmax(-1), rough.argmax(-1))


def test_output_files(data, tmp_path, caplog):
    (data / "text").write_text((data / "text").read_text().replace("u2 ", "u2 ax" + "b" * 60))
    directory, tokens = DataDir.read(data), TokenIds(TOKENS)
    found = decode(StandIn(), tokens, directory, GreedySearch(), BatchOptions())
    out = tmp_path / "decode_test"
    write_output(out, directory, found, tokens, {"device": "cpu"})
    result = json.loads((out / "result.json").read_text())
    assert result["n_utts"] == 6
    assert result["words"]["substitutions"] == 1
    assert result["wer"] == pytest.approx(1 / result["n_words"])
    assert result["too_many_tokens"] == ["u2"]
    assert result["unknown_tokens"] == ["x"]
    assert "more tokens than frames: u2" in caplog.text
    assert result["times_real_time"] == pytest.approx(1 / result["rtf"])
    names = ["alignments.txt", "hyp.trn", "ref.trn", "result.json", "text", "utterances.tsv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert (out / "hyp.trn").read_text().splitlines()[0] == f"{found.texts['u0']} (tone-u0)"
    header, *rows = (line.split("\t") for line in (out / "utterances.tsv").read_text().splitlines())
    assert header[2] == "frames"
    assert [int(row[2]) for row in rows] == list(found.frames.values())


def test_all_blank_output_is_pointed_out(data, tmp_path, caplog):
    model = StandIn()
    model.weight.data[2:] = 0
    directory, tokens = DataDir.read(data), TokenIds(TOKENS)
    found = decode(model, tokens, directory, GreedySearch(), BatchOptions())
    assert write_output(tmp_path / "out", directory, found, tokens, {})["wer"] == 1.0
    assert "nothing but blanks" in caplog.text


def test_too_short_recording_is_named(data, tmp_path):
    soundfile.write(tmp_path / "u3.wav", np.zeros(300, np.float32), RATE)
    with pytest.raises(DataError, match=r"u3: 19 ms, shorter than the 25 ms"):
        decode(StandIn(), TokenIds(TOKENS), DataDir.read(data), GreedySearch(), BatchOptions())


def test_ids_that_no_output_file_can_hold_are_named_before_decoding(data):
    for file in data.iterdir():
        if file.is_file():
            file.write_text(file.read_text().replace("u2 ", "u2(1) "))
    with pytest.raises(DataError, match=r"ids with parentheses .*tone-u2\(1\); rename"):
        decode(None, TokenIds(TOKENS), DataDir.read(data), GreedySearch(), BatchOptions())


def test_beam_options_without_a_beam_are_refused():
    assert isinstance(make_search(TOKENS), GreedySearch)
    assert isinstance(make_search(TOKENS, beam_size=1), GreedySearch)
    with pytest.raises(ConfigError, match="lm, lm_weight: only used by beam search"):
        make_search(TOKENS, lm="x.arpa", lm_weight=2.0)
    with pytest.raises(ConfigError, match="beam size 0: 1 is greedy"):
        make_search(TOKENS, beam_size=0)


def test_a_dry_run_checks_the_options_alone(tmp_path, capsys, monkeypatch):
    command = ["decode", "--dry-run", "--exp-dir", "none", "--data-dir", "none", "--output-dir", str(tmp_path / "out")]
    assert cli.main(command) == 0
    assert cli.main([*command, "--lm", "a.arpa"]) == 1
    assert "only used by beam search" in capsys.readouterr().err
    assert cli.main([*command, "--task", "seq2seq", "--beam-size", "5"]) == 0  # which has a search of its own
    assert cli.main([*command, "--task", "seq2seq", "--bf16"]) == 1
    assert "--bf16: for CTC models" in capsys.readouterr().err
    command.remove("--dry-run")
    assert cli.main([*command, "--task", "ctc"]) == 1
    assert "--task ctc: goes with --dry-run" in capsys.readouterr().err
    command.append("--dry-run")
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)  # as where it is not installed
    assert cli.main([*command, "--beam-size", "5"]) == 1
    assert "run tools/setup.sh --with-lm" in capsys.readouterr().err


def test_command_reports_errors(data, tmp_path, capsys):
    arguments = ["--exp-dir", str(tmp_path / "none"), "--output-dir", str(tmp_path / "out")]
    assert cli.main(["decode", *arguments, "--data-dir", str(tmp_path / "nodata")]) == 1
    assert "wav.scp" in capsys.readouterr().err
    assert cli.main(["decode", *arguments, "--data-dir", str(data), "--max-seconds", "0"]) == 1
    assert "max seconds" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
