"""Decoding of Kaldi data directories with a trained CTC model, in one process and one pass."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.asr.decode_output import Transcripts, write_output
from s3router.data.kaldi import DataDir, summary, too_short
from s3router.errors import DataError
from s3router.scoring.files import trn_names

if TYPE_CHECKING:
    from torch import nn

    from s3router.asr.ctc_decode import BatchOptions, Search
    from s3router.data.tokens import TokenIds


def decode(model: nn.Module, tokens: TokenIds, data: DataDir, search: Search, options: BatchOptions) -> Transcripts:
    """Transcribe every utterance of `data`.

    Args:
        model: ESPnet ASR model with a CTC output over `tokens`; it is put into evaluation mode.
        data: durations may be missing (they are then read from the audio headers).
        search: `GreedySearch()` or a `BeamSearch`.

    Raises:
        DataError: an id that `write_output` could not write; a recording cannot be read or is too short for one frame
            (those whose length shows it, before the first is decoded).
    """
    from s3router.asr.ctc_decode import decode_many
    from s3router.data.audio import SAMPLE_RATE, read_audio
    from s3router.upstreams.anatomy import Anatomy

    started = time.perf_counter()
    utts = data.with_durations().utts
    trn_names(data.path, (utt.utt for utt in utts), {utt.utt: utt.speaker for utt in utts})  # before all the work

    least = Anatomy.of(model).receptive_field
    # The shortest are decoded last, which is late to say it. One sample is left to resampling, which may round up.
    if problems := too_short(utts, least - 1):
        raise DataError(summary(data.path, problems))

    def read(index: int):
        wave = read_audio(utts[index].source)
        if problem := too_short([replace(utts[index], duration=len(wave) / SAMPLE_RATE)], least):
            raise DataError(summary(data.path, problem))
        return wave

    model.eval()
    found = dict(decode_many(model, read, [utt.duration for utt in utts], search, options))
    order = range(len(utts))
    sure = [found[i].confidence for i in order if found[i].tokens and found[i].confidence is not None]
    return Transcripts(
        texts={utts[i].utt: tokens.decode(found[i].tokens) for i in order},
        frames={utts[i].utt: found[i].frames for i in order},
        chunked=[utts[i].utt for i in order if found[i].chunks > 1],
        audio_seconds=sum(found[i].samples for i in order) / SAMPLE_RATE,
        seconds=time.perf_counter() - started,
        confidence=sum(sure) / len(sure) if sure else None,
    )


def decode_experiment(
    exp_dir: Path,
    data_dir: Path,
    output_dir: Path,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    options: BatchOptions | None = None,
    lm: Path | None = None,
    **beam: Any,
) -> dict:
    """Load, decode, score, write; returns what ``result.json`` holds. Raises what the steps raise."""
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.asr.experiment import ASRExperiment
    from s3router.asr.search import make_search
    from s3router.training.processes import check_device

    options = options or BatchOptions()
    check_device(device)
    data, exp = DataDir.read(data_dir), ASRExperiment(exp_dir)
    search = make_search(exp.token_list, lm, **beam)
    data = data.with_durations()
    # The model comes last: building it imports ESPnet, which takes seconds.
    found = decode(exp.model(checkpoint, device), exp.tokens, data, search, options)
    extra = {"exp_dir": str(exp_dir), "checkpoint": str(checkpoint or ""), "bf16": options.bf16, "device": device}
    extra["search"] = {"beam_size": 1, **beam, "lm": str(lm or "")}
    return write_output(output_dir, data, found, exp.tokens, extra)
