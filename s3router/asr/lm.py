"""n-gram language models: estimate one from transcripts, and use one in CTC beam search.

Beam search is flashlight-text's (``pip install flashlight-text``; its wheels bring KenLM along, which reads ARPA files
and KenLM binaries). Estimation is ours, because KenLM's ``lmplz`` comes in no wheel: interpolated Witten-Bell
smoothing, enough for the transcripts of a small task. Models from other tools are as welcome.

``python -m s3router.asr.lm --text data/en/train/text --order 5 --output exp/lm/en_char5.arpa``
"""

from __future__ import annotations

import argparse
import collections
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.data.tokens import BLANK, SPACE, split
from s3router.errors import ConfigError, DataError, S3RouterError
from s3router.files import write_lines
from s3router.scoring.files import read_text

if TYPE_CHECKING:
    from torch import Tensor

BEGIN, END, UNKNOWN_WORD = "<s>", "</s>", "<unk>"
UNITS = ("char", "word")
_NEVER = -99.0  # log10 probability that ARPA files give to what is never predicted

Ngram = tuple[str, ...]


def units(text: str, unit: str) -> list[str]:
    """`text` as the language model sees it: its words, or its characters with ``<space>`` for a blank."""
    if unit not in UNITS:
        raise ConfigError(f"unknown language model unit {unit!r}; known: {', '.join(UNITS)}")
    return text.split() if unit == "word" else split(text, "char")


