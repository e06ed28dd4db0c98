"""Pretraining in rounds: each predicts clusters of what the one before has learnt (HuBERT, Hsu et al. 2021).

Round 1 predicts k-means clusters of MFCC, every later round those of a hidden layer of the model so far, from which it
goes on training with new output heads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from s3router.errors import CheckpointError, ConfigError
from s3router.files import read_json, replacing, write_json
from s3router.pretraining.batches import Batches
from s3router.pretraining.model import Optimizers, Pretrainer, configuration, export, learning_rate
from s3router.pretraining.settings import Round, Settings, Training
from s3router.pretraining.speech import Speech, frame_counter
from s3router.pretraining.targets import (
    Arrays,
    at_other_speeds,
    cluster,
    extract,
    load_targets,
    save_targets,
    with_phones,
)
from s3router.training.arithmetic import choose_arithmetic

logger = logging.getLogger(__name__)

LOG, VALIDATE, SAVE = 50, 250, 200
"""Updates between entries of the log, validations and checkpoints."""


def pretrain(settings: Settings, speech: Speech, out: Path, init: Path | None = None, first_round: int = 1) -> Path:
    """Train all rounds, resuming where an earlier call was killed; returns the last export.

    Leaves in ``out``: data.json (what was learnt from), log.jsonl (loss and accuracy on masked frames),
    roundN.pt and roundN_targets.npz (to resume), and export_roundN: a HuggingFace folder that s3prl and transformers
    load as any HuBERT.

    Args:
        settings: model, training and rounds.
        speech: what is learnt from.
        out: folder of the experiment.
        init: go on from this HuggingFace folder instead of from nothing.
        first_round: leave out the rounds before it.

    Raises:
        ConfigError: a round asks for phones that ``speech`` does not have; no such round; a model that cannot be.
        CheckpointError: ``out`` holds checkpoints of another model.
    """
    from transformers import HubertModel

    config = check(settings, first_round, with_phones=bool(speech.phones))
    write_json(out / "data.json", speech.summary)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=arithmetic(out, config) == "bfloat16")
    upstream = HubertModel.from_pretrained(init, dtype=torch.float32).eval() if init is not None else None
    for number in range(first_round, len(settings.rounds) + 1):
        upstream = run_round(number, settings, config, speech, upstream, out, autocast)
        export(upstream, out / f"export_round{number}")
    return out / f"export_round{len(settings.rounds)}"


def check(settings: Settings, first_round: int, with_phones: bool) -> Any:
    """The HubertConfig, where all rounds from ``first_round`` on can be trained; needs no speech.

    Raises:
        ConfigError: see `pretrain`.
    """
    if first_round > len(settings.rounds):
        raise ConfigError(f"--first-round {first_round}: the configuration has {len(settings.rounds)} rounds")
    if any(spec.phones for spec in settings.rounds[first_round - 1 :]) and not with_phones:
        raise ConfigError("a round of the configuration asks for phones: name synthetic speech with --synthetic")
    return configuration(settings)


def arithmetic(out: Path, config: Any) -> str:
    """ "bfloat16" or "float32": measured once for an experiment, and kept when it is resumed."""
    path = out / "arithmetic.json"
    if not path.is_file():
        write_json(path, {"amp_dtype": choose_arithmetic("cpu", config.hidden_size, config.intermediate_size)})
    return json.loads(path.read_text(encoding="utf-8"))["amp_dtype"]


def run_round(
    number: int,
    settings: Settings,
    config: Any,
    speech: Speech,
    previous: nn.Module | None,
    out: Path,
    autocast: Callable[[], torch.autocast],
) -> nn.Module:
    """Train one round, resuming from ``out/roundN.pt``; returns the upstream."""
    spec, training = settings.rounds[number - 1], settings.training
    frames = frame_counter(config.conv_kernel, config.conv_stride)
    targets = targets_of(number, settings, speech, previous, out, frames, autocast)
    heads, samples = list(spec.clusters), speech.train
    if spec.phones:
        heads.append(1 + max(int(x.max()) for x in speech.phones.values()))
        samples, targets = samples | speech.synthetic, with_phones(targets, speech.phones)
    torch.manual_seed(training.seed + number)
    model = Pretrainer(config, heads)
    if previous is not None:
        model.upstream.load_state_dict(previous.state_dict())
    optimizer = Optimizers(model, training)
    step, seconds = resume(out / f"round{number}.pt", model, optimizer)
    seed = training.seed + 1000 * number + step
    synthetic = speech.phones if spec.phones else ()
    batches = iter(Batches(samples, targets, training, frames, seed, synthetic))
    dev = Batches(speech.dev, targets, training, frames, 0)
    model.train()
    recent: list[dict] = []
    bar = tqdm(total=spec.steps, initial=step, desc=f"round {number}", mininterval=30)
    while step < spec.steps:
        begin = time.time()
        optimizer.set_rate(learning_rate(step, spec.steps, training))
        with autocast():
            loss, report = model(*next(batches), training.unmasked_weight)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()
        step, seconds = step + 1, seconds + time.time() - begin
        recent.append(report)
        bar.update()
        last = step == spec.steps
        if step % LOG == 0 or last:
            entry = {"round": number, "step": step, "seconds": round(seconds), "loss": loss.item()} | means(recent)
            if step % VALIDATE == 0 or last:
                entry |= validate(model, dev, training, autocast)
            recent = []
            append(out / "log.jsonl", entry)
            bar.set_postfix({k: f"{v:.3f}" for k, v in entry.items() if "acc" in k})
        if step % SAVE == 0 or last:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
            with replacing(out / f"round{number}.pt", "wb") as file:
                torch.save(state, file)
    return model.upstream.eval()


def targets_of(
    number: int,
    settings: Settings,
    speech: Speech,
    previous: nn.Module | None,
    out: Path,
    frames: Callable[[int], int],
    autocast: Callable[[], torch.autocast],
) -> Arrays:
    """Clusters of all recordings, made once and kept in ``out/roundN_targets.npz``.

    Raises:
        ConfigError: those that are there are of other recordings, or of another round.
    """
    spec, path = settings.rounds[number - 1], out / f"round{number}_targets.npz"
    record, made_of = path.with_suffix(".json"), _digest(spec, settings, speech)
    if not path.exists():
        write_json(record, {"made_of": made_of})
    elif record.exists() and read_json(record, f"remove {path}").get("made_of") != made_of:
        raise ConfigError(f"{path}: made of other recordings or settings; take another --out, or remove it")
    if not path.exists():
        both = speech.train | speech.dev
        if spec.features == "layer":
            both = {item: x for item, x in both.items() if item[1] == 1.0}
        features = extract(both, frames, spec, previous, f"round {number}: {spec.features}", autocast)
        clustered = cluster(features, spec, settings.training.seed, {u for u, _ in speech.train})
        if spec.features == "layer":
            clustered = at_other_speeds(clustered, speech.train, frames)
        save_targets(path, clustered)
    return load_targets(path)


def _digest(spec: Round, settings: Settings, speech: Speech) -> str:
    """Of what clusters depend on: the round, the seed, and ids and lengths of the recordings."""
    items = sorted((item, len(samples)) for item, samples in (speech.train | speech.dev).items())
    told = (spec.features, spec.layer, spec.clusters, settings.training.seed, items)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def resume(path: Path, model: Pretrainer, optimizer: Optimizers) -> tuple[int, float]:
    """(updates done, seconds that they took) of a checkpoint, which is loaded; zeros where there is none.

    Raises:
        CheckpointError: it is damaged, or of another model.
    """
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path}: damaged, or of another configuration ({reason}); take another --out, or remove it"
        ) from None
    logger.info("%s: going on after update %d", path, state["step"])
    return state["step"], state["seconds"]


@torch.inference_mode()
def validate(
    model: Pretrainer, batches: Batches, training: Training, autocast: Callable[[], torch.autocast]
) -> dict[str, float]:
    """Mean loss and accuracy on held-out speech; the same masks every time."""
    model.eval()
    batches.rng = np.random.default_rng(1234)
    with autocast():
        reports = [model(*batch, training.unmasked_weight)[1] for batch in batches.epoch([1.0])]
    model.train()
    return {f"dev_{key}": value for key, value in means(reports).items()}


def means(reports: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each key over the reports that have it."""
    keys = dict.fromkeys(key for report in reports for key in report)
    return {key: float(np.mean([r[key] for r in reports if key in r])) for key in keys}


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add an entry to the log, figures to four digits."""
    with open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in entry.items()}) + "\n")
