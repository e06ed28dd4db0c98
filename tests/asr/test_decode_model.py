"""Decoding with a model that training has left: masks on a small random upstream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from s3router import cli
from s3router.asr.ctc_decode import BatchOptions, GreedySearch, decode_many, emissions
from s3router.asr.decode import decode_experiment
from s3router.asr.experiment import ASRExperiment
from s3router.data.audio import read_audio, write_audio
from s3router.data.kaldi import DataDir
from s3router.errors import CheckpointError

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"


@pytest.fixture(scope="module")
def exp(zygote, tmp_path_factory) -> Path:
    return zygote.run(tmp_path_factory.mktemp("decode") / "exp", "--sparsity", "0.3", "--head_lr", "2e-2").exp


@pytest.fixture
def here(small_upstream, monkeypatch):
    monkeypatch.chdir(ROOT)  # the fixture's paths start there
    monkeypatch.setenv("S3ROUTER_TINY", str(small_upstream))


@pytest.fixture
def model(exp, here):
    return ASRExperiment(exp).model()


def test_batched_emissions_equal_single_ones(model):
    """Padding must not change what a recording gives: float32 noise only (the largest seen is 2e-6)."""
    import torch

    waves = [read_audio(utt.source) for utt in DataDir.read(FIVE).utts]
    batch, lengths = emissions(model, waves)
    assert len(set(lengths.tolist())) > 2
    for row, length, wave in zip(batch, lengths.tolist(), waves, strict=True):
        single, frames = emissions(model, [wave])
        assert frames.tolist() == [length]
        torch.testing.assert_close(row[:length], single[0, :length], atol=2e-5, rtol=0)


def test_batched_texts_equal_single_ones(model):
    waves = [read_audio(utt.source) for utt in DataDir.read(FIVE).utts]

    def texts(options: BatchOptions) -> dict[int, list[int]]:
        seconds = [len(wave) / 16000 for wave in waves]
        found = dict(decode_many(model, waves.__getitem__, seconds, GreedySearch(), options))
        return {index: found[index].tokens for index in sorted(found)}

    assert texts(BatchOptions(batch_seconds=60)) == texts(BatchOptions(batch_seconds=0))


def test_command(exp, here, tmp_path, capsys):
    out = tmp_path / "decode_test"
    arguments = ["--exp-dir", str(exp), "--data-dir", str(FIVE), "--output-dir", str(out), "--bf16"]
    assert cli.main(["decode", *arguments, "--max-seconds", "0.8", "--overlap-seconds", "0.2"]) == 0
    assert "times real time" in capsys.readouterr().out
    result = json.loads((out / "result.json").read_text())
    assert result["n_utts"] == 5
    assert result["bf16"] is True
    assert result["chunked"]
    assert len((out / "hyp.trn").read_text().splitlines()) == 5


def noisy_pieces(folder: Path) -> Path:
    """Pieces of the five utterances with noise: many frames whose best token is not much better than the second."""
    rng, lines = np.random.default_rng(0), {"wav.scp": [], "text": []}
    folder.mkdir()
    utts = DataDir.read(FIVE).utts
    for k in range(30):
        wave, text = read_audio(utts[k % 5].source), utts[k % 5].text
        start = int(rng.integers(0, len(wave) // 2))
        piece = wave[start : start + int(rng.integers(6000, 14000))]
        noise = rng.normal(0, 0.03, len(piece))
        write_audio(folder / f"u{k:02d}.wav", (piece + noise).astype(np.float32), 16000)
        lines["wav.scp"].append(f"u{k:02d} {folder}/u{k:02d}.wav\n")
        lines["text"].append(f"u{k:02d} {text}\n")
    for name, content in lines.items():
        (folder / name).write_text("".join(content))
    return folder


def test_scored_as_in_training(zygote, here, tmp_path):
    """The CER that training reports for its best checkpoint is the one that decoding finds, whatever it trained in."""
    data = noisy_pieces(tmp_path / "data")
    options = ["--valid_dir", str(data), "--amp_dtype", "bfloat16", "--feature_cache", str(tmp_path / "cache")]
    exp = ASRExperiment(zygote.run(tmp_path / "exp", "--head_lr", "2e-2", *options).exp)
    best, _ = exp.so_far()[1]
    assert best > 0
    assert decode_experiment(exp.path, data, tmp_path / "out")["cer"] == best


def test_missing_experiment(here, tmp_path, capsys):
    with pytest.raises(CheckpointError, match="no such"):
        decode_experiment(tmp_path / "none", FIVE, tmp_path / "out")
    arguments = ["--exp-dir", str(tmp_path / "none"), "--data-dir", str(FIVE), "--output-dir", str(tmp_path / "out")]
    assert cli.main(["decode", *arguments]) == 1
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