def estimate(sentences: Iterable[Sequence[str]], order: int) -> dict[Ngram, float]:
    """Interpolated Witten-Bell n-gram probabilities (Witten and Bell 1991; Chen and Goodman 1998, section 2.5).

    p(w | h) = (c(hw) + t(h) p(w | h')) / (c(h) + t(h)), with t(h) the number of different words seen after h and h'
    the history without its oldest word; below the unigrams lies the uniform distribution over the words seen,
    ``</s>`` and ``<unk>``.

    Args:
        sentences: lists of units, without sentence marks.
        order: longest n-gram, from 1.

    Returns:
        n-gram -> probability of its last unit, for all n-grams seen, and for ``<unk>``.

    Raises:
        ConfigError: order below 1.
        DataError: no sentences.
    """
    if order < 1:
        raise ConfigError(f"n-gram order {order} is below 1")
    followers: dict[Ngram, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for sentence in sentences:
        padded = [BEGIN, *sentence, END]
        for position in range(1, len(padded)):
            for length in range(min(order, position + 1)):
                followers[tuple(padded[position - length : position])][padded[position]] += 1
    if not followers:
        raise DataError("no sentences to estimate a language model from")
    uniform = 1 / (len(followers[()]) + 1)
    probabilities: dict[Ngram, float] = {}
    for history in sorted(followers, key=len):  # shorter histories first: they are what longer ones fall back on
        counts = followers[history]
        types, total = len(counts), sum(counts.values())
        for word, count in counts.items():
            lower = probabilities[(*history[1:], word)] if history else uniform
            probabilities[(*history, word)] = (count + types * lower) / (total + types)
        if not history:
            probabilities[(UNKNOWN_WORD,)] = types * uniform / (total + types)
    return probabilities


def write_arpa(path: str | Path, probabilities: dict[Ngram, float]) -> None:
    """Write interpolated probabilities of `estimate` as an ARPA back-off model, at once or not at all."""
    order = max(map(len, probabilities))
    followers: dict[Ngram, list[str]] = collections.defaultdict(list)
    for *history, word in probabilities:
        followers[tuple(history)].append(word)
    grams = {n: {g: p for g, p in probabilities.items() if len(g) == n} for n in range(1, order + 1)}
    grams[1].setdefault((BEGIN,), 0.0)
    lines = ["", "\\data\\", *(f"ngram {n}={len(grams[n])}" for n in grams), ""]
    for n in grams:
        lines.append(f"\\{n}-grams:")
        for gram, probability in sorted(grams[n].items()):
            log = math.log10(probability) if probability > 0 else _NEVER
            backoff = ""
            if n < order and gram in followers:
                seen = 1 - sum(probabilities[(*gram, word)] for word in followers[gram])
                lower = 1 - sum(probabilities[(*gram[1:], word)] for word in followers[gram])
                backoff = f"\t{math.log10(seen / lower):.6f}" if seen > 0 and lower > 0 else f"\t{_NEVER}"
            lines.append(f"{log:.6f}\t{' '.join(gram)}{backoff}")
        lines.append("")
    write_lines(path, [*lines, "\\end\\"])


def arpa_vocabulary(path: str | Path) -> set[str]:
    """Units of an ARPA file.

    Raises:
        DataError: no such file, or not an ARPA file with unigrams (a KenLM binary, for one).
    """
    found, reading = set(), False
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith("\\"):
                    if reading:
                        break
                    reading = line.strip() == "\\1-grams:"
                elif reading and line.strip():
                    found.add(line.split()[1])
    except FileNotFoundError:
        raise DataError(f"{path}: no such language model; estimate one with python -m s3router.asr.lm") from None
    except (UnicodeDecodeError, IndexError):
        found.clear()
    if not found:
        raise DataError(f"{path}: not an ARPA file; convert the model to ARPA")
    return found


@dataclass(frozen=True)
class BeamOptions:
    """Beam search (the names are flashlight's).

    Attributes:
        beam_size: hypotheses kept a frame; beam_size_token: tokens tried a frame, the best ones.
        beam_threshold: hypotheses further below the best one, in log probability, are dropped.
        lm_weight: factor on the language model's log probability, to base 10 as in ARPA files.
        insertion_score: added for every word (unit "word") or every blank between words (unit "char").
        unit: what the language model predicts. With "word", only words of the model can come out.
    """

    beam_size: int = 50
    beam_size_token: int = 30
    beam_threshold: float = 25.0
    lm_weight: float = 1.0
    insertion_score: float = 0.0
    unit: str = "char"

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.beam_size_token < 1 or self.beam_threshold <= 0:
            raise ConfigError("beam size, tokens and threshold of the beam must be above 0")
        units("", self.unit)


class BeamSearch:
    """CTC prefix beam search with an n-gram model, or without one (`lm` None); a `s3router.asr.ctc_decode.Search`.

    Raises:
        ConfigError: flashlight-text is not installed, or the model's units are not the token list's.
        DataError: the model cannot be read.
    """

    def __init__(self, token_list: Sequence[str], options: BeamOptions, lm: str | Path | None = None):
        try:
            from flashlight.lib.text import decoder, dictionary
            from flashlight.lib.text.decoder.kenlm import KenLM
        except ImportError as err:
            raise ConfigError(
                f"beam search needs flashlight-text ({err}): pip install flashlight-text, or decode greedily "
                "(--beam-size 1, no --lm)"
            ) from err
        if SPACE not in token_list or token_list[0] != BLANK:
            raise ConfigError(f"beam search is made for character token lists, with {BLANK} first and {SPACE} in it")
        if options.unit == "word" and lm is None:
            raise ConfigError("unit word needs a language model: its words are the lexicon (--lm words.arpa)")
        self._size = len(token_list)
        self._letters: list[list[int]] = []  # of every word, with a blank behind; empty for units of characters
        space = token_list.index(SPACE)
        criterion = decoder.CriterionType.CTC
        beam = (options.beam_size, min(options.beam_size_token, self._size), options.beam_threshold, options.lm_weight)
        if options.unit == "char":
            if lm is not None:
                self._check_vocabulary(lm, token_list)
            tokens = dictionary.Dictionary(list(token_list))
            self._lm = _load(KenLM, lm, tokens) if lm is not None else decoder.ZeroLM()
            settings = decoder.LexiconFreeDecoderOptions(*beam, options.insertion_score, True, criterion)
            self._decoder = decoder.LexiconFreeDecoder(settings, self._lm, space, 0, [])
            return
        known = {token: index for index, token in enumerate(token_list)}
        words = sorted(arpa_vocabulary(lm) - {BEGIN, END, UNKNOWN_WORD})
        spelled = {word: [known[c] for c in word] for word in words if all(c in known for c in word)}
        if not spelled:
            raise ConfigError(f"{lm}: none of its {len(words)} words can be spelled with the model's tokens")
        self._words = dictionary.Dictionary([*spelled, UNKNOWN_WORD])
        self._lm = _load(KenLM, lm, self._words)
        trie = decoder.Trie(self._size, space)
        start = self._lm.start(False)
        for word, letters in spelled.items():
            index = self._words.get_index(word)
            trie.insert(letters, index, self._lm.score(start, index)[1])
        trie.smear(decoder.SmearingMode.MAX)
        self._letters = [[*letters, space] for letters in spelled.values()]
        unknown = self._words.get_index(UNKNOWN_WORD)
        settings = decoder.LexiconDecoderOptions(*beam, options.insertion_score, -math.inf, 0.0, True, criterion)
        self._decoder = decoder.LexiconDecoder(settings, trie, self._lm, space, 0, unknown, [], False)

    @staticmethod
    def _check_vocabulary(lm: str | Path, token_list: Sequence[str]) -> None:
        foreign = arpa_vocabulary(lm) - {BEGIN, END, UNKNOWN_WORD} - set(token_list)
        if foreign:
            raise ConfigError(
                f"{lm}: {len(foreign)} of its units are not tokens of the model, as {min(foreign)!r}; use a model "
                "over words with --lm-unit word, and one over characters with transcripts normalised as in training"
            )

    def reduce(self, log_probs: Tensor) -> Tensor:
        return log_probs

    def finish(self, frames: Tensor) -> list[int]:
        """(frames, tokens) log probabilities -> token ids of the best hypothesis."""
        from s3router.asr.ctc_decode import collapse

        frames = frames.float().contiguous()
        best = self._decoder.decode(frames.data_ptr(), frames.shape[0], frames.shape[1])[0]
        if self._letters:
            return [token for word in best.words if 0 <= word < len(self._letters) for token in self._letters[word]]
        return collapse([token for token in best.tokens if token >= 0])


def _load(kenlm: type, path: str | Path, vocabulary: Any) -> Any:
    try:
        return kenlm(str(path), vocabulary)
    except RuntimeError as err:  # KenLM's errors arrive as this
        raise DataError(f"{path}: KenLM cannot read it: {' '.join(str(err).split())}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """The command: estimates a model from a Kaldi text file. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m s3router.asr.lm", description="Estimate an n-gram language model.")
    parser.add_argument("--text", type=Path, required=True, nargs="+", help="Kaldi text files of training transcripts")
    parser.add_argument("--unit", choices=UNITS, default="char")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True, help="ARPA file to write")
    args = parser.parse_args(argv)
    try:
        sentences = [units(text, args.unit) for path in args.text for text in read_text(path).values()]
        probabilities = estimate(sentences, args.order)
        write_arpa(args.output, probabilities)
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    sizes = collections.Counter(map(len, probabilities))
    print(f"{args.output}: {len(sentences)} sentences, n-grams " + ", ".join(f"{n}: {sizes[n]}" for n in sorted(sizes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
