"""The experiment folder of a whole recogniser."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import DataError
from s3router.files import read_json
from s3router.seq2seq.options import read_recorded
from s3router.training.experiment import Experiment, TrainedParts, as_json
from s3router.training.parameters import load_trained
from s3router.training.resume import COMMON
from s3router.tuners.methods import without_start

if TYPE_CHECKING:
    from s3router.upstreams.whisper_recogniser import Recogniser, WhisperRecogniser

KIND = "seq2seq"
"""``kind`` among a pack's preprocessing, and its ``task``."""
_RECORDED = ("method_conf", "max_updates", "batch_size", "accum_grad", "seed", "language")


def _whole(path: Path) -> bool:
    try:
        read_json(path, "")
    except DataError:
        return False
    return True


class Seq2SeqExperiment(Experiment):
    """What ``s3router seq2seq-train`` leaves: ``seq2seq.json``, ``best.pth`` and its figures in ``validated.json``."""

    CONFIG = "seq2seq.json"
    REQUIRED = frozenset({"options", "fingerprint", "max_tokens_per_second"})
    WRITER = "s3router seq2seq-train"
    BEST = "best.pth"
    VALIDATED = "validated.json"
    CHECKPOINTS = "checkpoints"
    RESULTS = "decode_"
    FIGURES = ("wer", "cer", "cer_plain", "confidence", "n_utts")
    DECISIVE = (
        *COMMON,
        *(
            "language",
            "text_language",
            "normalize",
            "method_conf",
            "spec_augment",
            "batch_size",
            "warmup",
            "window_step",
        ),
        *("score_lr", "weight_lr", "adapter_lr", "max_valid_utts"),
    )

    @classmethod
    def interrupted(cls, path: str | os.PathLike) -> Self | None:
        """As of other experiments; there are several checkpoints, in a folder, and none where nothing trains."""
        there = Path(path) / cls.CHECKPOINTS
        begun = (Path(path) / cls.BEST).is_file() or (there.is_dir() and any(there.iterdir()))
        return cls(path) if cls.is_in(path) and begun else None

    @cached_property
    def options(self) -> Mapping[str, Any]:
        return read_recorded(self.config["options"])

    @property
    def task(self) -> str:
        return KIND

    @property
    def fingerprint(self) -> str | None:
        return self.config["fingerprint"]

    @property
    def language(self) -> str | None:
        """Code of the language token."""
        return self.options["language"]

    @property
    def max_tokens_per_second(self) -> float:
        """See `s3router.seq2seq.generate.token_limit`."""
        return self.config["max_tokens_per_second"]

    @property
    def validated(self) -> dict[str, Any]:
        """``best`` (its figures and update), ``curve``, ``updates`` done and ``seconds`` of training.

        Raises:
            DataError: training has not got that far, or the file is damaged.
        """
        return read_json(self.path / self.VALIDATED, "train this run to its end first")

    def check_same_data(self, now: Mapping[str, str]) -> None:
        """Refuse to go on with other data; a run of an older version, which did not record its own, takes any.

        Args:
            now: ``train`` and ``valid`` -> `s3router.seq2seq.utterances.digest`.

        Raises:
            DataError: names the folders whose utterances, transcripts or lengths differ.
        """
        before = self.config.get("data", {})
        if other := [str(self.options[f"{name}_dir"]) for name in now if before.get(name, now[name]) != now[name]]:
            raise DataError(
                f"{', '.join(other)}: utterances, transcripts or lengths of recordings are not those of the run in "
                f"{self.path}, which is to go on; bring the old data back, or take another --output_dir"
            )

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints to resume from, the newest last. The trainer writes its state last of all, in place."""
        states = (self.path / self.CHECKPOINTS).glob("checkpoint-*/trainer_state.json")
        return sorted(
            (path.parent for path in states if _whole(path)), key=lambda path: int(path.name.rpartition("-")[2])
        )

    def recogniser(self, checkpoint: str | os.PathLike | None = None, device: str = "cpu") -> Recogniser:
        """The trained recogniser in evaluation mode, with its masks or additions attached; as `Experiment.model`."""
        from s3router.seq2seq.methods import apply_method
        from s3router.upstreams.whisper_recogniser import load_recogniser

        state = self.state(checkpoint)
        recogniser = load_recogniser(self.upstream, self.upstream_ckpt)
        self.check_upstream(recogniser.fingerprint)
        apply_method(recogniser.model, {**self.options, "mask_conf": without_start(self.options.get("mask_conf"))})
        load_trained(recogniser.model, state, self.checkpoint(checkpoint))
        recogniser.model.to(device).eval()
        return recogniser

    def model(
        self, checkpoint: str | os.PathLike | None = None, device: str = "cpu", amp_dtype: str = "float32"
    ) -> WhisperRecogniser:
        return self.recogniser(checkpoint, device).model

    def parts(self, checkpoint: str | os.PathLike | None = None) -> TrainedParts:
        from s3router.seq2seq.methods import mask_config
        from s3router.tuners import METHODS, used_rates
        from s3router.tuners.learnt import learnt
        from s3router.upstreams.whisper_recogniser import load_recogniser

        model = self.model(checkpoint)
        found = learnt(model)
        if found.delta or found.adapter:  # the trained one is not the plain one now
            model = load_recogniser(self.upstream, self.upstream_ckpt).model
        options = self.options
        mask = mask_config(options, self.seed).to_dict() if METHODS[self.method].masks else {}
        recorded = ("method", *used_rates(self.method, head=False), *_RECORDED)
        return TrainedParts(
            backbone=model,
            masks=found.masks,
            delta=found.delta,
            adapter=found.adapter,
            adapter_meta=found.meta,
            featurizer={},
            head={},
            tokens=None,
            labels=None,
            preprocessing={
                "kind": KIND,
                "sample_rate": SAMPLE_RATE,
                "language": self.language,
                "max_tokens_per_second": self.max_tokens_per_second,
                "normalize": options["normalize"],
                "text_language": options["text_language"],
                "window_step": options["window_step"],
            },
            mask=as_json(mask),
            training={"task": KIND}
            | {n: as_json(options[n]) for n in recorded if options.get(n) not in (None, "", {})},
            corpus="/".join(Path(options["train_dir"]).parts[-2:]),
        )
