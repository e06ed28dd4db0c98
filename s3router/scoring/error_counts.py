"""Error counts over a whole validation set."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class ErrorCounts:
    """Sums over utterances; rates are of the whole set, as in scoring, not means over batches.

    ESPnet's own calculator also decodes padding frames, leaves blanks out, and averages over batches.
    """

    char_errors: int = 0
    chars: int = 0
    word_errors: int = 0
    words: int = 0
    utts: int = 0
    empty: int = 0

    def add(self, hypothesis: str, reference: str, phones: bool = False) -> None:
        """Count one utterance; with ``phones`` (separated by blanks) they are the characters, and `cer` is the PER."""
        from rapidfuzz.distance import Levenshtein

        found, wanted = (hypothesis.split(), reference.split()) if phones else (hypothesis, reference)
        self.char_errors += Levenshtein.distance(found, wanted)
        self.chars += len(wanted)
        self.word_errors += Levenshtein.distance(hypothesis.split(), reference.split())
        self.words += len(reference.split())
        self.utts += 1
        self.empty += not hypothesis

    @property
    def cer(self) -> float:
        """Character errors per reference character, blanks between words included."""
        return self.char_errors / max(1, self.chars)

    @property
    def wer(self) -> float:
        """Word errors per reference word."""
        return self.word_errors / max(1, self.words)

    def all_empty(self) -> bool:
        """Whether every hypothesis is empty: the sign of CTC's collapse onto blanks."""
        return 0 < self.utts == self.empty

    def as_list(self) -> list[int]:
        """The sums in the order of the fields, for adding up over processes."""
        return [getattr(self, f.name) for f in fields(self)]
