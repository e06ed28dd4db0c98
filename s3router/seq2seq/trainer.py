"""transformers' Seq2SeqTrainer with our parameter groups, validation as in decoding, and checkpoints of what trains."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from s3router.errors import TrainingError
from s3router.files import replacing, write_json
from s3router.prune.pruner import Pruner
from s3router.scoring.error_counts import ErrorCounts
from s3router.seq2seq.decode import Listening, listen
from s3router.seq2seq.utterances import WindowSampler
from s3router.training.checkpoints import read_states
from s3router.training.parameters import learning_rates, load_trained, param_groups, trained_state
from s3router.training.progress import Progress, announce

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3router.data.kaldi import Utterance
    from s3router.seq2seq.experiment import Seq2SeqExperiment
    from s3router.seq2seq.utterances import Examples
    from s3router.upstreams.whisper_recogniser import Recogniser

logger = logging.getLogger(__name__)

WEIGHTS = "trained.pth"
"""What a checkpoint of the trainer holds of the model."""


def arguments(exp: Seq2SeqExperiment) -> Seq2SeqTrainingArguments:
    """The trainer's arguments for an experiment's options."""
    options = exp.options
    made = Seq2SeqTrainingArguments(
        output_dir=str(exp.path / exp.CHECKPOINTS),
        max_steps=options["max_updates"],
        per_device_train_batch_size=options["batch_size"],
        gradient_accumulation_steps=options["accum_grad"],
        warmup_steps=round(options["warmup"] * options["max_updates"]),
        lr_scheduler_type="linear",
        max_grad_norm=options["grad_clip"],
        eval_strategy="steps",
        eval_steps=options["valid_interval"],
        save_strategy="steps",
        save_steps=options["valid_interval"],
        save_total_limit=1,
        logging_strategy="steps",
        logging_steps=options["progress_interval"],
        logging_nan_inf_filter=False,
        seed=options["seed"],
        use_cpu=options["device"] == "cpu",
        remove_unused_columns=False,
        report_to=["tensorboard"],
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
    )
    # with several GPUs in sight the trainer would copy the model to each, and give each a whole batch
    made._n_gpu = min(made.n_gpu, 1)
    return made


class RecogniserTrainer(Seq2SeqTrainer):
    """Trains what requires gradients in a recogniser, and validates by decoding.

    Args:
        exp: the experiment, whose folder is written to.
        recogniser: with its method applied (`s3router.seq2seq.methods`).
        examples: to train on.
        valid: utterances to validate on.
        how: how they are decoded: as they will be afterwards.
        amp_dtype: ``bfloat16`` runs training, and training alone, under autocast.
    """

    def __init__(
        self,
        exp: Seq2SeqExperiment,
        recogniser: Recogniser,
        examples: Examples,
        valid: list[Utterance],
        how: Listening,
        amp_dtype: str,
    ):
        self.exp, self.recogniser, self.valid, self.how, self.amp_dtype = exp, recogniser, valid, how, amp_dtype
        self.examples = examples
        options = exp.options
        groups = param_groups(recogniser.model, learning_rates(options["method"], options))
        for group in groups:
            count = sum(p.numel() for p in group["params"])
            logger.info("%s: %s parameters train at a peak rate of %g", group["name"], f"{count:,}", group["lr"])
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0, fused=True)
        self.record: dict[str, Any] = {"best": None, "curve": [], "updates": 0, "seconds": 0.0}
        self.told = _Told(self, options["progress_interval"])
        self.pruner = Pruner(recogniser.model, options["max_updates"])
        super().__init__(
            model=recogniser.model,
            args=arguments(exp),
            train_dataset=examples,
            eval_dataset=valid,
            data_collator=examples.batch,
            optimizers=(optimizer, None),
            callbacks=[self.told],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # the loss is the mean of each batch

    def resume_from(self) -> str | None:
        """The newest whole checkpoint; what was recorded up to it is taken up again."""
        found = self.exp.checkpoints()
        if not found:
            return None
        update = int(found[-1].name.rpartition("-")[2])
        record = self.exp.validated
        curve = [point for point in record["curve"] if point["update"] <= update]
        best = min(curve, key=lambda point: point["cer"], default=None)
        seconds = curve[-1]["seconds"] if curve else 0.0
        self.record = {"best": best, "curve": curve, "updates": update, "seconds": seconds}
        return str(found[-1])

    def _get_train_sampler(self, train_dataset=None):
        options = self.exp.options
        return WindowSampler(self.examples.windows, options["batch_size"], options["seed"])

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        bf16 = self.amp_dtype == "bfloat16"
        device = inputs["input_features"].device.type
        with torch.autocast(device, torch.bfloat16) if bf16 else contextlib.nullcontext():
            outputs = model(**inputs)
        loss = outputs.loss.float()
        self.told.heard(loss.detach().mean().item())
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval", **_) -> dict[str, float]:
        """CER and WER of the validation set, decoded in float32 as it will be later; the best model is kept."""
        self.model.eval()
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():  # of the last update, whose loss was finite
                raise TrainingError(f"update {self.state.global_step}: {name} is not finite; lower the learning rates")
        errors, update = ErrorCounts(), self.state.global_step
        for index, heard in listen(self.recogniser, self.valid, self.how):
            errors.add(heard.text, " ".join(self.valid[index].text.split()))
        losses = self.told.since_validation()
        point = {
            "update": update,
            "loss": sum(losses) / len(losses) if losses else math.nan,
            "cer": errors.cer,
            "wer": errors.wer,
            "seconds": round(self.told.seconds(), 1),
        }
        announce(self.told.progress, point["loss"], errors)
        self._keep(point)
        metrics = {f"{metric_key_prefix}_{name}": point[name] for name in ("cer", "wer")}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _keep(self, point: Mapping[str, Any]) -> None:
        """The model goes first: a kill in between leaves an old record, which finds and writes it again."""
        best = self.record["best"]
        self.record["curve"].append(dict(point))
        self.record |= {"updates": point["update"], "seconds": point["seconds"]}
        if best is None or point["cer"] < best["cer"]:
            self.record["best"] = dict(point)
            with replacing(self.exp.best(), "wb") as file:
                torch.save({"model": trained_state(self.model), "best": self.record["best"]}, file)
        write_json(self.exp.path / self.exp.VALIDATED, self.record)

    def _save(self, output_dir=None, state_dict=None) -> None:
        """What trains; the rest is the upstream's own file."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS, "wb") as file:
            torch.save(trained_state(self.model), file)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        path = Path(resume_from_checkpoint) / WEIGHTS
        load_trained(model or self.model, read_states(path), path)


