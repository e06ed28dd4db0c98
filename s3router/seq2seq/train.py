"""Adapting a whole recogniser: checks, preparation, training, in one call."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from s3router.data.kaldi import summary
from s3router.errors import ConfigError
from s3router.files import write_json
from s3router.seq2seq.decode import listening_of
from s3router.seq2seq.experiment import Seq2SeqExperiment
from s3router.seq2seq.language import AUTO, choose_language
from s3router.seq2seq.methods import apply_method
from s3router.seq2seq.options import recorded
from s3router.seq2seq.utterances import Examples, digest, never_written, read_utterances, tokens_per_second
from s3router.training.arithmetic import choose_arithmetic
from s3router.training.processes import check_device
from s3router.tuners import METHODS

if TYPE_CHECKING:
    from transformers import WhisperConfig

    from s3router.upstreams.whisper_recogniser import Recogniser

logger = logging.getLogger(__name__)


def train(options: argparse.Namespace) -> None:
    """Train, or go on with what the output folder holds. With ``dry_run``, check options and data, and end.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is written, where options or data are at fault.
        TrainingError: training cannot go on.
    """
    from s3router.upstreams.whisper_recogniser import load_recogniser

    check_device(options.device)
    before, chosen = Seq2SeqExperiment.interrupted(options.output_dir), options.language == AUTO
    if before and METHODS[before.method].rate is None and METHODS[options.method].rate is None:
        before = None  # nothing has been learnt, so there is nothing to go on with
    if before and options.amp_dtype == "auto":
        options.amp_dtype = before.amp_dtype or "auto"
    if before:
        before.check_same_run({**recorded(options), **({"language": before.language} if chosen else {})})
    recogniser = load_recogniser(options.upstream, options.upstream_ckpt)
    _check_mask_lengths(options.spec_augment, recogniser.model.config)
    if before:
        before.check_upstream(recogniser.fingerprint)
    losses = None
    if options.language == AUTO:
        losses = _settle_language(options, before, recogniser)
    prompt = recogniser.prompt(options.language)
    utts, left_out = read_utterances(options.train_dir, recogniser, prompt)
    valid, too_long = read_utterances(options.valid_dir, recogniser, prompt)
    data = {"train": digest(utts), "valid": digest(valid)}
    if before:
        before.check_same_data(data)
    fingerprint = recogniser.fingerprint  # of the plain model, before anything is attached
    apply_method(recogniser.model, vars(options))
    if options.dry_run:
        print("options and transcripts are fine")
        return
    for path, problems in ((options.train_dir, left_out), (options.valid_dir, too_long)):
        if problems:
            logger.warning("left out: %s", summary(path, problems))
    if barred := never_written(recogniser, utts):
        told = ", ".join(f"{text} ({count})" for text, count in barred.items())
        logger.warning("no decoder of Whisper writes what some transcripts hold: %s; leave it out of them", told)
    if options.amp_dtype == "auto":
        config = recogniser.model.config
        options.amp_dtype = choose_arithmetic(options.device, config.d_model, config.encoder_ffn_dim)
    if not before:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        content = {
            "options": recorded(options),
            "fingerprint": fingerprint,
            "max_tokens_per_second": tokens_per_second(recogniser, utts),
            "data": data,
            **({"language_losses": losses} if losses else {}),
        }
        write_json(options.output_dir / Seq2SeqExperiment.CONFIG, content, indent=2)
    exp = Seq2SeqExperiment(options.output_dir)
    if exp.max_tokens_per_second != (rate := tokens_per_second(recogniser, utts)):
        raise ConfigError(
            f"{exp.path} holds a run on other transcripts (at most {exp.max_tokens_per_second} tokens per second, now "
            f"{rate}); take another --output_dir, or delete it"
        )
    recogniser.model.config.update({"apply_spec_augment": bool(options.spec_augment), **options.spec_augment})
    recogniser.model.to(options.device)
    if METHODS[options.method].rate is None:
        _record_untrained(exp)
        return
    from s3router.seq2seq.trainer import RecogniserTrainer

    trainer = RecogniserTrainer(
        exp,
        recogniser,
        Examples(utts, recogniser, prompt, options.window_step),
        valid[: options.max_valid_utts],
        listening_of(exp),
        options.amp_dtype,
    )
    newest = trainer.resume_from()
    if trainer.record["updates"] < options.max_updates:  # transformers would make one more update in any case
        trainer.train(resume_from_checkpoint=newest)
        trainer.pruner.end()
    best = trainer.record["best"]
    logger.info("done: best CER %.2f %% on the validation set, at update %d", 100 * best["cer"], best["update"])


def _check_mask_lengths(spec_augment: dict, config: WhisperConfig) -> None:
    """Raises ConfigError where a mask is longer than what it lies on, which would end the first update otherwise."""
    bounds = {
        "mask_feature_length": (config.num_mel_bins, "mel bins"),
        "mask_time_length": (2 * config.max_source_positions, "frames of 10 ms"),
    }
    for name, (bound, what) in bounds.items():
        if spec_augment.get(name, 0) > bound:
            raise ConfigError(f"--spec_augment {name}={spec_augment[name]}: the upstream has {bound} {what}; give less")


def _settle_language(
    options: argparse.Namespace, before: Seq2SeqExperiment | None, recogniser: Recogniser
) -> dict[str, float] | None:
    """Put a language in the place of ``auto``: that of the run that goes on, else the likeliest on dev."""
    if before:
        options.language = before.language
        return None
    if not recogniser.languages:
        raise ConfigError(f"--language auto: upstream {options.upstream} knows English only; leave it out")
    if options.dry_run:  # any will do
        options.language = recogniser.languages[0]
        return None
    valid, _ = read_utterances(options.valid_dir, recogniser, recogniser.prompt(recogniser.languages[0]))
    losses = choose_language(recogniser, valid)
    options.language = next(iter(losses))
    return losses


def _record_untrained(exp: Seq2SeqExperiment) -> None:
    """Nothing trains: the best checkpoint holds nothing, and decoding tells the error rates."""
    import torch

    from s3router.files import replacing

    with replacing(exp.best(), "wb") as file:
        torch.save({"model": {}, "best": {"update": 0}}, file)
    write_json(exp.path / exp.VALIDATED, {"best": {"update": 0}, "curve": [], "updates": 0, "seconds": 0.0})
    logger.info("nothing trains: the recogniser is taken as it was published")
