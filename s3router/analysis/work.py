"""What an analysis is asked for, and reading and comparing the packs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from s3router.analysis import captions, typology
from s3router.analysis.cuts import InitialMasks, Magnitudes, from_initial, prunes
from s3router.analysis.drawing import number
from s3router.analysis.figures import Figure
from s3router.analysis.mask_set import MaskSet, check_enough, is_coded, mask_set, read_sources, routes_of
from s3router.analysis.representation import Resident, load_resident
from s3router.analysis.similarity import overlaps
from s3router.analysis.tables import Table, read_pairs
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError
from s3router.packs import PackMeta
from s3router.packs.fingerprint import named_weights

Telling = Callable[[str], None]
Bar = Callable[[str], Callable[[float], None]]
"""What is under way -> what is called now and then with the share of it that is done."""
NO_LANGUAGE = "none"
"""In the place of a route's code."""


def no_bar(what: str) -> Callable[[float], None]:
    """Shows nothing."""
    return lambda share: None


@dataclass(frozen=True)
class Job:
    """What to analyse.

    Attributes:
        sources: mask packs or experiment folders of one backbone.
        upstream, ckpt: the backbone's name and checkpoint, where the first source's own do not hold.
        device: of the backbone, where audio is heard.
        bits_only: leave the backbone out, and everything that needs it.
        languages: route -> code of its language, where the route's name is none; `NO_LANGUAGE`: it is of none, whatever
            its name.
        typology: names of `s3router.analysis.typology.SETS`; None: the default ones, if lang2vec is installed.
        relate: name -> table of another measure of pairs of routes (`s3router.analysis.tables.read_pairs`).
        recordings: audio that representations are compared on, with durations; may be empty.
        speech: route -> speech with texts of its language, with durations, for the purity of characters; may be empty.
        frames: of a batch of audio, at most.
        permutations: of the Mantel test, where there are too many to go through all.
        seed: of these and of the frames.
    """

    sources: tuple[str | os.PathLike, ...]
    upstream: str | None = None
    ckpt: str | None = None
    device: str = "cpu"
    bits_only: bool = False
    languages: Mapping[str, str] = field(default_factory=dict)
    typology: tuple[str, ...] | None = None
    relate: Mapping[str, Path] = field(default_factory=dict)
    recordings: Sequence[Utterance] = ()
    speech: Mapping[str, DataDir] = field(default_factory=dict)
    frames: int = 512
    permutations: int = 9_999
    seed: int = 0


