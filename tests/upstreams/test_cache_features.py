from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from s3router.cli import main as s3router
from s3router.upstreams import hub


def main(arguments: list[str]) -> int:
    return s3router(["cache-features", *arguments])


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, samples in enumerate((9000, 16000, 5000)):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(samples), 16000)
    (folder / "wav.scp").write_text("".join(f"u{n} {tmp_path / f'{n}.wav'}\n" for n in range(3)))
    (folder / "utt2spk").write_text("".join(f"u{n} s\n" for n in range(3)))
    return folder


def test_training_finds_every_utterance(data, tmp_path, hf_folder, capsys):
    arguments = ["--upstream", "hf_hubert_custom", "--upstream-ckpt", str(hf_folder())]
    arguments += ["--data-dir", str(data), "--feature-cache", str(tmp_path / "cache")]
    for _ in range(2):  # the second time finds all
        assert main(arguments) == 0
        assert "3 utterances, 0.00 h: all in" in capsys.readouterr().out
    upstream = hub.build(str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path / "cache")).eval()
    calls = []
    upstream.front_end.conv_layers[0].register_forward_hook(lambda *_: calls.append(1))
    from s3router.data.audio import read_audio

    upstream([torch.from_numpy(read_audio(str(tmp_path / f"{n}.wav"))) for n in range(3)])
    assert not calls
    assert len(upstream.feature_store) == 3


def test_the_limit_is_told(data, tmp_path, hf_folder, capsys):
    arguments = ["--upstream", "hf_hubert_custom", "--upstream-ckpt", str(hf_folder()), "--max-gb", "1e-6"]
    assert main([*arguments, "--data-dir", str(data), "--feature-cache", str(tmp_path / "cache")]) == 0
    assert "not all (the limit is reached)" in capsys.readouterr().out


def test_errors_are_one_line(data, tmp_path, hf_folder, capsys):
    where = ["--feature-cache", str(tmp_path / "cache")]
    good = ["--upstream", "hf_hubert_custom", "--upstream-ckpt", str(hf_folder())]
    assert main([*good, *where, "--data-dir", str(tmp_path / "nowhere")]) == 1
    assert main(["--upstream", "hubrt", *where, "--data-dir", str(data)]) == 1
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    assert main([*good, *where, "--data-dir", str(data)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("s3router cache-features: ")]
    assert len(errors) == 3
    assert "nowhere" in errors[0]
    assert "hubrt" in errors[1]
    assert "1.wav" in errors[2]
