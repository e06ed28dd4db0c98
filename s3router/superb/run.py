"""One training run of a task: preparation, updates, validations, checkpoints.

s3prl's own loop is not used: it writes checkpoints in place (a kill leaves half of one), saves the whole upstream with
them, begins an epoch anew when it resumes, and trains several processes on GPUs only. Everything that decides a result
(head, loss, sampler, optimizer, settings) is s3prl's.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from s3router.data.audio import SAMPLE_RATE, file_stamp
from s3router.errors import TrainingError
from s3router.files import clean_unfinished, replacing, write_json
from s3router.prune.pruner import Pruner
from s3router.superb.batches import TrainingBatches, in_order, to_device
from s3router.superb.evaluate import evaluate
from s3router.superb.experiment import TaskExperiment
from s3router.superb.kind import Kind, Settings
from s3router.superb.labels import LabelledDir
from s3router.superb.model import build_task
from s3router.superb.options import extra_conf, pools_ahead, recorded, weight_rate
from s3router.superb.pooled import pooled
from s3router.superb.tasks import task
from s3router.training.arithmetic import choose_arithmetic
from s3router.training.checkpoints import CHECKPOINT, read_states
from s3router.training.parameters import load_trained, param_groups, trained_state
from s3router.training.progress import Progress
from s3router.tuners.methods import METHODS
from s3router.upstreams.public import widths
from s3router.upstreams.s3prl_engine import problem

logger = logging.getLogger(__name__)

MAX_SKIPPED = 100  # steps without a finite gradient before training gives up


@dataclass(frozen=True)
class Sets:
    """The directories of a run, and the classes or units of its task.

    Attributes:
        train, valid: what it trains and is validated on.
        tests: what it will predict; checked with the others, so that a mistake there shows before training.
        classes: of each slot.
    """

    train: LabelledDir
    valid: LabelledDir
    tests: list[LabelledDir]
    classes: list[list[str]]

    @classmethod
    def read(cls, kind: Kind, options: argparse.Namespace) -> Sets:
        """Read and check them. Raises DataError."""
        train, valid, *tests = map(kind.read, (options.train_dir, options.valid_dir, *options.test_dirs))
        sets = cls(train, valid, tests, kind.inventory(train, options.classes))
        sets.check(kind)
        return sets

    @property
    def digest(self) -> str:
        """Hash of the labels that training and validation use."""
        labels = (self.train.labels, self.valid.labels, getattr(self.valid, "trials", ()))
        return hashlib.blake2b(repr(labels).encode(), digest_size=16).hexdigest()

    @property
    def audio(self) -> str:
        """Hash of the recordings' lengths and sizes; where they lie may change."""
        utts = [*self.train.data.utts, *self.valid.data.utts]
        sizes = [(u.utt, round(u.duration * SAMPLE_RATE), (file_stamp(u.source) or (None,))[0]) for u in utts]
        return hashlib.blake2b(repr(sizes).encode(), digest_size=16).hexdigest()

    def check(self, kind: Kind, receptive_field: int = 1) -> None:
        """Refuse what cannot be trained or scored; also what is too short, once the upstream is known."""
        kind.check(self.train, [self.valid, *self.tests], self.classes, receptive_field)


