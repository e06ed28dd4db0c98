"""The six figures of the ML-SUPERB 2.0 challenge, as its scorer counts them.

Source: espnet/espnet, egs2/ml_superb2/asr1/local/score.py. References and hypotheses are ``[iso] text``:

- the language is the first five characters, ``[eng]``, compared as they are; the text is the rest;
- both texts are brought to one form (`s3router.data.ml_superb_text`), and CER is taken of each utterance;
- utterances whose reference is empty then count neither in CER nor in identification;
- CER and accuracy are means over a language's utterances, then over languages, so that small languages count as much
  as large ones; the deviation is that of a sample (n - 1).

The scorer divides the errors of the 15 worst languages by 15; here by their number, where there are fewer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from s3router.data.ml_superb_text import scored_text
from s3router.errors import DataError

TAG = len("[eng]")
WORST = 15


@dataclass(frozen=True)
class LanguageFigures:
    """One language: utterances that counted, their mean CER, and the share whose language was found."""

    utts: int
    cer: float
    lid: float


@dataclass(frozen=True)
class SetFigures:
    """One set.

    Attributes:
        languages: code -> its figures, by code.
        empty: utterances without a reference.
    """

    languages: Mapping[str, LanguageFigures]
    empty: int

    @property
    def lid(self) -> float:
        """Accuracy of identification, mean over languages."""
        return fmean(found.lid for found in self.languages.values())

    @property
    def cer(self) -> float:
        """Character error rate, mean over languages."""
        return fmean(found.cer for found in self.languages.values())

    @property
    def worst(self) -> float:
        """CER of the 15 worst languages, mean."""
        return fmean(sorted((found.cer for found in self.languages.values()), reverse=True)[:WORST])

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the languages' CER; None of one language."""
        rates = [found.cer for found in self.languages.values()]
        return stdev(rates) if len(rates) > 1 else None

    def worst_languages(self) -> list[str]:
        """The 15 worst, the worst first."""
        return sorted(self.languages, key=lambda lang: -self.languages[lang].cer)[:WORST]


@dataclass(frozen=True)
class ChallengeFigures:
    """The six figures, and what they are of: shares; None of the varieties where these were not scored."""

    standard: SetFigures
    dialect: SetFigures | None = None

    def six(self) -> dict[str, float | None]:
        """Name -> figure, in the challenge's order."""
        return {
            "lid": self.standard.lid,
            "cer": self.standard.cer,
            "cer_worst_15": self.standard.worst,
            "cer_deviation": self.standard.deviation,
            "dialect_lid": None if self.dialect is None else self.dialect.lid,
            "dialect_cer": None if self.dialect is None else self.dialect.cer,
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        sets = {"standard": self.standard, "dialect": self.dialect}
        detail = {
            name: {"empty": found.empty, "languages": {lang: asdict(f) for lang, f in found.languages.items()}}
            for name, found in sets.items()
            if found is not None
        }
        return self.six() | detail


def score_set(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> SetFigures:
    """Score one set.

    Args:
        references, hypotheses: utterance -> ``[iso] text``.

    Raises:
        DataError: they are not of the same utterances; or no reference, or none of a language, has any text.
    """
    if references.keys() != hypotheses.keys():
        odd = sorted(references.keys() ^ hypotheses.keys())
        where = "references" if odd[0] in references else "hypotheses"
        raise DataError(f"{len(odd)} utterances are in one of the two alone, e.g. {odd[0]} among the {where}")
    rates: dict[str, list[float]] = {}
    hits: dict[str, list[bool]] = {}
    empty = 0
    for utt, reference in references.items():
        tag, hypothesis = reference[:TAG], hypotheses[utt]
        rate = error_rate(reference[TAG:], hypothesis[TAG:], tag)
        if rate is None:
            empty += 1
            continue
        rates.setdefault(tag, []).append(rate)
        hits.setdefault(tag, []).append(hypothesis[:TAG] == tag)
    if not rates:
        raise DataError(f"none of {len(references)} references has any text; is it '[iso] text' after the id?")
    found = {tag.strip("[]"): LanguageFigures(len(r), fmean(r), fmean(hits[tag])) for tag, r in sorted(rates.items())}
    return SetFigures(found, empty)


def error_rate(reference: str, hypothesis: str, tag: str) -> float | None:
    """CER of one utterance, of texts without their language; None where the reference is empty.

    Args:
        tag: the reference's language, as ``[eng]``.
    """
    import jiwer  # the challenge's own; blanks at both ends do not count

    lang = tag.strip("[]")
    wanted, found = (scored_text(text.strip(), lang) for text in (reference, hypothesis))
    return float(jiwer.cer(wanted, found)) if wanted else None


def table(figures: Mapping[str, ChallengeFigures]) -> list[str]:
    """Markdown: a row for each system, in percent."""
    titles = ("system", "LID", "CER", "CER of the 15 worst", "SD of CER", "dialect LID", "dialect CER")
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for name, found in figures.items():
        cells = ("–" if value is None else f"{100 * value:.1f}" for value in found.six().values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def language_table(figures: Mapping[str, ChallengeFigures]) -> list[str]:
    """Markdown: a row for each language, with the CER of every system in percent, the worst of the first one on top."""
    systems = {name: found.standard.languages for name, found in figures.items()}
    first = next(iter(systems.values()))
    langs = sorted({lang for found in systems.values() for lang in found})
    langs.sort(key=lambda lang: -first[lang].cer if lang in first else 0.0)
    lines = [f"| CER of | utterances | {' | '.join(systems)} |", "|---|" + "---:|" * (len(systems) + 1)]
    for lang in langs:
        counts = [found[lang].utts for found in systems.values() if lang in found]
        cells = [f"{100 * found[lang].cer:.1f}" if lang in found else "–" for found in systems.values()]
        lines.append(f"| {lang} | {max(counts)} | {' | '.join(cells)} |")
    return lines
