"""Word and character error rates of a set of utterances, computed once, with every count behind them.

Rates are pooled over the set: (substitutions + deletions + insertions) / reference tokens. Characters include the
spaces between words, as in jiwer and in ESPnet's CER. Alignments are jiwer's (Levenshtein distance); sclite weighs a
substitution 4 and an insertion or deletion 3, so on very bad hypotheses it may count a few more errors.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from s3router.errors import DataError
from s3router.files import write_lines
from s3router.scoring.files import shorten


@dataclass(frozen=True)
class Counts:
    """Outcome of aligning hypothesis tokens to reference tokens (words or characters)."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def total(self) -> int:
        """Number of reference tokens."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference token; above 1 when much was inserted."""
        return self.errors / self.total

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


Pair = tuple[str, str]
"""One column of an alignment: (reference word, hypothesis word); the side that has none is empty."""


@dataclass(frozen=True)
class UtteranceScore:
    """Score of one utterance; `pairs` is the alignment of its words."""

    utt: str
    words: Counts
    chars: Counts
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Score:
    """Score of a set of utterances."""

    utterances: tuple[UtteranceScore, ...]

    @cached_property
    def words(self) -> Counts:
        """Counts of words over all utterances."""
        return sum((u.words for u in self.utterances), Counts())

    @cached_property
    def chars(self) -> Counts:
        """Counts of characters over all utterances, blanks between words included."""
        return sum((u.chars for u in self.utterances), Counts())

    @property
    def wer(self) -> float:
        """Word errors per reference word."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character errors per reference character."""
        return self.chars.rate

    @property
    def sentence_error_rate(self) -> float:
        """Share of utterances with at least one word error."""
        return sum(u.words.errors > 0 for u in self.utterances) / len(self.utterances)

    def as_dict(self) -> dict:
        """Rates and counts as plain numbers, for a result file."""
        return {
            "wer": self.wer,
            "cer": self.cer,
            "sentence_error_rate": self.sentence_error_rate,
            "n_utts": len(self.utterances),
            "n_words": self.words.total,
            "n_chars": self.chars.total,
            "words": asdict(self.words),
            "chars": asdict(self.chars),
        }

    def summary(self) -> str:
        """Two lines for the screen."""
        return "\n".join(
            f"{name} {100 * counts.rate:6.2f} %  ({counts.errors} of {counts.total} {unit}: {counts.substitutions} "
            f"substituted, {counts.deletions} deleted, {counts.insertions} inserted)"
            for name, unit, counts in (("WER", "words", self.words), ("CER", "characters", self.chars))
        )


def without_marks(text: str) -> str:
    """Letters without their diacritics, above and below: tones, dots, accents."""
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if unicodedata.category(c) != "Mn"))


def plain_cer(ref: Mapping[str, str], hyp: Mapping[str, str]) -> float:
    """The character error rate when diacritics do not count, but in references of nothing else. Raises as `score`."""
    plain = {utt: without_marks(text) for utt, text in ref.items()}
    bare = {utt for utt, text in plain.items() if not text.strip()}
    found = {utt: text if utt in bare else without_marks(text) for utt, text in hyp.items()}
    return score({utt: ref[utt] if utt in bare else text for utt, text in plain.items()}, found).cer


def score(ref: Mapping[str, str], hyp: Mapping[str, str]) -> Score:
    """Score hypotheses against references, both utterance id -> words; the order is that of `ref`.

    Raises:
        DataError: a reference is empty, a hypothesis is missing, or one has no reference (an *empty* hypothesis is
            fine: all its words are deleted). All of them are listed at once.
    """
    import jiwer  # here, so that importing the package stays light

    problems = {
        "references without words": [utt for utt, words in ref.items() if not words.strip()],
        "references without a hypothesis": [utt for utt in ref if utt not in hyp],
        "hypotheses without a reference": [utt for utt in hyp if utt not in ref],
    }
    found = [f"{len(utts)} {what} ({shorten(utts)})" for what, utts in problems.items() if utts]
    if not ref:
        found.append("no references")
    if found:
        raise DataError(f"cannot score: {'; '.join(found)}. Reference and hypothesis must list the same utterances")
    refs = [" ".join(words.split()) for words in ref.values()]
    hyps = [" ".join(hyp[utt].split()) for utt in ref]
    words, chars = jiwer.process_words(refs, hyps), jiwer.process_characters(refs, hyps)
    return Score(
        tuple(
            UtteranceScore(utt, _counts(words.alignments[i]), _counts(chars.alignments[i]), _pairs(words, i))
            for i, utt in enumerate(ref)
        )
    )


def _counts(chunks: Sequence) -> Counts:
    """Counts of one utterance from jiwer's alignment chunks."""
    sizes = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in chunks:
        length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        sizes[chunk.type] += length
    return Counts(sizes["equal"], sizes["substitute"], sizes["delete"], sizes["insert"])


def _pairs(output, index: int) -> tuple[Pair, ...]:
    ref, hyp = output.references[index], output.hypotheses[index]
    pairs: list[Pair] = []
    for chunk in output.alignments[index]:
        left = ref[chunk.ref_start_idx : chunk.ref_end_idx]
        right = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for k in range(max(len(left), len(right))):
            pairs.append((left[k] if k < len(left) else "", right[k] if k < len(right) else ""))
    return tuple(pairs)


def write_alignments(path: str | Path, result: Score) -> None:
    """Write the word alignment of every utterance, the worst first, as three lines to be read in a fixed-width font.

    ``S``, ``D`` and ``I`` stand under what was substituted, deleted and inserted, ``*`` where one side has no word.
    """
    lines = [*result.summary().splitlines(), f"sentences with errors: {100 * result.sentence_error_rate:.1f} %", ""]
    for u in sorted(result.utterances, key=lambda u: (-u.words.errors, u.utt)):
        w, c = u.words, u.chars
        marks = [_mark(pair) for pair in u.pairs]
        widths = [max(len(left), len(right), 1) for left, right in u.pairs]
        rows = {
            "REF": [left or "*" * width for (left, _), width in zip(u.pairs, widths, strict=True)],
            "HYP": [right or "*" * width for (_, right), width in zip(u.pairs, widths, strict=True)],
            "   ": marks,
        }
        lines.append(
            f"{u.utt}: {w.errors}/{w.total} words wrong (S {w.substitutions}, D {w.deletions}, I {w.insertions}), "
            f"{c.errors}/{c.total} characters"
        )
        for name, cells in rows.items():
            row = " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{name} {row}".rstrip())
        lines.append("")
    write_lines(path, lines)


def _mark(pair: Pair) -> str:
    ref, hyp = pair
    return "I" if not ref else "D" if not hyp else " " if ref == hyp else "S"
