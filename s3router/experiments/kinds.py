"""The kinds of run: what a run reads, the commands that make it, and where its figures are found.

``asr`` and ``task`` runs are commands of s3router's own, called in this process one after the other. ``command`` runs
are any other program, such as a recipe's run.sh; it gets a process of its own.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from s3router.errors import ConfigError
from s3router.experiments.grid import Grid, Run
from s3router.experiments.reading import read_experiment
from s3router.tuners.methods import METHODS, mask_fields

Argv = list[str]
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.]*)\}")


class Kind(Protocol):
    """One kind of run.

    Attributes:
        in_process: whether `steps` are arguments of the ``s3router`` command, else of programs.
    """

    in_process: bool

    def preload(self) -> None:
        """Import everything heavy, for children that are forked afterwards."""

    def inputs(self, run: Run) -> dict[str, Path]:
        """What a run reads."""

    def steps(self, run: Run, folder: Path) -> list[Argv]:
        """The commands that make a run; the first one trains."""

    def result(self, run: Run, folder: Path) -> dict[str, Any]:
        """Its figures, once all steps have been made."""


def kind_of(grid: Grid) -> Kind:
    """The kind that a grid names."""
    return {"asr": Recognition, "seq2seq": WholeRecogniser, "task": Task, "command": Command}[grid.kind](grid)


class Recognition:
    """``s3router train``, then ``s3router decode`` of dev and test."""

    in_process = True

    def __init__(self, grid: Grid):
        self.grid = grid

    def preload(self) -> None:
        from s3router.asr.train import routed_task

        routed_task()

    def inputs(self, run: Run) -> dict[str, Path]:
        """train, dev, test (folders) and tokens (a file)."""
        return data_paths(self.grid, run, ("train", "dev", "test", "tokens"))

    def steps(self, run: Run, folder: Path) -> list[Argv]:
        steps = [["train", *self.training(run, folder)]]
        for part in ("dev", "test"):
            data = self.inputs(run)[part]
            words = ["--exp-dir", str(folder), "--data-dir", str(data), "--output-dir", str(folder / f"decode_{part}")]
            steps.append(["decode", *words])
        return steps

    def training(self, run: Run, folder: Path) -> Argv:
        """Arguments of ``s3router train``."""
        paths, cache = self.inputs(run), self.grid.raw.get("feature_cache")
        words: dict[str, Any] = {
            "output_dir": folder,
            "train_dir": paths["train"],
            "valid_dir": paths["dev"],
            "token_list": paths["tokens"],
            "method": run.base,
            "upstream": run.upstream,
            "upstream_ckpt": self.grid.upstream_ckpt,
            "sparsity": run.sparsity,
            "seed": run.seed,
            "feature_cache": cache if run.base != "scratch" else None,
            **local(self.grid),
            **dict(run.options),
        }
        if not METHODS[run.base].masks:
            words.pop("mask_conf", None)
        return flags(words)

    def result(self, run: Run, folder: Path) -> dict[str, Any]:
        return {"targets": targets(run), **read_experiment(folder, "dev", ["test"])}


class WholeRecogniser:
    """``s3router seq2seq-train``, then ``s3router decode`` of dev and test."""

    in_process = True

    def __init__(self, grid: Grid):
        self.grid = grid

    def preload(self) -> None:
        from s3router.seq2seq import train, trainer  # noqa: F401

    def inputs(self, run: Run) -> dict[str, Path]:
        """train, dev and test: folders."""
        return data_paths(self.grid, run, ("train", "dev", "test"))

    def steps(self, run: Run, folder: Path) -> list[Argv]:
        paths, raw = self.inputs(run), self.grid.raw
        languages = {
            name: filled(str(raw[name]), run) for name in ("language", "text_language") if raw.get(name) is not None
        }
        words: dict[str, Any] = {
            "output_dir": folder,
            "train_dir": paths["train"],
            "valid_dir": paths["dev"],
            "method": run.base,
            "upstream": run.upstream,
            "upstream_ckpt": self.grid.upstream_ckpt,
            "sparsity": run.sparsity,
            "seed": run.seed,
            **languages,
            **local(self.grid),
            **dict(run.options),
        }
        if not METHODS[run.base].masks:
            words.pop("mask_conf", None)
        steps = [["seq2seq-train", *flags(words)]]
        for part in ("dev", "test"):
            decode = {"exp-dir": folder, "data-dir": paths[part], "output-dir": folder / f"decode_{part}"}
            steps.append(["decode", *flags(decode | {"device": local(self.grid).get("device")})])
        return steps

    def result(self, run: Run, folder: Path) -> dict[str, Any]:
        return {"targets": targets(run), **read_experiment(folder, "dev", ["test"])}


class Task:
    """``s3router superb-train``, then ``s3router superb-predict`` of test."""

    in_process = True

    def __init__(self, grid: Grid):
        self.grid = grid

    def preload(self) -> None:
        from s3router.superb import tasks

        tasks.task(self.grid.raw["task"]).settings()

    def inputs(self, run: Run) -> dict[str, Path]:
        """train, dev and test: folders; classes, where the grid names a list of them."""
        names = ("train", "dev", "test", *(["classes"] if "classes" in self.grid.raw["data"] else []))
        return data_paths(self.grid, run, names)

    def steps(self, run: Run, folder: Path) -> list[Argv]:
        paths, raw, options = self.inputs(run), self.grid.raw, dict(run.options)
        crops = options.get("max_seconds") and run.base != "frozen"
        words: dict[str, Any] = {
            "task": raw["task"],
            "method": run.base,
            "upstream": run.upstream,
            "upstream-ckpt": self.grid.upstream_ckpt,
            "sparsity": run.sparsity,
            "seed": run.seed,
            "train-dir": paths["train"],
            "valid-dir": paths["dev"],
            "test-dirs": paths["test"],  # checked before the work
            "classes": paths.get("classes"),
            "feature-cache": None if crops else raw.get("feature_cache"),
            "output-dir": folder,
            **{name.replace("_", "-"): value for name, value in local(self.grid).items()},
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        if run.base == "frozen":
            words.pop("max-seconds", None)  # nothing would be saved by it
        if not METHODS[run.base].masks:
            words.pop("mask-conf", None)
        predict = {"exp-dir": folder, "data-dir": paths["test"], "output-dir": folder / "predict_test"}
        predict |= {
            "device": local(self.grid).get("device"),
            "fold": filled(str(raw["fold"]), run) if "fold" in raw else None,
        }
        return [["superb-train", *flags(words)], ["superb-predict", *flags(predict)]]

    def result(self, run: Run, folder: Path) -> dict[str, Any]:
        return read_experiment(folder, "dev", ["test"])


class Command:
    """A program with placeholders, whose figures are read from the experiment's folder that it leaves."""

    in_process = False

    def __init__(self, grid: Grid):
        self.grid = grid

    def preload(self) -> None:
        pass

    def inputs(self, run: Run) -> dict[str, Path]:
        return {}

    def steps(self, run: Run, folder: Path) -> list[Argv]:
        filled(self.grid.raw["experiment"]["folder"], run)  # refused before the work
        return [filled_words(shlex.split(self.grid.raw["command"]), self.grid, run)]

    def result(self, run: Run, folder: Path) -> dict[str, Any]:
        where = self.grid.raw["experiment"]
        return read_experiment(Path(filled(where["folder"], run)), str(where.get("dev", "dev")), self.grid.tests)