class _Told(TrainerCallback):
    """Progress lines on the screen, losses since the last validation, and the time that training took."""

    def __init__(self, trainer: RecogniserTrainer, interval: int):
        self.trainer, self.interval = trainer, interval
        self.losses: list[float] = []
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Wall time of training, validation included, over all runs of the experiment."""
        return self.before + time.monotonic() - self.started

    def since_validation(self) -> list[float]:
        """Losses of the batches since the last call."""
        losses, self.losses = self.losses, []
        return losses

    def heard(self, loss: float) -> None:
        """Note the loss of a batch. Raises TrainingError where it is not finite: the model is not worth keeping."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"update {self.trainer.state.global_step + 1}: the loss is {loss}; lower the learning rates, or look "
                f"for bad recordings"
            )
        self.losses.append(loss)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        record = self.trainer.record
        self.before, self.started = record["seconds"], time.monotonic()
        self.progress = Progress(args.max_steps, self.interval, state.global_step)
        if best := record["best"]:
            self.progress.best = best["cer"], best["update"]
        self.trainer.pruner.begin(state.global_step)
        if state.global_step:
            logger.info("resuming at update %d of %d", state.global_step, args.max_steps)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.progress.update = state.global_step
        self.trainer.pruner.after(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None:
            logger.info(self.progress.line(loss))
