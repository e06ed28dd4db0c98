"""ESPnet's trainer with files that survive a kill, progress on the screen, and whole-set validation figures."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

import torch
from espnet2.train.trainer import Trainer, TrainerOptions

from s3router.asr.experiment import ASRExperiment
from s3router.errors import CheckpointError, S3RouterError
from s3router.scoring.error_counts import ErrorCounts
from s3router.training.checkpoints import atomic_saves, read_states, repair
from s3router.training.progress import Progress, announce

logger = logging.getLogger(__name__)


class TrainingError(S3RouterError):
    """Training cannot go on."""


@dataclasses.dataclass
class RoutedTrainerOptions(TrainerOptions):
    """ESPnet's options and ours."""

    max_updates: int
    valid_interval: int
    progress_interval: int
    head_updates: int


class RoutedTrainer(Trainer):
    """Saves atomically, resumes exactly.

    ESPnet seeds every random generator and the batch order anew for each epoch, so a run that was killed repeats the
    epoch it was in (``--valid_interval`` updates at most) with the same numbers, and ends as if nothing had happened.
    """

    @classmethod
    def build_options(cls, args) -> RoutedTrainerOptions:
        """From the parsed command line."""
        names = [field.name for field in dataclasses.fields(RoutedTrainerOptions)]
        return RoutedTrainerOptions(**{name: getattr(args, name) for name in names})

    @classmethod
    def run(cls, model, *, trainer_options: RoutedTrainerOptions, distributed_option, **kwargs) -> None:
        """Train to the end, from ``checkpoint.pth`` where there is one."""
        output_dir = Path(trainer_options.output_dir)
        main_process = not distributed_option.distributed or distributed_option.dist_rank == 0
        if main_process:
            repair(output_dir, trainer_options.best_model_criterion)
        before = ASRExperiment.interrupted(output_dir) if trainer_options.resume else None
        done, best = before.so_far() if before else (0, None)
        progress = Progress(
            trainer_options.max_updates, trainer_options.accum_grad, trainer_options.progress_interval, done
        )
        progress.best = best
        progress.rate = "PER" if getattr(model, "module", model).tokens.token_type == "phn" else "CER"
        if done:
            logger.info("resuming at update %d of %d", done, trainer_options.max_updates)
        trainer_options.progress = progress
        with atomic_saves():
            super().run(model=model, trainer_options=trainer_options, distributed_option=distributed_option, **kwargs)
        if main_process and progress.best:
            error, update = progress.best
            logger.info("done: best %s %.2f %% on the validation set, at update %d", progress.rate, 100 * error, update)

    @staticmethod
    def resume(checkpoint, model, reporter, optimizers, schedulers, scaler, ngpu=0, strict=True) -> None:
        """Load ``checkpoint`` into everything given; the file may hold tensors and plain values only.

        Raises:
            CheckpointError: damaged, or of another model.
        """
        states = read_states(checkpoint, f"cuda:{torch.cuda.current_device()}" if ngpu > 0 else "cpu")
        try:
            model.load_state_dict(states["model"], strict=strict)
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint}: {error}, or another --output_dir") from error
        reporter.load_state_dict(states["reporter"])
        for optimizer, state in zip(optimizers, states["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for scheduler, state in zip(schedulers, states["schedulers"], strict=True):
            if scheduler is not None:
                scheduler.load_state_dict(state)

    @classmethod
    def train_one_epoch(cls, *, model, iterator, reporter, options, **kwargs) -> bool:
        """As ESPnet's, with progress lines; at first the head alone (wav2vec 2.0, arXiv 2006.11477, section 4.3).

        Raises:
            TrainingError: no gradient was finite. ESPnet would end the run as if it had succeeded.
        """

        def mean_loss(batches: int) -> float:
            values = [v.value for v in reporter.stats.get("loss", [])[-batches:] if math.isfinite(v.value)]
            return sum(values) / len(values) if values else math.nan

        def hold(done: int) -> None:
            getattr(model, "module", model).hold_upstream(done < options.head_updates)
            if 0 < done == options.head_updates:
                logger.info("update %d: so far the head trained alone; now the rest joins it", done)

        tracked = options.progress.track(iterator, mean_loss, hold)
        if super().train_one_epoch(model=model, iterator=tracked, reporter=reporter, options=options, **kwargs):
            raise TrainingError(
                f"update {options.progress.update}: not one gradient since the last validation was a finite number; "
                f"lower the learning rates, or look in train.log for the utterances with such a loss"
            )
        return False

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
