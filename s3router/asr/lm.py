"""n-gram language models, estimated from transcripts.

KenLM's ``lmplz`` comes in no wheel, so estimation is ours: interpolated Witten-Bell smoothing, enough for the
transcripts of a small task. Models from other tools are as welcome.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from s3router.data.tokens import split
from s3router.errors import ConfigError, DataError
from s3router.files import write_lines

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
    """Write interpolated probabilities of `estimate` as an ARPA back-off model, whole or not at all."""
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
        raise DataError(f"{path}: no such language model; estimate one with s3router lm") from None
    except (UnicodeDecodeError, IndexError):
        found.clear()
    if not found:
        raise DataError(f"{path}: not an ARPA file; convert the model to ARPA")
    return found
