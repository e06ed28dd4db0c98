"""Prediction of a data directory with a trained task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.files import write_json
from s3router.superb.experiment import TaskExperiment
from s3router.superb.tasks import FIGURES

logger = logging.getLogger(__name__)


def predict(
    experiment: TaskExperiment,
    data_dir: Path,
    output_dir: Path,
    fold: int | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    device: str = "cpu",
    raw: bool = False,
) -> dict[str, Any]:
    """Predict a directory, score it, and write ``result.json``, the predictions and the submission's file.

    Args:
        experiment: the trained task.
        data_dir: Kaldi directory with the labels, texts, trials or turns to score against.
        output_dir: where the files go.
        fold: the fold of emotion recognition.
        batch_size: utterances per batch.
        num_workers: processes that read audio; 0: this one.
        device: ``cpu`` or ``cuda``.
        raw: take the waveforms of verification trials as they are (`Kind.on_raw_waveforms`).

    Returns:
        The content of ``result.json``.

    Raises:
        ConfigError: no fold for a task that has some; no such device; ``raw`` for a task that has no such choice.
        DataError: a directory that cannot be scored.
        CheckpointError: as `TaskExperiment.model`.
    """
    from s3router.superb.batches import in_order
    from s3router.superb.evaluate import evaluate
    from s3router.training.processes import check_device

    check_device(device)
    kind, options, best = experiment.kind, experiment.options, experiment.validated
    kind = kind.on_raw_waveforms() if raw else kind
    if kind.folder and "{fold}" in kind.folder and fold is None:
        raise ConfigError(f"task {kind.name} has folds: say which with --fold")
    if not experiment.ended:
        logger.warning(
            "%s: training stands at update %d of %d; this is its best model so far",
            *(experiment.path, experiment.updates, options["max_updates"]),
        )
    labelled = kind.read(data_dir)
    kind.check(None, [labelled], experiment.classes)
    task = experiment.model(device=device, amp_dtype=experiment.amp_dtype or "float32")
    kind.check(None, [labelled], experiment.classes, task.model.receptive_field)
    clips = kind.clips(labelled, task.encoder, experiment.settings)
    found = evaluate(kind, task, in_order(clips, batch_size, num_workers=num_workers), labelled, device)
    result = {
        "task": kind.name,
        "method": experiment.method,
        "setting": experiment.setting,
        **experiment.track,
        "data_dir": str(data_dir),
        "upstream": experiment.upstream,
        **{name: options[name] for name in ("sparsity", "seed", "lr", "upstream_lr")},
        "n_utts": len(labelled.labels),
        **({"raw": True} if raw else {}),
        **({} if fold is None else {"fold": fold}),
        **({} if experiment.ended else {"updates": experiment.updates}),
        **found.metrics,
        "loss": found.loss,
        "selected": best,
        **kind.tuned(found.predictions, best),
    }
    kind.write(found.predictions, output_dir, fold)
    write_json(output_dir / "result.json", result)
    return result


def described(result: Mapping[str, Any]) -> str:
    """The metrics of a result in words."""
    if "accuracy" in result:
        low, high = result["interval"]
        interval = f"(95 % interval {100 * low:.2f} to {100 * high:.2f})"
        return f"accuracy {100 * result['accuracy']:.2f} % of {result['n_utts']} {interval}"
    names = [name for name in FIGURES if name in result]
    return ", ".join(f"{FIGURES[name]} {100 * result[name]:.2f} %" for name in names) + f" of {result['n_utts']}"
