"""A small random upstream, and noise of two colours to be told apart."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from s3router.data.audio import write_audio
from s3router.data.kaldi import Utterance
from s3router.data.utt2label import write_labelled

SLOTS = {"ic": 3}


@pytest.fixture(scope="session")
def upstream(tmp_path_factory) -> Path:
    """A random pre-LN HuBERT of two layers, without LayerDrop, in HuggingFace's format."""
    import json

    import torch
    from transformers import HubertConfig, HubertModel

    folder = tmp_path_factory.mktemp("upstream")
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        hidden_dropout=0.1,
        layerdrop=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        HubertModel(config).save_pretrained(folder)
    extractor = {"do_normalize": True, "sampling_rate": 16000, "feature_size": 1, "padding_value": 0.0}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    return folder


def make_set(folder: Path, count: int, slots: int = 1, seed: int = 0, seconds: float = 0.3) -> Path:
    """A labelled directory: white noise ("hiss") and its running sum ("rumble"), of different lengths."""
    random = np.random.default_rng(seed)
    utts, labels = [], {}
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        kind = ("hiss", "rumble")[index % 2]
        samples = random.standard_normal(round(16000 * (seconds + 0.1 * random.random())))
        if kind == "rumble":
            samples = np.convolve(samples, np.ones(40) / 6, "same")
        path = folder / "wav" / f"{kind}-{index}.wav"
        write_audio(path, 0.1 * samples, 16000)
        utts.append(Utterance(path.stem, str(path)))
        labels[path.stem] = tuple(f"{kind} {slot}" if slots > 1 else kind for slot in range(slots))
    write_labelled(folder, utts, labels)
    return folder


@pytest.fixture(scope="session")
def sets(tmp_path_factory) -> dict[str, Path]:
    """train, dev and test of one slot."""
    top = tmp_path_factory.mktemp("sets")
    return {name: make_set(top / name, n, seed=n) for name, n in (("train", 12), ("dev", 6), ("test", 5))}


@pytest.fixture
def options(upstream: Path, sets: dict[str, Path], tmp_path: Path):
    """A function: further options -> the parsed command line of superb-train with a small budget."""
    from s3router.superb.options import read_options

    def make(*more: str, name: str = "exp") -> argparse.Namespace:
        given = ["--task", "cls", "--upstream", "hf_hubert_custom", "--upstream-ckpt", str(upstream)]
        given += ["--train-dir", str(sets["train"]), "--valid-dir", str(sets["dev"])]
        given += ["--output-dir", str(tmp_path / name), "--max-updates", "6", "--valid-interval", "3"]
        return read_options([*given, "--batch-size", "5", "--amp-dtype", "float32", *more])

    return make


def train(args: argparse.Namespace):
    """Train in this process; returns the finished run."""
    from s3router.superb.options import complete
    from s3router.superb.run import Run

    run = Run.prepare(args, complete(args))
    run.train()
    return run
