"""The tasks of SUPERB, and ``cls`` for any corpus: which kind each is of, and which s3prl problem it takes."""

from __future__ import annotations

from s3router.errors import ConfigError
from s3router.superb.classification import Classification
from s3router.superb.diarization import Diarization
from s3router.superb.kind import Kind
from s3router.superb.sequences import LETTERS, PHONEMES, SLOTS, Sequences
from s3router.superb.verification import Verification

TASKS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Classification("ks", "SuperbKS", metric="balanced_accuracy", balanced=True, folder="ks_public"),
        Classification(
            *("ic", "SuperbIC"),
            slots=("action", "object", "location"),
            folder="ic_public",
            file="predict.csv",
            separator=",",
        ),
        Classification("sid", "SuperbSID", folder="sid_public"),
        Classification("er", "SuperbER", folder="er_fold{fold}_public"),
        Sequences("pr", "SuperbPR", metric="per", lower_is_better=True, units=PHONEMES, folder="pr_public"),
        Sequences(
            *("asr", "SuperbASR"),
            metric="wer",
            lower_is_better=True,
            units=LETTERS,
            batches="SortedBucketingSampler",
            folder="asr_public",
        ),
        Sequences("sf", "SuperbSF", metric="slot_type_f1", units=SLOTS, folder="sf_public"),
        # s3prl does not validate verification; it saves at this interval, and takes what is best on the test set.
        Verification("sv", "SuperbASV", changes={"valid_interval": 10_000}, folder="sv_public"),
        # 40 s: s3prl's 2,000 frames of 20 ms
        Diarization("sd", "SuperbSD", changes={"max_seconds": 40.0}, folder="sd_public"),
        Classification(  # any corpus: egs/TEMPLATE/cls1
            *("cls", "SuperbSID"),
            changes={
                "batch_size": 16,
                "accum_grad": 1,
                "max_updates": 2000,
                "valid_interval": 100,
                "head_lr": 1e-3,
                "max_seconds": None,
            },
        ),
    )
}

FIGURES = {
    "per": "PER",
    "wer": "WER",
    "cer": "CER",
    "slot_type_f1": "slot-type F1",
    "slot_value_cer": "slot-value CER",
    "eer": "EER",
    "der": "DER",
}
"""Metrics in the ``result.json`` of tasks other than classification, all fractions, and their names in a table."""


def task(name: str) -> Kind:
    """The task of that name. Raises ConfigError with the known ones."""
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]
