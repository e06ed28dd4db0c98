"""Bad checkpoints of Whisper and of the gallery, and recordings of another rate or length, by the commands.

As in `tests/test_bad_input.py`: status 1, one clear message that names the place, and nothing half-written.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import transformers

from s3router import cli
from s3router.data.audio import resample
from s3router.packs import write_pack
from s3router.upstreams.hub import load_expert
from tests.serving.test_bake import make_pack
from tests.test_bad_input import place, refuse  # noqa: F401
from tests.upstreams.conftest import SIZES
from tests.upstreams.whisper_files import ctranslate2_file, ctranslate2_variables, openai_file, small_whisper


def model_bin(name: str, **changes) -> Callable[[Path], None]:
    return lambda folder: ctranslate2_file(ctranslate2_variables(small_whisper()), folder / name, **changes)


def eight_bits(folder: Path) -> None:
    variables = ctranslate2_variables(small_whisper())
    eight = {**variables, "encoder/layer_0/ffn/linear_0/weight": np.zeros((96, 64), np.int8)}
    ctranslate2_file(eight, folder / "int8.bin")


def cut_file(folder: Path) -> None:
    model_bin("cut.bin")(folder)
    (folder / "cut.bin").write_bytes((folder / "cut.bin").read_bytes()[:-1])


def other_bytes(folder: Path) -> None:
    (folder / "tiny.pt").write_bytes(b"not the published bytes")


def without_a_shard(folder: Path) -> None:
    small_whisper().save_pretrained(folder / "shards", max_shard_size="100KB")
    sorted((folder / "shards").glob("model-*.safetensors"))[1].unlink()


def without_weights(folder: Path) -> None:
    small_whisper().config.save_pretrained(folder / "bare")


def of_type(name: str) -> Callable[[Path], None]:
    return lambda folder: getattr(transformers, f"{name}Config")(**SIZES).save_pretrained(folder / name)


def espnet(folder: Path) -> None:
    (folder / "xeus").mkdir()
    (folder / "xeus" / "config.yaml").write_text("encoder: e_branchformer\n")


CHECKPOINTS = {  # what is there, the command, parts of the message
    "another version": (model_bin("v5.bin", version=5), "upstream check v5.bin", "v5.bin", "version 5", "6"),
    "another kind": (model_bin("t.bin", kind="TransformerSpec"), "upstream check t.bin", "t.bin", "TransformerSpec"),
    "int8": (eight_bits, "upstream check int8.bin", "int8.bin", "quantised", "float16"),
    "int8, to be converted": (eight_bits, "upstream convert int8.bin out", "int8.bin", "quantised", "float16"),
    "a file cut short": (cut_file, "upstream check cut.bin", "cut.bin"),
    "a wrong checksum": (
        other_bytes,
        "upstream fetch whisper_tiny --format openai --file tiny.pt",
        "tiny.pt: not the expected file",
        "SHA-256",
        "published",
    ),
    "a shard missing": (without_a_shard, "upstream check shards", "shards missing from the folder: model-00002-of-"),
    "no weights": (without_weights, "upstream check bare", "bare: no weights", "model.safetensors"),
    "SEW": (of_type("SEW"), "upstream check SEW", "half as many frames", "s3router.masks.attach"),
    "Wav2Vec2-BERT": (of_type("Wav2Vec2Bert"), "upstream check Wav2Vec2Bert", "filter banks", "s3router.masks.attach"),
    "XEUS": (espnet, "upstream check xeus", "xeus: a model of ESPnet", "s3router.masks.attach"),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints(place, refuse, monkeypatch, tmp_path_factory, case):  # noqa: F811
    make, line, *parts = CHECKPOINTS[case]
    make(place)
    kept = tmp_path_factory.mktemp("kept")
    monkeypatch.setenv("S3ROUTER_UPSTREAMS", str(kept))
    refuse(line, *parts)
    assert not [path for path in kept.rglob("*") if path.is_file() and path.suffix != ".lock"]


BACKBONE = ("--upstream", "auto", "--upstream-ckpt", "base.pt")

# --- recordings at another rate, and longer than a window


@pytest.fixture
def whisper(place) -> Path:  # noqa: F811
    """A place with a pack, its backbone, and recordings: 40 s at 16 kHz, 1 s at 8 kHz and the same resampled."""
    openai_file(small_whisper(), place / "base.pt")
    write_pack(place / "xx.pack", make_pack(load_expert("auto", str(place / "base.pt")).model, "auto"))
    random = np.random.default_rng(0)
    narrow = random.uniform(-0.1, 0.1, 8000).astype(np.float32)
    soundfile.write(place / "narrow.wav", narrow, 8000, subtype="FLOAT")
    soundfile.write(place / "wide.wav", resample(narrow, 8000, 16000), 16000, subtype="FLOAT")
    long = random.uniform(-0.1, 0.1, 40 * 16000).astype(np.float32)
    soundfile.write(place / "long.wav", long, 16000, subtype="FLOAT")
    return place


def transcribed(capsys: pytest.CaptureFixture, *given: str) -> list[dict]:
    capsys.readouterr()
    command = ["transcribe", *BACKBONE, "--routes", "xx.pack", "--lang", "xx", "--json"]
    assert cli.main([*command, *given]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_8_khz_is_resampled_as_it_is_read(whisper, capsys):
    narrow, wide = transcribed(capsys, "narrow.wav", "wide.wav")
    assert narrow["text"] == wide["text"] != ""


def test_40_seconds_are_cut_into_chunks_or_windows(whisper, capsys):
    (chunks,) = transcribed(capsys, "long.wav")
    (windows,) = transcribed(capsys, "long.wav", "--max-seconds", "50")  # in Whisper's windows of 30 s then
    assert chunks["text"]
    assert windows["text"]


def test_a_baked_program_names_the_rate(whisper, capsys):
    assert cli.main(["bake", "xx.pack", *BACKBONE, "-o", "baked"]) == 0
    done = subprocess.run([sys.executable, "baked/ctc.py", "narrow.wav"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]  # behind transformers' progress
    assert said == "narrow.wav: 8000 Hz, 1 channel(s); bring it to 16 kHz and one channel first"
    done = subprocess.run([sys.executable, "baked/ctc.py", "long.wav"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