def local(grid: Grid) -> dict[str, Any]:
    """Options that say where and on what runs are made, and decide nothing about them: GPUs, paths of a corpus."""
    return dict(grid.raw.get("local") or {})


def data_paths(grid: Grid, run: Run, names: tuple[str, ...]) -> dict[str, Path]:
    """Paths under ``data`` of a grid: text with placeholders, or one for each value of an axis."""
    found = {}
    for name in names:
        entry = grid.raw["data"][name]
        if isinstance(entry, dict):
            texts = {str(value): text for value, text in entry.items()}
            entry = next((texts[value] for _, value in run.at if value in texts), None)
            if entry is None:
                raise ConfigError(f"{grid.path}: data: {name}: none of {', '.join(texts)} is where {run.name} is")
        found[name] = Path(filled(str(entry), run))
    return found


def prepare_command(grid: Grid, run: Run) -> Argv | None:
    """The program that makes the data of a run; None where the grid names none."""
    text = grid.raw.get("prepare")
    return None if text is None else filled_words(shlex.split(text), grid, run)


def filled(text: str, run: Run) -> str:
    """Text with {axis}, {method}, {seed}, {name} and the like filled in.

    Raises:
        ConfigError: a placeholder that the run has nothing for.
    """
    values = _values(run)

    def value(found: re.Match) -> str:
        if values.get(found[1]) is None:
            known = ", ".join(name for name, value in values.items() if value is not None)
            raise ConfigError(f"{text}: no value for {{{found[1]}}} in {run.name} (known: {known})")
        return str(values[found[1]])

    return _PLACEHOLDER.sub(value, text)


def filled_words(words: list[str], grid: Grid, run: Run) -> Argv:
    """A command's words.

    ``{options}`` becomes ``--name value`` of all that no other word has a placeholder for, ``{local}`` of the grid's
    local options alone.
    """
    named = {name for word in words for name in _PLACEHOLDER.findall(word)}
    found: list[str] = []
    for word in words:
        if word == "{local}":
            found += flags(local(grid), "-")
        elif word == "{options}":
            own = {**_values(run), "upstream_ckpt": grid.upstream_ckpt, **local(grid)}
            for name in (*(axis for axis, _ in run.at), "name", "key", "variant"):
                own.pop(name)
            found += flags({name: value for name, value in _grouped(own).items() if name not in named}, "-")
        else:
            found.append(filled(word, run))
    return found


def _values(run: Run) -> dict[str, Any]:
    about = {"name": run.name, "key": run.key, "variant": run.variant, "method": run.base, "sparsity": run.sparsity}
    return {**dict(run.at), **about, "seed": run.seed, "upstream": run.upstream, **dict(run.options)}


def _grouped(options: Mapping[str, Any]) -> dict[str, Any]:
    """``train_args.head_lr`` and its like as one option ``train_args`` whose value is a line of options."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        group, dot, own = name.partition(".")
        if dot:
            found[group] = f"{found.get(group, '')} {' '.join(flags({own: value}))}".strip()
        else:
            found[name] = value
    return found


def placeholders(text: str) -> list[str]:
    """The names in braces."""
    return _PLACEHOLDER.findall(text)


def flags(words: Mapping[str, Any], dash: str = "_") -> Argv:
    """``--name value`` for all that have a value; mappings and lists as JSON."""
    argv: Argv = []
    for name, value in words.items():
        if value is not None:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            argv += [f"--{name.replace('_', dash)}", text]
    return argv


def targets(run: Run) -> list[str] | None:
    """The roles that are masked, None for methods without masks."""
    if run.base not in METHODS or not METHODS[run.base].masks:
        return None
    from s3router.masks import MaskConfig

    given = {"sparsity": run.sparsity, **(dict(run.options).get("mask_conf") or {})}
    return list(MaskConfig.from_dict(mask_fields(run.base, given)).targets)
