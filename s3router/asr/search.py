"""Searches for the best transcript: greedy, or flashlight-text's beam search with an n-gram model.

flashlight-text comes with ``tools/setup.sh --with-lm``; its wheels bring KenLM along, which reads ARPA files and KenLM
binaries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.asr.lm import BEGIN, END, UNKNOWN_WORD, arpa_vocabulary, units
from s3router.data.tokens import BLANK, SPACE
from s3router.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from s3router.asr.ctc_decode import Search


@dataclass(frozen=True)
class BeamOptions:
    """Beam search (the names are flashlight's).

    Attributes:
        beam_size: hypotheses kept per frame; beam_size_token: tokens tried per frame, the best ones.
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
        decoder, dictionary, KenLM = _flashlight()
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

    def confidence(self, frames: Tensor) -> None:
        """A beam's scores hold the language model's, and are no probabilities."""

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


def check_search(lm: str | Path | None = None, **beam: Any) -> BeamOptions | None:
    """Refuse what `make_search` would, as far as that can be told without a model; None stands for greedy search.

    Raises:
        ConfigError: a language model or other beam option without a beam, values out of range, or no flashlight-text.
    """
    if (size := beam.get("beam_size", 1)) < 1:
        raise ConfigError(f"beam size {size}: 1 is greedy search; give 1 or more")
    if size > 1:
        _flashlight()
        return BeamOptions(**beam)
    given = [name for name in beam if name != "beam_size"] + (["lm"] if lm else [])
    if given:
        raise ConfigError(f"{', '.join(sorted(given))}: only used by beam search; add --beam-size 50, or leave it out")
    return None


def make_search(token_list: Sequence[str], lm: str | Path | None = None, **beam: Any) -> Search:
    """Greedy search, or a beam search when a beam is asked for (arguments of `BeamOptions`).

    Raises:
        ConfigError: as `check_search`.
    """
    from s3router.asr.ctc_decode import GreedySearch

    options = check_search(lm, **beam)
    return GreedySearch() if options is None else BeamSearch(token_list, options, lm)


def _flashlight() -> tuple[Any, Any, Any]:
    """flashlight-text's modules decoder and dictionary, and its class for KenLM models."""
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder.kenlm import KenLM
    except ImportError as err:
        raise ConfigError(
            f"beam search needs flashlight-text ({err}): run tools/setup.sh --with-lm, or decode greedily "
            "(--beam-size 1, no --lm)"
        ) from err
    return decoder, dictionary, KenLM
