"""A trained model's folder, read for a result file: figures on dev and test, the learning curve, its settings."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3router.asr.experiment import ASRExperiment
from s3router.errors import ConfigError, DataError, PackError
from s3router.files import read_json
from s3router.packs.summary import figures
from s3router.seq2seq.experiment import Seq2SeqExperiment
from s3router.serving.packing import write_experiment
from s3router.superb.experiment import TaskExperiment
from s3router.training.checkpoints import CHECKPOINT, read_states
from s3router.training.experiment import Experiment
from s3router.tuners.methods import used_rates

KEPT = (
    *("wer", "cer", "per", "n_utts", "n_words", "n_chars", "words", "chars", "too_many_tokens", "times_real_time"),
    *("ran_on", "cer_plain"),
    *("accuracy", "balanced_accuracy", "interval", "slot_type_f1", "slot_value_cer", "eer", "der", "track"),
)
_AGAIN = "make the run to its end"


def read_experiment(folder: Path, dev: str, tests: Sequence[str]) -> dict[str, Any]:
    """Figures of an experiment, of speech recognition or of another task.

    Args:
        dev: the set that selected, as it was decoded (tasks have its figures from training).
        tests: the sets whose figures are wanted.

    Raises:
        DataError: a set was not decoded, or training was not finished.
    """
    if ASRExperiment.is_in(folder):
        exp = ASRExperiment(folder)
        found = _recognition(exp, dev, tests)
    elif Seq2SeqExperiment.is_in(folder):
        exp = Seq2SeqExperiment(folder)
        found = _recogniser(exp, dev, tests)
    elif TaskExperiment.is_in(folder):
        exp = TaskExperiment(folder)
        found = _task(exp, tests)
    else:
        raise DataError(f"{folder}: no trained model here; the run has not come to its end")
    return {**found, "pack_bytes": pack_bytes(exp)}


def pack_bytes(exp: Experiment) -> dict[str, int] | None:
    """Bytes of the pack of what was learnt, masks coded, by part (`s3router.packs.summary`); None: there is none."""
    if not exp.best().is_file():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "it.pack"
        try:
            write_experiment(path, exp, "it", codec="coded")
        except (ConfigError, PackError) as error:  # from scratch, a head that is no linear layer, values past float16
            print(f"no pack: {error}")
            return None
        return figures(path)["bytes"]


def has_model(folder: Path) -> bool:
    """Whether the best checkpoint is there, and not the result file alone."""
    return any((folder / kind.BEST).exists() for kind in (ASRExperiment, Seq2SeqExperiment, TaskExperiment))


def _recognition(exp: ASRExperiment, dev: str, tests: Sequence[str]) -> dict[str, Any]:
    found = {"dev": _figures(exp.path / f"{exp.RESULTS}{dev}")}
    for name in tests:
        found[name] = _figures(exp.path / f"{exp.RESULTS}{name}")
        found[name]["utts"] = recognised(exp.path / f"{exp.RESULTS}{name}")
    curve, seconds = learning_curve(exp)
    return {
        "lrs": {name: exp.options[name] for name in used_rates(exp.method)},
        "updates": exp.options["max_updates"],
        "best_update": min(curve, key=lambda point: point[3])[0],
        **found,
        "curve": [[update, *(round(value, 4) for value in values)] for update, *values in curve],
        "seconds": round(seconds, 1),
    }


def _recogniser(exp: Seq2SeqExperiment, dev: str, tests: Sequence[str]) -> dict[str, Any]:
    found = {"dev": _figures(exp.path / f"{exp.RESULTS}{dev}")}
    for name in tests:
        found[name] = _figures(exp.path / f"{exp.RESULTS}{name}")
        found[name]["utts"] = recognised(exp.path / f"{exp.RESULTS}{name}")
    record = exp.validated
    return {
        "lrs": {name: exp.options[name] for name in used_rates(exp.method, head=False)},
        "updates": record["updates"],
        "best_update": record["best"]["update"],
        **found,
        # as ESPnet's: update, training loss, dev loss (which decoding does not give), dev CER, dev WER
        "curve": [[p["update"], round(p["loss"], 4), None, p["cer"], p["wer"]] for p in record["curve"]],
        "seconds": record["seconds"],
    }


def _task(exp: TaskExperiment, tests: Sequence[str]) -> dict[str, Any]:
    best, options = exp.validated, exp.options
    found = {"dev": {name: value for name, value in best.items() if name != "update"}}
    for name in tests:
        found[name] = _figures(exp.top / f"{exp.RESULTS}{name}")
        if utts := classified(exp.top / f"{exp.RESULTS}{name}"):
            found[name]["utts"] = utts
    return {
        "lrs": {name: options[name] for name in ("lr", "upstream_lr") if options.get(name) is not None},
        "updates": options["max_updates"],
        "best_update": best["update"],
        **found,
        "curve": [],
    }


def _figures(folder: Path) -> dict[str, Any]:
    result = read_json(folder / "result.json", _AGAIN)
    return {name: result[name] for name in KEPT if name in result}


def recognised(output: Path) -> dict[str, list[int]]:
    """utterance -> [words, word errors, characters, character errors], for intervals over the utterances.

    Raises:
        DataError: the folder holds no ``utterances.tsv``, or a damaged one.
    """
    path = output / "utterances.tsv"
    if not path.is_file():
        raise DataError(f"{path} is missing; remove {output}, and decode again")
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        return {utt: [int(words), int(wrong), int(chars), int(bad)] for utt, _, _, words, wrong, chars, bad in rows}
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); remove {output}, and decode again") from None


def classified(output: Path) -> dict[str, list[int]] | None:
    """utterance -> [1, whether its label is wrong]; None where utterances have no labels to compare.

    Raises:
        DataError: a file of labels is damaged.
    """
    data, predicted = Path(read_json(output / "result.json", _AGAIN).get("data_dir", "")), output / "utt2label"
    if not predicted.is_file() or not (data / "utt2label").is_file():
        return None
    labels, right = map(_labels, (predicted, data / "utt2label"))
    return {utt: [1, int(label.split() != right.get(utt, "").split())] for utt, label in labels.items()}


def _labels(path: Path) -> dict[str, str]:
    try:
        return dict(
            line.split(maxsplit=1) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()
        )
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); make it again") from None


def learning_curve(exp: ASRExperiment) -> tuple[list[list[float]], float]:
    """From the trainer's checkpoint: [update, training loss, dev loss, dev CER, dev WER] of each validation; seconds.

    The seconds are those of training and validation, over all the times that the run was resumed.
    """
    config, stats = exp.config, read_states(exp.path / CHECKPOINT)["reporter"]["stats"]
    curve, seconds = [], 0.0
    for epoch, phases in sorted(stats.items()):
        train, valid = phases["train"], phases["valid"]
        update = min(epoch * config["valid_interval"], config["max_updates"])
        point = [train["loss"], valid["loss"], valid["cer_ctc"], valid["wer_ctc"]]
        curve.append([update, *map(float, point)])
        seconds += sum(_seconds(phase["time"]) for phase in (train, valid))
    return curve, seconds


def _seconds(time: Any) -> float:
    """As ESPnet's checkpoints have it; older ones hold a timedelta."""
    return time["__timedelta_seconds__"] if isinstance(time, dict) else time.total_seconds()
