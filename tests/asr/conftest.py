"""A small random upstream, and training runs in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"


@dataclass
class Run:
    """A training process; ``screen`` holds what it has printed."""

    zygote: Zygote
    pid: int
    exp: Path
    screen_file: Path

    @property
    def screen(self) -> str:
        return self.screen_file.read_text() if self.screen_file.exists() else ""

    def wait(self) -> int:
        """Exit status; minus the signal's number where one ended it."""
        return self.zygote.ask({"wait": self.pid})["status"]


@dataclass
class Zygote:
    """See zygote.py."""

    process: subprocess.Popen
    options: list[str]
    env: dict[str, str] = field(default_factory=dict)

    def ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        assert reply, "the zygote is dead"
        return json.loads(reply)

    def start(self, exp: Path, *options: str, kill: dict | None = None, env: dict | None = None) -> Run:
        """Begin a run of the training command with the fixture's data, the small upstream and ``options``."""
        screen = exp.parent / f"{exp.name}.screen"
        argv = [*self.options, "--output_dir", str(exp), *options]
        request = {"argv": argv, "screen": str(screen), "env": {**self.env, **(env or {})}, "kill": kill}
        return Run(self, self.ask(request)["pid"], exp, screen)

    def run(self, exp: Path, *options: str, status: int = 0, **more) -> Run:
        """The same, to its end, which must be ``status``."""
        run = self.start(exp, *options, **more)
        found = run.wait()
        assert found == status, run.screen
        return run


@pytest.fixture(scope="session")
def make_upstream():
    """(folder, seed) -> folder: a random pre-LN HuBERT of two layers in HuggingFace's format."""
    import torch
    from transformers import HubertConfig, HubertModel

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
    )

    def make(folder: Path, seed: int) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            HubertModel(config).save_pretrained(folder)
        settings = {"do_normalize": True, "sampling_rate": 16000, "feature_size": 1, "padding_value": 0.0}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        return folder

    return make


@pytest.fixture(scope="session")
def small_upstream(make_upstream, tmp_path_factory) -> Path:
    """The upstream of all runs here."""
    return make_upstream(tmp_path_factory.mktemp("upstream"), seed=0)


@pytest.fixture(scope="session")
def tokens_file(tmp_path_factory) -> Path:
    """The token list of the five utterances."""
    from s3router.data.kaldi import DataDir
    from s3router.data.tokens import build_token_list, write_token_list

    path = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    write_token_list(path, build_token_list(u.text for u in DataDir.read(FIVE).utts))
    return path


@pytest.fixture(scope="session")
def zygote(small_upstream, tokens_file):
    """Training runs on five utterances: 6 updates, a validation every 2; ESPnet is imported once for all."""
    options = {
        "train_dir": FIVE,
        "valid_dir": FIVE,
        "token_list": tokens_file,
        "max_updates": 6,
        "valid_interval": 2,
        "progress_interval": 1,
        "batch_seconds": 2.5,
        "amp_dtype": "float32",
    }
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("zygote.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    argv = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    yield Zygote(process, argv, {"S3ROUTER_TINY": str(small_upstream)})
    process.stdin.close()
    process.wait(300)  # on a busy machine it takes its time
