"""One run of the table: train, decode dev and test, write the result file. Called in a forked child."""

from __future__ import annotations

import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from grid import RATES, Grid, Run, used

from s3router.errors import DataError, S3RouterError
from s3router.files import write_lines

LOG, RESULT, LOCK = "run.log", "result.json", ".lock"
BEST = "valid.cer_ctc.best.pth"
PACKAGES = ("torch", "espnet", "espnet-s3prl", "transformers", "jiwer")
KEPT = ("wer", "cer", "n_utts", "n_words", "n_chars", "words", "chars", "too_many_tokens", "times_real_time")
CODE = ("s3router", "egs/asterisk/asr1/conf", "egs/asterisk/asr1/local")
"""What decides results; a change to anything else in the clone does not make a commit hash untrue."""


@dataclass(frozen=True)
class Place:
    """Where runs are made and their result files are gathered."""

    runs: Path
    results: Path

    @classmethod
    def usual(cls, trial: bool) -> Place:
        """The table's own; trials on a reduced budget are kept apart."""
        return (
            cls(Path("exp/trial/runs"), Path("exp/trial/results")) if trial else cls(Path("exp/table"), Path("results"))
        )

    def folder(self, run: Run) -> Path:
        return self.runs / run.name

    def has_model(self, run: Run) -> bool:
        """Whether the trained model is on this machine, not its result file alone."""
        return (self.folder(run) / RESULT).is_file() and (self.folder(run) / BEST).exists()


def prepare(grid: Grid, runs: list[Run]) -> None:
    """Have the recipe make the data of all runs, where it is not there yet; its output goes to the screen.

    Raises:
        DataError: the recipe failed, or did not leave what the grid names.
    """
    lacking = {(run.lang, run.subset): _missing(grid, run) for run in runs}
    for (lang, subset), missing in lacking.items():
        if not missing:
            continue
        command = ["./run.sh", "--lang", lang, "--subset", subset, "--stop-stage", "2"]
        status = subprocess.run(command).returncode if Path(command[0]).is_file() else 127
        run = next(run for run in runs if (run.lang, run.subset) == (lang, subset))
        if status or _missing(grid, run):
            why = f"failed with status {status}" if status else "did not make it"
            raise DataError(f"missing: {', '.join(map(str, missing))}; {' '.join(command)} {why}: see above")


def _missing(grid: Grid, run: Run) -> list[Path]:
    return [path for path in inputs(grid, run).values() if not path.exists()]


def inputs(grid: Grid, run: Run) -> dict[str, Path]:
    """What a run reads: train, dev, test (folders) and tokens (a file)."""
    data = grid.data
    names = {"train": data["train"][_subset(data["train"], run.subset)]} | {
        n: data[n] for n in ("dev", "test", "tokens")
    }
    return {name: Path(path.format(lang=run.lang, subset=run.subset)) for name, path in names.items()}


def _subset(known: dict, name: str) -> Any:
    return next(key for key in known if str(key) == name)


