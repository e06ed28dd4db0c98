"""Training from a program: a set of recordings and texts -> a pack."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3router.data.convert import convert, opened
from s3router.data.format_wav import format_dir
from s3router.data.kaldi import DataDir
from s3router.data.tokens import TokenIds, build_token_list, write_token_list
from s3router.errors import ConfigError, DataError
from s3router.packs.description import Malformed, check_route
from s3router.serving.opening import open_experiment
from s3router.serving.packing import write_experiment
from s3router.training.logs import errors_only, to_files
from s3router.upstreams.whisper import WINDOW_SECONDS

TASKS = ("auto", "seq2seq", "ctc")
HELD_OUT = 0.1
"""Share of the utterances that validate where no validation set is given."""
VALIDATION = ("validation", "dev", "valid")
"""Splits of a dataset that choose the best checkpoint, where there are several the first of these."""
_OURS = frozenset(
    ("train_dir", "valid_dir", "output_dir", "token_list", "token_type", "bpemodel", "config", "dry_run", "help")
)  # units are letters here


def train(
    dataset: Any,
    valid: Any = None,
    *,
    output: str | os.PathLike,
    upstream: str = "whisper_base",
    upstream_ckpt: str | None = None,
    method: str = "router",
    task: str = "auto",
    language: str | None = None,
    route: str | None = None,
    audio: str = "audio",
    text: str = "text",
    corpus: str = "",
    licence: str = "",
    codec: str = "bits",
    **options: Any,
) -> Path:
    """Train one route, and pack it. Called again with the same arguments, it goes on where it was.

    Args:
        dataset: a set in any form that `s3router.data.convert.convert` reads (a HuggingFace dataset, a manifest of
            NeMo's, lhotse's cuts, a Kaldi directory). Of a ``DatasetDict``, in memory or on disk, ``train`` is taken,
            and ``validation``, ``dev`` or ``valid`` to validate on, unless `valid` is another set.
        valid: another set, to choose the best checkpoint on; None: a tenth of the utterances, by a hash of their ids.
        output: a folder for data, training and the pack.
        upstream, upstream_ckpt: the backbone.
        method: what trains (docs/methods.md).
        task: ``seq2seq``, a whole Whisper, as ``s3router seq2seq-train``; ``ctc``, letters on an encoder, as ``s3router
            train``; ``auto``: the first for upstreams called ``whisper_*``.
        language: of the texts, such as ``fr``; a whole Whisper is told it.
        route: the pack's route; by default the language, else the folder's name.
        audio, text: columns of a HuggingFace dataset.
        corpus, licence: what the pack says of itself.
        codec: of the pack (`s3router.packs.CODECS`).
        options: further options of these commands, by name: ``max_updates=60``, ``mask_conf={...}``.

    Returns:
        The pack, ``OUTPUT/ROUTE.pack``.

    Raises:
        ConfigError: options that are unknown or wrong; ``output`` holds a training with others.
        DataError: a set is in none of the forms, or damaged.
        CheckpointError, TrainingError: as of the commands.
    """
    output = Path(output)
    route = _checked(task, route or language or output.resolve().name)
    task = ("seq2seq" if upstream.startswith("whisper_") else "ctc") if task == "auto" else task
    chosen = {"upstream": upstream, "upstream_ckpt": upstream_ckpt, "method": method, **options}
    train_set, valid_set = _sets(dataset, valid, output / "data", audio, text)
    words = ["--output_dir", str(output / "exp")]
    if task == "seq2seq":
        chosen |= {"language": language}
    else:
        texts = [utt.text for data in (train_set, valid_set) for utt in data.utts]
        write_token_list(output / "tokens.txt", build_token_list(texts))
        words += ["--token_list", str(output / "tokens.txt")]
    tokens = TokenIds(build_token_list(texts)) if task == "ctc" else None
    for name, data in (("train", train_set), ("valid", valid_set)):
        limits = {"max_seconds": float(WINDOW_SECONDS), "tokens": tokens} if name == "train" else {}
        format_dir(data.path, output / "dump" / name, nj=os.cpu_count() or 1, **limits)
        words += [f"--{name}_dir", str(output / "dump" / name)]
    (_train_whole if task == "seq2seq" else _train_ctc)(words, chosen, output)
    exp = open_experiment(output / "exp")
    with errors_only():
        write_experiment(output / f"{route}.pack", exp, route, codec, corpus=corpus, licence=licence)
    return output / f"{route}.pack"


def _checked(task: str, route: str) -> str:
    if task not in TASKS:
        raise ConfigError(f"task {task!r} is not known; known: {', '.join(TASKS)}")
    try:
        return check_route(route)
    except Malformed as error:
        raise ConfigError(f"{error}; name another with route=") from None


def _train_whole(words: list[str], chosen: Mapping[str, Any], output: Path) -> None:
    from s3router.seq2seq.options import parser, read_options
    from s3router.seq2seq.train import train as train_recogniser

    words = [*words, *_words(chosen, parser())]
    with _as_config_error():
        options = read_options(words)
    with to_files(output / "exp" / "train.log"):
        train_recogniser(options)


def _train_ctc(words: list[str], chosen: Mapping[str, Any], output: Path) -> None:
    from s3router.asr.train import routed_task
    from s3router.asr.train import train as train_letters

    words = [*words, *_words(chosen, routed_task().get_parser())]
    with _as_config_error():
        train_letters(words)


class _as_config_error:
    """argparse ends the process where a value is of the wrong kind; a program gets an error instead."""

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, SystemExit) and error.code == 2:
            raise ConfigError("an option has a wrong value: see the line above") from None


def _words(chosen: Mapping[str, Any], parser: argparse.ArgumentParser) -> list[str]:
    """Options as the command takes them. Raises ConfigError for unknown ones."""
    known = {action.dest for action in parser._actions} - _OURS  # argparse has no public list
    if unknown := [name for name in chosen if name not in known]:
        raise ConfigError(f"unknown options: {', '.join(unknown)}; {parser.prog} --help lists them")
    return [f"--{name}={_word(value)}" for name, value in chosen.items() if value is not None]


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | list | tuple | dict) else str(value)


def _sets(dataset: Any, valid: Any, folder: Path, audio: str, text: str) -> tuple[DataDir, DataDir]:
    """The two sets as Kaldi directories."""
    names = {"audio": audio, "text": text}
    dataset, valid = opened(dataset), None if valid is None else opened(valid)
    splits = dataset if isinstance(dataset, Mapping) else {}
    dataset = splits.get("train", dataset)
    if valid is None:
        valid = next((splits[name] for name in VALIDATION if name in splits), None)
    elif isinstance(valid, Mapping):
        valid = next((valid[name] for name in VALIDATION if name in valid), valid)
    if valid is not None:
        return tuple(
            convert(source, folder / name, "kaldi", **names) for name, source in (("train", dataset), ("valid", valid))
        )
    whole = convert(dataset, folder / "all", "kaldi", **names)
    if len(whole.utts) < 2:
        raise DataError("one utterance is not enough to train and validate on; give more, or a validation set (valid=)")
    order = sorted(whole.utts, key=lambda u: hashlib.sha256(u.utt.encode()).digest())
    count = max(1, round(HELD_OUT * len(order)))
    parts = {"valid": order[:count], "train": order[count:]}
    return tuple(replace(whole, utts=parts[name]).write(folder / name) for name in ("train", "valid"))
