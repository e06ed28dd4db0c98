"""One training run of a task: preparation, updates, validations, checkpoints."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from s3router.errors import CheckpointError, S3RouterError
from s3router.files import replacing
from s3router.superb import options
from s3router.superb.batches import Clips, TrainingBatches, in_order
from s3router.superb.evaluate import evaluate, to_device
from s3router.superb.labels import LabelledDir
from s3router.superb.model import build_task
from s3router.superb.pooled import PooledClips, can_pool, pooled
from s3router.superb.tasks import TaskSpec, task
from s3router.training.arithmetic import has_bfloat16
from s3router.training.checkpoints import CHECKPOINT, read_states
from s3router.training.parameters import load_trained, param_groups, trained_state
from s3router.training.progress import Progress
from s3router.upstreams.s3prl_engine import problem

logger = logging.getLogger(__name__)

BEST, CONFIG, RESULT = "best.pth", "config.json", "best.json"
MAX_LEFT_OUT = 100  # steps without a finite gradient before training gives up


class TrainingError(S3RouterError):
    """Training cannot go on."""


@dataclass
class Run:
    """What training needs; made by `prepare`."""

    args: argparse.Namespace
    spec: TaskSpec
    task: nn.Module
    optimizer: torch.optim.Optimizer
    batches: TrainingBatches
    valid: LabelledDir
    clips: Clips | PooledClips
    rank: int
    world: int
    device: str
    update: int = 0
    best: dict[str, Any] | None = None
    left_out: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def prepare(cls, args: argparse.Namespace, settings, rank: int = 0, world: int = 1, device: str = "cpu") -> Run:
        """Check everything, build the model and take up an interrupted run. Writes ``config.json``.

        Raises:
            ConfigError, DataError, CheckpointError: before anything is written, where the command is at fault.
        """
        spec = task(args.task)
        args.amp_dtype = _arithmetic(args.amp_dtype, device)
        kind = spec.of_kind()
        train, valid = (read(folder, spec) for folder in (args.train_dir, args.valid_dir))
        classes = kind.inventory(args.classes, train, spec)
        kind.check(train, [valid], classes)
        torch.manual_seed(args.seed)
        built = build_task(
            spec,
            settings,
            classes,
            args.mode,
            options.extra_conf(args),
            args.upstream_ckpt,
            bfloat16=args.amp_dtype == "bfloat16",
        )
        kind.check(train, [valid], classes, built.model.receptive_field)
        config = {
            "options": options.recorded(args),
            "settings": asdict(settings),
            "classes": classes,
            "fingerprint": built.model.routed.backbone_fingerprint,
        }
        _refuse_another(args.output_dir, config)
        built.to(device)
        lrs = {"head": args.lr, "scores": args.upstream_lr, "weights": args.upstream_lr}
        optimizer = problem(spec.problem).build_optimizer(
            {"name": settings.optimizer, "conf": {}}, param_groups(built.model, lrs)
        )
        encoder = getattr(built, "encoder", None) or kind.encoder(classes, spec)
        clips = kind.clips(train, encoder, settings, args.max_seconds, args.seed)
        valid_clips = kind.clips(valid, encoder, settings, None, 0)
        if options.pools_ahead(args) and can_pool(built.model, args.max_seconds):
            folder = None if args.feature_cache is None else Path(args.feature_cache)
            clips, valid_clips = (
                pooled(built.model, c, args.batch_size, folder, rank, world) for c in (clips, valid_clips)
            )
        sampler = None if spec.sampler is None else kind.sampler(train, args.batch_size, settings, args.seed, spec)
        batches = TrainingBatches(
            *(clips, args.batch_size, spec.balanced, args.seed, rank, world, args.num_workers, sampler)
        )
        run = cls(
            *(args, spec, built, optimizer, batches, valid, valid_clips),
            *(rank, world, device),
            extra=config,
        )
        run._continue()
        return run

    def _continue(self) -> None:
        folder = self.args.output_dir
        if _begun(folder):
            states = read_states(folder / CHECKPOINT, self.device)
            load_trained(self.task.model, states["model"], str(folder / CHECKPOINT))
            self.optimizer.load_state_dict(states["optimizer"])
            self.update, self.best = states["update"], states["best"]
            logger.info("resuming at update %d of %d", self.update, self.args.max_updates)
        elif self.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / CONFIG) as file:
                json.dump(self.extra, file, indent=1, ensure_ascii=False)

    def train(self) -> None:
        """Train to the end; the best checkpoint on the validation set is in ``best.pth``."""
        args = self.args
        progress = Progress(args.max_updates, interval=args.progress_interval, done=self.update)
        for group in self.optimizer.param_groups:
            count = sum(p.numel() for p in group["params"])
            logger.info("%s: %s parameters train at a learning rate of %g", group["name"], f"{count:,}", group["lr"])
        parallel = nn.parallel.DistributedDataParallel(self.task) if self.world > 1 else self.task
        stream = self.batches.starting_at(self.update * args.accum_grad)
        recent: list[float] = []
        with self._board() as board:
            while self.update < args.max_updates:
                loss = self._step(parallel, list(itertools.islice(stream, args.accum_grad)))
                recent.append(loss)
                self.update = progress.update = self.update + 1
                if self.update % args.progress_interval == 0 or self.update == args.max_updates:
                    mean = sum(recent) / len(recent)
                    logger.info(progress.line(mean))
                    board("train/loss", mean, self.update)
                    recent = []
                if self.update % args.valid_interval == 0 or self.update == args.max_updates:
                    self._validate(board)
                elif self.update % args.save_interval == 0:
                    self._save()
        logger.info(
            "done: best %s %.2f %% on the validation set, at update %d",
            *(self.spec.metric.replace("_", " "), 100 * self.best[self.spec.metric], self.best["update"]),
        )

    def _step(self, parallel: nn.Module, batches: list[tuple[dict, float]]) -> float:
        """One optimizer step; returns the mean loss of this process's batches."""
        # Seeded for every step, so that a resumed run draws the same dropout as one that was never stopped.
        seed = (self.args.seed * 1_000_003 + self.update) * self.world + self.rank
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        parallel.train()
        total = 0.0
        for number, (batch, weight) in enumerate(batches, 1):
            last = number == len(batches)
            with contextlib.nullcontext() if last or self.world == 1 else parallel.no_sync():
                loss, _ = parallel("train", **to_device(batch, self.device))
                (weight * loss / len(batches)).backward()
            total += float(loss.detach())
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.args.grad_clip)
        if math.isfinite(norm):
            self.optimizer.step()
        else:
            self.left_out += 1
            logger.warning("update %d: the gradient is not finite; step left out", self.update + 1)
            if self.left_out > MAX_LEFT_OUT:
                raise TrainingError(
                    f"update {self.update + 1}: over {MAX_LEFT_OUT} gradients were not finite; lower the learning rates"
                )
        self.optimizer.zero_grad(set_to_none=True)
        return total / len(batches)

    def _validate(self, board) -> None:
        loader = in_order(self.clips, self.args.batch_size, self.rank, self.world, self.args.num_workers)
        found = evaluate(self.task, loader, self.valid, self.device)
        scored = self.spec.of_kind().figures(
            list(found.predictions.values()), list(found.references.values()), self.spec
        )
        figures = {name: figure for name, figure in scored.items() if isinstance(figure, float)}
        value, quality = figures[self.spec.metric], self.spec.quality
        better = self.best is None or quality(value) > quality(self.best[self.spec.metric])
        if better:
            self.best = {"update": self.update, "loss": found.loss, **figures}
        note = "best so far" if better else f"best {100 * self.best[self.spec.metric]:.2f} % at {self.best['update']}"
        logger.info(
            "update %d validated: loss %.3g  %s %.2f %%  (%s)",
            *(self.update, found.loss, self.spec.metric.replace("_", " "), 100 * value, note),
        )
        for name, figure in {"loss": found.loss, **figures}.items():
            board(f"valid/{name}", figure, self.update)
        self._save(better)

    def _save(self, best: bool = False) -> None:
        """The best model goes first: a kill in between leaves an old checkpoint, which finds and writes it again."""
        if self.rank != 0:
            return
        folder, model = self.args.output_dir, trained_state(self.task.model)
        if best:
            with replacing(folder / BEST, "wb") as file:
                torch.save({"model": model, "best": self.best}, file)
            with replacing(folder / RESULT) as file:
                json.dump(self.best, file, indent=1)
        with replacing(folder / CHECKPOINT, "wb") as file:
            states = {
                "model": model,
                "optimizer": self.optimizer.state_dict(),
                "update": self.update,
                "best": self.best,
            }
            torch.save(states, file)

    @contextlib.contextmanager
    def _board(self):
        """A function (name, value, update) that writes for tensorboard; on the first process only."""
        if self.rank != 0:
            yield lambda *_: None
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.args.output_dir / "tensorboard"), purge_step=self.update + 1) as writer:
            yield writer.add_scalar


def _begun(folder: Path) -> bool:
    return (folder / CHECKPOINT).is_file() and (folder / CONFIG).is_file()


def _refuse_another(folder: Path, config: dict[str, Any]) -> None:
    """Refuse to go on with a run under other options, classes or upstream weights, where the folder holds one."""
    if not _begun(folder):
        return
    before = read_config(folder)
    options.check_same_run(config["options"], before["options"], folder)
    for name, what in (("classes", "other classes"), ("fingerprint", "another upstream, or other weights")):
        if before[name] != config[name]:
            raise CheckpointError(f"{folder} holds a run with {what}; take another --output-dir, or delete it")


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of an experiment. Raises CheckpointError where it is missing or damaged."""
    path = folder / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; train first, or correct the folder") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete {folder} and train again") from None


def read(folder: Path, spec: TaskSpec) -> LabelledDir:
    """A directory as this task needs it, with all durations known. Raises DataError."""
    found = spec.of_kind().read(folder, spec)
    return LabelledDir(found.data.with_durations(), found.labels)


def _arithmetic(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_bfloat16(int(device.startswith("cuda"))) else "float32"
