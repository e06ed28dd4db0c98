"""Shared parts of the benchmarks: arithmetic, where and with what code they ran, and writing results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZES = ("tiny", "base")
"""Of `random_hubert`."""
WHISPER = "whisper_base"
"""Of `random_whisper`."""


def add_common(parser: argparse.ArgumentParser, name: str, dtype: bool = True) -> None:
    """The options --dtype, --threads and --output."""
    if dtype:
        parser.add_argument(
            "--dtype",
            choices=("auto", "bfloat16", "float32"),
            default="auto",
            help="of autocast; auto: bfloat16 where the processor multiplies it in hardware",
        )
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json", help="a .md goes beside it")


def add_size(parser: argparse.ArgumentParser) -> None:
    """The option --size."""
    parser.add_argument("--size", choices=(*SIZES, "all"), default="all")


def chosen_sizes(args: argparse.Namespace) -> tuple[str, ...]:
    """What --size asks for."""
    return SIZES if args.size == "all" else (args.size,)


def random_hubert(size: str, dropout: float):
    """A random HuBERT: of wav2vec2-base's size (95 M parameters), or of the shipped `tiny`'s configuration."""
    from transformers import HubertConfig, HubertModel

    shipped = ROOT / "s3router" / "upstreams" / "tiny"
    config = HubertConfig.from_pretrained(shipped) if size == "tiny" else HubertConfig()
    config.layerdrop, config.apply_spec_augment = 0.0, False
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
        setattr(config, name, dropout)
    return HubertModel(config)


def random_whisper(dropout: float):
    """A random encoder of the size of whisper_base (20 M parameters), as a `WhisperSpeechEncoder`."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from s3router.upstreams.whisper import WhisperSpeechEncoder

    config = WhisperConfig(
        **{"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048},
        **{"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout, "encoder_layerdrop": 0.0},
    )
    return WhisperSpeechEncoder(WhisperEncoder(config))


def settle(args: argparse.Namespace) -> None:
    """Set torch's threads, and replace `auto` by what it means here."""
    import torch

    from s3router.training.arithmetic import choose_arithmetic

    if args.threads:
        torch.set_num_threads(args.threads)
    args.threads = torch.get_num_threads()
    if getattr(args, "dtype", None) == "auto":
        args.dtype = choose_arithmetic("cpu")


def surroundings() -> dict[str, str | int]:
    """Commit (marked where the code differs from it), processor and versions."""
    import torch

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "s3router", "benchmarks/*.py")
    able = torch.cpu.get_capabilities()
    instructions = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(name)]
    return {
        "commit": commit + (" with changes" if changed else ""),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {' '.join(instructions)}",
        "torch": torch.__version__,
    }


def write(args: argparse.Namespace, result: dict, text: str) -> None:
    """Print the table, and write it and all single measurements beside one another."""
    where = surroundings()
    text = f"{text}\n\nCommit {where['commit']}; {where['processor']}; torch {where['torch']}."
    settings = {key: value for key, value in vars(args).items() if key not in ("output", "contender")}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"settings": settings, "surroundings": where, **result}
    args.output.write_text(json.dumps(content, indent=1, default=str) + "\n")
    args.output.with_suffix(".md").write_text(text + "\n")
    print(text)