class Work:
    """One analysis under way: what was read and compared, and the tables, figures and notes so far.

    Attributes:
        job: what to do.
        tell: gets a line on each step.
        bar: shows how far the long ones are.
        tables, figures, notes: as of `s3router.analysis.report.Analysis`.
        resident: the backbone; None without it.
        masks: the packs.
        bins: removed weights int64 (matrices, sources, bins) and sizes int64 (matrices, bins) of bins of magnitude;
            None without the backbone.
        follows: bool (sources,): whose masks are of the weights in these bins. Masks of methods that prune are of
            weights that the pack brings.
        routes: of the packs, each once.
        codes: route -> ISO 639-3 code of those that are languages; empty without typology. Names of routes that
            classify are not taken for codes (ks and sid are tasks, and languages by ISO 639, too).
        wanted: sets of typological features.
        relate: other measures by name.
        overlaps: of all pairs.
        above: float64 (sources, sources), their similarity above chance over all weights.
        initial: the masks against their initial ones; None without the backbone.

    Raises:
        PackError, CheckpointError, ConfigError, DataError: as `s3router.analysis.report.analyse`.
    """

    def __init__(self, job: Job, tell: Telling, bar: Bar):
        self.job, self.tell, self.bar = job, tell, bar
        self.tables: dict[str, Table] = {}
        self.figures: dict[str, Figure] = {}
        self.notes: list[str] = []
        _check(job)
        self.wanted = self._wanted_typology()
        self.routes = tuple(dict.fromkeys(routes_of(job.sources)))
        if unknown := [route for route in job.languages if route not in self.routes]:
            raise ConfigError(
                f"--language: no pack has the route {', '.join(unknown)}; known: {', '.join(self.routes)}"
            )
        # before the backbone, which takes its time: a table that is wrong is told at once
        self.relate = {name: read_pairs(path, self.routes) for name, path in job.relate.items()}
        self.resident = self._resident()
        self.masks, self.bins = self._read()
        self.follows = self._follows()
        self.codes = self._codes()
        tell(f"comparing {len(self.masks.sources)} packs pairwise")
        self.overlaps = overlaps(self.masks, self.bins, self.follows)
        self.initial = None if self.resident is None else from_initial(self.masks, InitialMasks(self.resident.module))
        self.above = self.overlaps.over(self.every).above_chance

    def _wanted_typology(self) -> tuple[str, ...]:
        if self.job.typology is not None:
            if self.job.typology:
                typology.needed_folder()
            return self.job.typology
        if typology.data_folder() is None:
            self.notes.append(captions.NO_LANG2VEC)
            return ()
        return typology.DEFAULT

    def _resident(self) -> Resident | None:
        if self.job.bits_only:
            self.notes.append(captions.NO_BACKBONE)
            return None
        self.tell("loading the backbone")
        return load_resident(self.job.sources[0], self.job.upstream, self.job.ckpt, self.job.device)

    def _read(self) -> tuple[MaskSet, tuple[np.ndarray, np.ndarray] | None]:
        """The masks; and removed weights (matrices, sources, bins) by magnitude with the bins' sizes."""
        self.tell(f"reading {len(self.job.sources)} packs")
        if self.resident is None:
            return mask_set(read_sources(self.job.sources)), None
        weights = dict(named_weights(self.resident.module))
        magnitudes: Magnitudes | None = None
        counted: list[np.ndarray] = []

        def each(place: int, removed: Mapping[str, np.ndarray]) -> None:
            nonlocal magnitudes
            magnitudes = magnitudes or Magnitudes({name: weights[name] for name in removed})
            counted.append(magnitudes.count(removed))

        masks = mask_set(read_sources(self.job.sources, self.resident.module, self.resident.fingerprint), each)
        if (magnitudes.sizes == 0).any():
            share = 100 * magnitudes.zeros / masks.sizes.sum()
            self.notes.append(captions.EQUAL_MAGNITUDES.format(share=number(float(share))))
        return masks, (np.stack(counted, 1), magnitudes.sizes)

    def _follows(self) -> np.ndarray:
        own = [source.label for source in self.masks.sources if prunes(source.meta)]
        if own and self.bins is not None:
            self.notes.append(captions.OWN_WEIGHTS.format(packs=", ".join(own)))
        return np.array([source.label not in own for source in self.masks.sources])

    def _codes(self) -> dict[str, str]:
        """Of the languages that are given, else by the routes' names; what is but a guess is noted."""
        if not self.wanted:
            return {}
        metas: dict[str, list[PackMeta]] = {}
        for source in self.masks.sources:
            metas.setdefault(source.route, []).append(source.meta)
        asked = {
            route: given
            for route in self.routes
            if (given := self.job.languages.get(route)) or all(meta.labels is None for meta in metas[route])
        }
        asked = {route: given for route, given in asked.items() if given != NO_LANGUAGE}
        found = typology.codes(asked, typology.needed_folder())
        guessed = [
            f"{route} is {code}"
            for route, code in found.items()
            if asked[route] is None and not any(_declares(meta, route) for meta in metas[route])
        ]
        if guessed:
            self.notes.append(captions.GUESSED.format(guessed=", ".join(guessed)))
        return found

    @property
    def every(self) -> np.ndarray:
        """The places of all matrices."""
        return np.arange(len(self.masks.weights))

    def add(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table, unless it has no rows."""
        if rows:
            self.tables[name] = Table.of(name, rows)

    def draw(self, figure: Figure) -> None:
        """A figure."""
        self.figures[figure.name] = figure

    @property
    def granularities(self) -> list[str]:
        """Of the masks, as in `s3router.masks.MaskConfig`, each once."""
        return sorted({str(source.meta.mask.get("granularity", "unstructured")) for source in self.masks.sources})

    def facts(self) -> dict[str, str]:
        """What the head of the page says."""
        meta, sizes = self.masks.sources[0].meta, int(self.masks.sizes.sum())
        return {
            "backbone": f"{meta.backbone}, fingerprint {meta.fingerprint}",
            "packs": f"{len(self.masks.sources)} of {len(self.routes)} routes",
            "masked weights": f"{sizes:,} in {len(self.masks.weights)} matrices, "
            f"granularity {', '.join(self.granularities)}",
        }


def _declares(meta: PackMeta, route: str) -> bool:
    """Whether a pack's settings spell its language as the route's name does, or what it begins with."""
    named = {str(meta.preprocessing.get(key)).lower() for key in ("text_language", "language")}
    return not named.isdisjoint(typology.guesses(route.lower()))


def _check(job: Job) -> None:
    check_enough(job.sources)
    if unknown := [name for name in job.typology or () if name not in typology.SETS]:
        raise ConfigError(f"no typological features {', '.join(unknown)}; known: {', '.join(typology.SETS)}")
    if wrong := [name for name in job.relate if not re.fullmatch(r"[\w-]+", name) or name in typology.SETS]:
        raise ConfigError(f"--relate {wrong[0]}=…: a name of letters, digits, _ and - is needed that no typology has")
    if job.bits_only and (job.recordings or job.speech):
        raise ConfigError(f"{'--audio' if job.recordings else '--speech'} needs the backbone; leave --bits-only out")
    if job.bits_only and (coded := [os.fspath(source) for source in job.sources if is_coded(source)]):
        raise ConfigError(
            f"{coded[0]} is coded relative to its backbone, which --bits-only leaves out; leave that option out"
        )


def mean(values: np.ndarray) -> float:
    """Of what is known; NaN of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
