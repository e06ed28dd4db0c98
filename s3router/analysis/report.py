"""An analysis of packs: from files to tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from s3router.analysis import inside, outside, purity
from s3router.analysis.figures import Figure
from s3router.analysis.mask_set import MaskSet
from s3router.analysis.tables import Table
from s3router.analysis.work import Bar, Job, Telling, Work, no_bar

__all__ = ["Analysis", "Job", "analyse"]


@dataclass(frozen=True)
class Analysis:
    """What was found.

    Attributes:
        masks: the packs.
        tables: by name; the files are ``NAME.csv``.
        figures: by name; the files are ``NAME.svg``.
        notes: what is missing, and why; a sentence each.
        facts: name -> text, for the head of the page.
    """

    masks: MaskSet
    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    notes: tuple[str, ...]
    facts: Mapping[str, str]


def analyse(job: Job, tell: Telling = lambda text: None, bar: Bar = no_bar) -> Analysis:
    """Read the packs and compute everything that a job asks for.

    Args:
        tell: gets a line on each step.
        bar: shows how far a long step is.

    Raises:
        PackError, CheckpointError: a pack or experiment is damaged, or of another backbone.
        ConfigError: fewer than two packs, masks over other weights, an unknown language or set of features.
        DataError: a table or recording cannot be read, or there is too little speech.
    """
    work = Work(job, tell, bar)
    for part in (
        *(inside.packs, inside.similarity, inside.where, inside.shared_weights),
        *(outside.relations, outside.ordered, outside.representation, purity.characters),
    ):
        part(work)
    return Analysis(work.masks, work.tables, work.figures, tuple(work.notes), work.facts())