class Run:
    """A run in the memory of one process; `prepare` makes it.

    Args:
        options: as `s3router.superb.options.complete` leaves them.
        kind: the task.
        settings: its settings.
        sets: the directories.
        task: s3prl's Task with the model in it, on its device.
        place: (rank, number of processes, device).

    Attributes:
        update: updates done.
        best: update, loss and metrics of the best validation so far.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        kind: Kind,
        settings: Settings,
        sets: Sets,
        task: nn.Module,
        place: tuple[int, int, str] = (0, 1, "cpu"),
    ):
        self.options, self.kind, self.sets, self.task = options, kind, sets, task
        self.rank, self.world, self.device = place
        self.folder = Path(options.output_dir)
        if self.rank == 0:
            clean_unfinished(self.folder)
        self.update, self.skipped = 0, 0
        self.pruner = Pruner(task.model, options.max_updates)
        self.best: dict[str, Any] | None = None

        lrs = {"head": options.lr, "scores": options.upstream_lr, "weights": weight_rate(options)}
        conf = {"name": settings.optimizer, "conf": {}}
        self.optimizer = problem(kind.problem).build_optimizer(conf, param_groups(task.model, lrs))
        clips = kind.clips(sets.train, task.encoder, settings, options.max_seconds, options.seed)
        self.clips = kind.clips(sets.valid, task.encoder, settings)
        if pools_ahead(options):
            kept = None if options.feature_cache is None else Path(options.feature_cache)
            clips, self.clips = (
                pooled(task.model, c, options.batch_size, kept, self.rank, self.world) for c in (clips, self.clips)
            )
        sampler = kind.sampler(clips, options.batch_size, settings, options.seed)
        self.batches = TrainingBatches(clips, sampler, self.rank, self.world, options.num_workers)

    @classmethod
    def prepare(
        cls, options: argparse.Namespace, settings: Settings, rank: int = 0, world: int = 1, device: str = "cpu"
    ) -> Run:
        """Check everything, build the model, and take up an interrupted run or begin one.

        Raises:
            ConfigError, DataError, CheckpointError: before anything is written, where the command is at fault.
        """
        kind = task(options.task)
        before = TaskExperiment.interrupted(options.output_dir)
        if options.amp_dtype == "auto":  # a resumed run keeps what was chosen when it began
            kept = None if before is None else before.amp_dtype
            options.amp_dtype = kept or choose_arithmetic(device, *widths(options.upstream, options.upstream_ckpt))
        if before is not None:
            before.check_same_run(vars(options))
        sets = Sets.read(kind, options)
        torch.manual_seed(options.seed)
        built = build_task(
            *(kind, settings, sets.classes, options.method, extra_conf(options)),
            *(options.upstream_ckpt, options.amp_dtype == "bfloat16"),
        )
        sets.check(kind, built.model.receptive_field)
        if before is not None:
            before.check_same_sets(sets.classes, sets.digest, sets.audio)
            before.check_upstream(built.model.routed.backbone_fingerprint)
        run = cls(options, kind, settings, sets, built.to(device), (rank, world, device))
        run.resume() if before is not None else run.begin(settings)
        return run

    def begin(self, settings: Settings) -> None:
        """Write ``config.json``."""
        if self.rank == 0:
            config = {
                "options": recorded(self.options),
                "settings": asdict(settings),
                "classes": self.sets.classes,
                "labels": self.sets.digest,
                "audio": self.sets.audio,
                "fingerprint": self.task.model.routed.backbone_fingerprint,
            }
            write_json(self.folder / TaskExperiment.CONFIG, config)

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        path = self.folder / CHECKPOINT
        states = read_states(path, self.device)
        load_trained(self.task.model, states["model"], path)
        self.optimizer.load_state_dict(states["optimizer"])
        self.update, self.best = states["update"], states["best"]
        logger.info("resuming at update %d of %d", self.update, self.options.max_updates)

    def train(self) -> None:
        """Train to the end; the best checkpoint on the validation set is in ``best.pth``."""
        options = self.options
        progress = Progress(options.max_updates, interval=options.progress_interval, done=self.update)
        for group in self.optimizer.param_groups:
            count = sum(p.numel() for p in group["params"])
            logger.info("%s: %s parameters train at a learning rate of %g", group["name"], f"{count:,}", group["lr"])
        parallel = self.task
        if self.world > 1:
            in_turn = METHODS[options.method].prunes or bool(options.mask_conf.get("gradient_rest"))
            parallel = nn.parallel.DistributedDataParallel(self.task, find_unused_parameters=in_turn)
        self.pruner.begin(self.update)
        stream = self.batches.starting_at(self.update * options.accum_grad)
        recent: list[float] = []
        with self._board() as board:
            while self.update < options.max_updates:
                loss = self._step(parallel, list(itertools.islice(stream, options.accum_grad)))
                recent.append(loss)
                self.update = progress.update = self.update + 1
                self.pruner.after(self.update)
                if self.update % options.progress_interval == 0 or self.update == options.max_updates:
                    mean = sum(recent) / len(recent)
                    logger.info(progress.line(mean))
                    board("train/loss", mean, self.update)
                    recent = []
                if self.update % options.valid_interval == 0 or self.update == options.max_updates:
                    self._validate(board)
                elif self.update % options.save_interval == 0:
                    self._save()
        self.pruner.end()
        logger.info(
            "done: best %s %.2f %% on the validation set, at update %d",
            *(self.kind.metric.replace("_", " "), 100 * self.best[self.kind.metric], self.best["update"]),
        )

    def _step(self, parallel: nn.Module, batches: list[tuple[dict, float]]) -> float:
        """One optimizer step; returns the mean loss of this process's batches."""
        seed = step_seed(self.options.seed, self.update, self.rank, self.world)
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
        norm = torch.nn.utils.clip_grad_norm_(trained, self.options.grad_clip)
        if math.isfinite(norm):
            self.optimizer.step()
        else:
            self.skipped += 1
            logger.warning("update %d: the gradient is not finite; step skipped", self.update + 1)
            if self.skipped > MAX_SKIPPED:
                raise TrainingError(
                    f"update {self.update + 1}: over {MAX_SKIPPED} gradients were not finite; lower the learning rates"
                )
        self.optimizer.zero_grad(set_to_none=True)
        return total / len(batches)

    def _validate(self, board) -> None:
        loader = in_order(self.clips, self.options.batch_size, self.rank, self.world, self.options.num_workers)
        found = evaluate(self.kind, self.task, loader, self.sets.valid, self.device)
        metrics = {name: value for name, value in found.metrics.items() if isinstance(value, float)}
        better = self.best is None or self.kind.quality(metrics) > self.kind.quality(self.best)
        if better:
            self.best = {"update": self.update, "loss": found.loss, **metrics}
        name = self.kind.metric
        note = "best so far" if better else f"best {100 * self.best[name]:.2f} % at {self.best['update']}"
        logger.info(
            "update %d validated: loss %.3g  %s %.2f %%  (%s)",
            *(self.update, found.loss, name.replace("_", " "), 100 * metrics[name], note),
        )
        for name, value in {"loss": found.loss, **metrics}.items():
            board(f"valid/{name}", value, self.update)
        self._save(better)

    def _save(self, best: bool = False) -> None:
        """The best model goes first: a kill in between leaves an old checkpoint, which finds and writes it again."""
        if self.rank != 0:
            return
        model = trained_state(self.task.model)
        if best:
            with replacing(self.folder / TaskExperiment.BEST, "wb") as file:
                torch.save({"model": model, "best": self.best}, file)
            write_json(self.folder / TaskExperiment.RESULT, self.best)
        states = {"model": model, "optimizer": self.optimizer.state_dict(), "update": self.update, "best": self.best}
        with replacing(self.folder / CHECKPOINT, "wb") as file:
            torch.save(states, file)

    @contextlib.contextmanager
    def _board(self):
        """A function (name, value, update) that writes for tensorboard; on the first process only."""
        if self.rank != 0:
            yield lambda *_: None
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.update + 1) as writer:
            yield writer.add_scalar


def step_seed(seed: int, update: int, rank: int = 0, world: int = 1) -> int:
    """The seed of an update in one process.

    Each update has its own, so that a resumed run draws the same dropout as one that was never stopped; and each rank,
    so that processes which train together draw different dropout.
    """
    return (seed * 1_000_003 + update) * world + rank
