"""What the stages of `run_multilingual.sh` have left in their folder, read back for the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plan import Grid, Settings

from s3router.errors import DataError
from s3router.scoring.files import read_text

Counts = dict[str, list[int]]
"""utterance -> [words, word errors, characters, character errors]"""


@dataclass(frozen=True)
class System:
    """One column of the table: a way to recognise all languages.

    Attributes:
        counts: language -> its test utterances.
        results: the result files of its runs, one for each language, or one alone (joint).
    """

    name: str
    counts: dict[str, Counts]
    results: list[dict[str, Any]]

    def rate(self, metric: str, lang: str) -> float:
        """Error rate "wer" or "cer" of a language."""
        return rate(self.counts[lang], metric)

    def mean(self, metric: str) -> float:
        """Mean over the languages, each counting the same."""
        return sum(self.rate(metric, lang) for lang in self.counts) / len(self.counts)


def columns(metric: str) -> tuple[int, int]:
    """Where total and errors of a metric stand in `Counts`."""
    return (0, 1) if metric == "wer" else (2, 3)


def rate(counts: Counts, metric: str) -> float:
    """Errors of all utterances over their words (or characters)."""
    total, wrong = columns(metric)
    return sum(row[wrong] for row in counts.values()) / sum(row[total] for row in counts.values())


def read_json(path: Path, stage: str) -> Any:
    """Raises DataError that says which stage writes it."""
    if not path.is_file():
        raise DataError(f"{path} is missing; it comes from ./run_multilingual.sh --stage {stage}")
    return json.loads(path.read_text(encoding="utf-8"))


def read_counts(folder: Path) -> Counts:
    """From the ``utterances.tsv`` of a decoded set."""
    path = folder / "utterances.tsv"
    if not path.is_file():
        raise DataError(f"{path} is missing; remove {folder} and run ./run_multilingual.sh again")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return {utt: [int(words), int(wrong), int(chars), int(bad)] for utt, _, _, words, wrong, chars, bad in rows}


def finetuned(work: Path, settings: Settings) -> System:
    """A finetuned model for each language."""
    models = {lang: work / f"models/{lang}_weight" for lang in settings.langs}
    counts = {lang: read_counts(folder / "decode_test") for lang, folder in models.items()}
    return System("weight finetuning", counts, [read_json(f / "result.json", "1") for f in models.values()])


def routed(work: Path, settings: Settings) -> System:
    """The one router; its results are those of the runs that the packs were made from."""
    counts = {lang: read_counts(work / f"routed/decode_{lang}") for lang in settings.langs}
    results = [read_json(work / f"models/{lang}_router/result.json", "1") for lang in settings.langs]
    return System("S3-Router", counts, results)


def joint(work: Path, settings: Settings, method: str) -> System:
    """A jointly trained model, its test utterances told apart by language.

    Raises:
        DataError: its test set is not made of the languages' own.
    """
    folder = work / f"models/joint_{method}"
    every = read_counts(folder / "decode_test")
    ids = {lang: read_text(Path("dump", lang, "test", "text")).keys() for lang in settings.langs}
    if sorted(every) != sorted(utt for utts in ids.values() for utt in utts):
        raise DataError(f"{folder}/decode_test is not of the test sets of {' '.join(settings.langs)}; remove {folder}")
    counts = {lang: {utt: every[utt] for utt in utts} for lang, utts in ids.items()}
    names = {"weight": "joint, weight finetuning", "frozen": "joint, head only"}
    return System(names[method], counts, [read_json(folder / "result.json", "4")])


def differing(work: Path, settings: Settings) -> dict[str, tuple[int, int]]:
    """language -> (utterances whose transcript by the router is not that of the single model, all)."""
    found = {}
    for lang in settings.langs:
        alone = read_text(work / f"models/{lang}_router/decode_test/text")
        together = read_text(work / f"routed/decode_{lang}/text")
        utts = alone.keys() | together.keys()
        found[lang] = (sum(alone.get(utt) != together.get(utt) for utt in utts), len(utts))
    return found


def pooled(counts: Mapping[str, Counts], metric: str) -> tuple[list[int], list[int]]:
    """(errors, totals) of the utterances of all languages, in one order for every system."""
    total, wrong = columns(metric)
    rows = [counts[lang][utt] for lang in sorted(counts) for utt in sorted(counts[lang])]
    return [row[wrong] for row in rows], [row[total] for row in rows]


def backbone_files(upstream: str, checkpoint: str | None) -> list[Path]:
    """The files of the shared backbone; none where its name alone stands for a download."""
    if upstream == "tiny" and not checkpoint:
        from s3router.upstreams.hub import tiny_folder

        checkpoint = str(tiny_folder())
    if not checkpoint or not Path(checkpoint).exists():
        return []
    path = Path(checkpoint)
    return [path / "config.json", path / "model.safetensors"] if path.is_dir() else [path]


def size(paths: Iterable[Path]) -> int:
    """Bytes of files, links followed."""
    return sum(path.stat().st_size for path in paths)


class Made:
    """All that the page shows; reading it raises DataError where a stage has not been run.

    Attributes:
        packs: codec -> what `s3router inspect` says of each language's pack; the router holds those of ``bits``.
    """

    def __init__(self, work: Path):
        from s3router.packs import summary

        self.work, self.settings = work, Settings.read(work)
        self.grid: Grid = self.settings.grid(work / "singles.yaml")
        self.langs = self.settings.langs
        self.weight, self.router = finetuned(work, self.settings), routed(work, self.settings)
        self.joint = [joint(work, self.settings, method) for method in self.settings.joint]
        self.systems = [self.weight, self.router, *self.joint]
        folders = {"bits": work / "packs", "coded": work / "packs_coded"}
        self.packs = {
            c: [summary.figures(folder / f"{lang}.pack") for lang in self.langs] for c, folder in folders.items()
        }
