"""A small random Whisper, and the fixture's utterances."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.upstreams.whisper_files import huggingface_folder, small_whisper

FIVE = Path(__file__).parents[1] / "fixtures" / "five"


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory) -> Path:
    return huggingface_folder(small_whisper(), tmp_path_factory.mktemp("whisper") / "small")


@pytest.fixture
def command(whisper_folder):
    """Words of a training command, to which a test adds its own."""

    def words(exp: Path, *options: str) -> list[str]:
        return [
            *("--upstream", "auto", "--upstream_ckpt", str(whisper_folder), "--language", "fr"),
            *("--train_dir", str(FIVE), "--valid_dir", str(FIVE), "--output_dir", str(exp), "--amp_dtype", "float32"),
            *("--batch_size", "2", "--max_updates", "4", "--valid_interval", "2", "--progress_interval", "1"),
            *("--max_valid_utts", "2", *options),
        ]

    return words