def train_argv(grid: Grid, run: Run, folder: Path) -> list[str]:
    """The training command of a run, for ``s3router train``."""
    paths = inputs(grid, run)
    words: dict[str, Any] = {
        "output_dir": folder,
        "train_dir": paths["train"],
        "valid_dir": paths["dev"],
        "token_list": paths["tokens"],
        "method": run.method,
        "upstream": run.upstream,
        "upstream_ckpt": grid.upstream_ckpt,
        "sparsity": run.sparsity,
        "seed": run.seed,
        "feature_cache": grid.feature_cache if run.method != "scratch" else None,
        **dict(run.options),
    }
    if run.method != "router":
        words.pop("mask_conf", None)
    argv = []
    for name, value in words.items():
        if value is not None:
            argv += [f"--{name}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return argv


def run_one(run: Run, grid: Grid, place: Place, commit_hash: str) -> None:
    """Make one run; ends the process with a status. Everything printed goes to the run's log."""
    folder = place.folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / LOG, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 (open as long as the process lives)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its children
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(folder / LOCK, "w") as lock:
        # a child that outlived a killed parent may still be at it: wait for it, then take what it made
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not (folder / RESULT).is_file():
                make(run, grid, folder, commit_hash)
            result = (folder / RESULT).read_text(encoding="utf-8").splitlines()
            write_lines(place.results / f"{run.name}.json", result)
        except S3RouterError as err:
            print(f"error: {err}", file=sys.stderr)
            sys.exit(1)
        except BaseException:
            traceback.print_exc()
            sys.exit(1)


def make(run: Run, grid: Grid, folder: Path, commit_hash: str) -> None:
    """Train, decode, and write ``result.json``.

    Raises:
        S3RouterError: training or decoding failed.
    """
    from s3router.asr.decode import decode_experiment
    from s3router.asr.train import train

    argv = train_argv(grid, run, folder)
    command = f"s3router train {shlex.join(argv)}"
    print(f"# {datetime.datetime.now():%F %T} {command}", flush=True)
    train(argv)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    curve, seconds = learning_curve(folder, config)
    paths = inputs(grid, run)
    scores = {}
    for part in ("dev", "test"):
        output = folder / f"decode_{part}"
        found = decode_experiment(folder, paths[part], output)
        scores[part] = {name: found[name] for name in KEPT}
        print(f"{part}: WER {100 * scores[part]['wer']:.2f} CER {100 * scores[part]['cer']:.2f}", flush=True)
    scores["test"]["utts"] = per_utterance(folder / "decode_test")
    best = min(curve, key=lambda point: point[3])
    result = {
        "name": run.name,
        "key": run.key,
        "lang": run.lang,
        "subset": run.subset,
        "upstream": run.upstream,
        "upstream_id": run.upstream_id,
        "method": run.method,
        "variant": run.variant,
        "sparsity": run.sparsity,
        "targets": targets(run),
        "seed": run.seed,
        "lrs": {name: config[name] for name in RATES if used(run.method, name)},
        "options": dict(run.options),
        "updates": run.updates,
        "best_update": best[0],
        **scores,
        "curve": curve,
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(peak),
        "commit": commit_hash,
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "command": command,
        "versions": versions(),
    }
    write_lines(folder / RESULT, [json.dumps(result, ensure_ascii=False)])


def targets(run: Run) -> list[str] | None:
    """The roles that are masked, None for methods without masks."""
    if run.method != "router":
        return None
    from s3router.masks import MaskConfig

    return list(MaskConfig.from_dict({"sparsity": run.sparsity, **dict(run.options).get("mask_conf", {})}).targets)


def learning_curve(folder: Path, config: dict) -> tuple[list[list[float]], float]:
    """From the trainer's checkpoint: [update, training loss, dev loss, dev CER, dev WER] a validation; seconds taken.

    The seconds are those of training and validation, over all the times that the run was resumed.
    """
    from s3router.training.checkpoints import CHECKPOINT, read_states

    stats = read_states(folder / CHECKPOINT)["reporter"]["stats"]
    curve, seconds = [], 0.0
    for epoch, phases in sorted(stats.items()):
        train, valid = phases["train"], phases["valid"]
        update = min(epoch * config["valid_interval"], config["max_updates"])
        point = [train["loss"], valid["loss"], valid["cer_ctc"], valid["wer_ctc"]]
        curve.append([update, *(round(float(value), 4) for value in point)])
        seconds += sum(phase["time"].total_seconds() for phase in (train, valid))
    return curve, seconds


def per_utterance(output: Path) -> dict[str, list[int]]:
    """utterance -> [words, word errors, characters, character errors], for intervals over the utterances."""
    rows = [line.split("\t") for line in (output / "utterances.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    return {utt: [int(words), int(wrong), int(chars), int(bad)] for utt, _, _, words, wrong, chars, bad in rows}


def commit() -> str:
    """Short hash of the clone's commit, with "+" where code differs from it; "unknown" outside a clone."""
    root = Path(__file__).resolve().parents[5]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = ["git", "status", "--porcelain", "--untracked-files=no", "--", *CODE]
        dirty = subprocess.run(changed, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty else "")


def versions() -> dict[str, str]:
    """Of Python and the packages that decide results."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
