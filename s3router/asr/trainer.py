"""ESPnet's trainer, with files that survive a kill, progress lines, and error rates of the whole validation set."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from espnet2.train.trainer import Trainer, TrainerOptions

from s3router.asr.experiment import ASRExperiment
from s3router.asr.model import RoutedCTCModel
from s3router.errors import TrainingError
from s3router.masks.flips import Flips
from s3router.prune.pruner import Pruner
from s3router.scoring.error_counts import ErrorCounts
from s3router.training.checkpoints import Workspace, read_states, repair
from s3router.training.parameters import load_trained
from s3router.training.progress import Progress, announce

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class RoutedTrainerOptions(TrainerOptions):
    """ESPnet's options and ours; those with a default are set by `RoutedTrainer.run`."""

    max_updates: int
    valid_interval: int
    progress_interval: int
    head_updates: int
    progress: Progress | None = None
    workspace: Workspace | None = None
    pruner: Pruner | None = None


class RoutedTrainer(Trainer):
    """Saves atomically, resumes exactly.

    ESPnet seeds every random generator and the batch order anew for each epoch, so a run that was killed repeats the
    epoch it was in (``--valid_interval`` updates at most) with the same numbers, and ends as if nothing had happened.
    """

    @classmethod
    def build_options(cls, args) -> RoutedTrainerOptions:
        """From the parsed command line."""
        fields = dataclasses.fields(RoutedTrainerOptions)
        names = [field.name for field in fields if field.default is dataclasses.MISSING]
        return RoutedTrainerOptions(**{name: getattr(args, name) for name in names})

    @classmethod
    def run(cls, model, *, trainer_options: RoutedTrainerOptions, distributed_option, **kwargs) -> None:
        """Train to the end, from ``checkpoint.pth`` where there is one."""
        options, home = trainer_options, Path(trainer_options.output_dir)
        main_process = not distributed_option.distributed or distributed_option.dist_rank == 0
        if main_process:
            repair(home, options.best_model_criterion)
        before = ASRExperiment.interrupted(home) if options.resume else None
        done, best = before.so_far() if before else (0, None)
        options.progress = progress = Progress(options.max_updates, options.progress_interval, done)
        progress.best = best
        options.pruner = Pruner(model, options.max_updates, options.head_updates)
        progress.rate = "PER" if getattr(model, "module", model).tokens.token_type == "phn" else "CER"
        if done:
            logger.info("resuming at update %d of %d", done, options.max_updates)
        if main_process:  # the others only read
            options.workspace = Workspace(home)
            options.workspace.open(options.resume)
            options.output_dir = options.workspace.path
        try:
            super().run(model=model, trainer_options=options, distributed_option=distributed_option, **kwargs)
            options.pruner.end()
            if main_process:
                options.workspace.publish()
        except KeyboardInterrupt:
            logger.warning(
                "interrupted at update %d; the same command goes on from the last validation", progress.update
            )
            raise
        finally:
            if main_process:
                options.workspace.close()
        if main_process and progress.best:
            error, update = progress.best
            logger.info("done: best %s %.2f %% on the validation set, at update %d", progress.rate, 100 * error, update)

    @staticmethod
    def resume(checkpoint, model, reporter, optimizers, schedulers, scaler, ngpu=0, strict=True) -> None:
        """Load ``checkpoint`` into everything given; the file may hold tensors and plain values only.

        Raises:
            CheckpointError: damaged, or of another model.
        """
        checkpoint = Path(checkpoint)
        states = read_states(checkpoint, f"cuda:{torch.cuda.current_device()}" if ngpu > 0 else "cpu")
        load_trained(model, states["model"], checkpoint)
        if checkpoint.is_symlink():  # in the workspace, where ESPnet will write another
            checkpoint.unlink()
        reporter.load_state_dict(states["reporter"])
        for optimizer, state in zip(optimizers, states["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for scheduler, state in zip(schedulers, states["schedulers"], strict=True):
            if scheduler is not None:
                scheduler.load_state_dict(state)

    @classmethod
    def train_one_epoch(cls, *, model, iterator, reporter, options, **kwargs) -> bool:
        """As ESPnet's, up to the last update of the run; at first the head may train alone.

        The head's start of its own is wav2vec 2.0's (arXiv 2006.11477, section 4.3).

        Raises:
            TrainingError: no gradient was finite. ESPnet would end the run as if it had succeeded.
        """
        if options.workspace:
            options.workspace.publish()  # what ESPnet has saved since
        counted = cls._counted(iterator, getattr(model, "module", model), reporter, options)
        if super().train_one_epoch(model=model, iterator=counted, reporter=reporter, options=options, **kwargs):
            raise TrainingError(
                f"update {options.progress.update}: not one gradient since the last validation was a finite number; "
                f"lower the learning rates, or look in train.log for the utterances with such a loss"
            )
        return False

    @staticmethod
    def _counted(batches: Iterable, model: RoutedCTCModel, reporter, options: RoutedTrainerOptions) -> Iterator:
        """The batches of an epoch, up to the last update of the run.

        Before an update it is settled whether the head trains alone; after it, weights are pruned and progress is told.
        At the end the shares of mask entries that have changed sides are registered, for TensorBoard and ``train.log``:
        ``flips`` since the last validation, ``flips_per_update`` in the last update.
        """
        progress = options.progress
        options.pruner.begin(progress.update)  # only now, when a checkpoint has been loaded

        def mean_loss(updates: int) -> float:
            values = [v.value for v in reporter.stats.get("loss", [])[-updates * options.accum_grad :]]
            finite = [value for value in values if math.isfinite(value)]
            return sum(finite) / len(finite) if finite else math.nan

        left = (options.max_updates - progress.update) * options.accum_grad
        flips = Flips(model)
        one = Flips(model) if flips else flips  # of the last update alone
        last = min(left, options.valid_interval * options.accum_grad) - options.accum_grad
        for number, batch in enumerate(itertools.islice(batches, left), 1):
            if number == last + 1:
                one.restart()
            if number % options.accum_grad == 1 % options.accum_grad:
                model.hold_upstream(progress.update < options.head_updates)
                if 0 < progress.update == options.head_updates:
                    logger.info("update %d: so far the head trained alone; now the rest joins it", progress.update)
            yield batch
            # ESPnet is back for the next batch: it is done with this one
            if number % options.accum_grad == 0:
                options.pruner.after(progress.update + 1)
                progress.step(mean_loss)
        if flips:
            reporter.register({"flips": flips.share(), "flips_per_update": one.share()}, weight=1)
            reporter.next()

    @classmethod
    def validate_one_epoch(cls, *, model, reporter, options, distributed_option, **kwargs) -> None:
        """As ESPnet's, but computed as in decoding; then CER (of phones: PER) and WER of the whole set.

        They are registered as ``cer_ctc`` and ``wer_ctc``.
        """
        bare = getattr(model, "module", model)
        bare.errors = ErrorCounts()
        with bare.exactly():
            super().validate_one_epoch(
                model=model, reporter=reporter, options=options, distributed_option=distributed_option, **kwargs
            )
        errors = bare.errors
        if distributed_option.distributed:
            sums = torch.tensor(errors.as_list(), device="cuda" if options.ngpu > 0 else "cpu")
            torch.distributed.all_reduce(sums)
            errors = ErrorCounts(*sums.tolist())
        losses = [(v.value, v.weight) for v in reporter.stats["loss"] if math.isfinite(v.value)]
        loss = sum(v * w for v, w in losses) / max(1, sum(w for _, w in losses))
        reporter.register({"cer_ctc": errors.cer, "wer_ctc": errors.wer}, weight=1)
        reporter.next()
        announce(options.progress, loss, errors)
