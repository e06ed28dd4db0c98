"""Token lists, and the conversion of text to token ids and back: characters, sentencepiece units, or phones.

A token list is ESPnet's: one token per line, ``<blank>`` first (the CTC blank), ``<unk>`` second, ``<sos/eos>`` last.
"""

from __future__ import annotations

import collections
import io
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from s3router.errors import ConfigError, DataError
from s3router.files import replacing, write_lines

BLANK, UNKNOWN, SPACE, SOS_EOS = "<blank>", "<unk>", "<space>", "<sos/eos>"
TOKEN_TYPES = ("char", "phn", "bpe")


def split(text: str, token_type: str = "char") -> list[str]:
    """Tokens of ``text``: its characters with ``<space>`` for a blank, or for ``phn`` its words."""
    if token_type == "char":
        return [SPACE if c == " " else c for c in " ".join(text.split())]
    if token_type == "phn":
        return text.split()
    raise ConfigError(f"token type {token_type!r} cannot be split without a model; known: char, phn")


def build_token_list(texts: Iterable[str], token_type: str = "char") -> list[str]:
    """``<blank> <unk> [<space>] tokens … <sos/eos>``, the most frequent token first, ties by code point.

    ``<space>`` is third in a character list, even if no text contains one. The list depends on the texts alone, not
    on their order.

    Raises:
        DataError: no tokens at all.
    """
    counts = collections.Counter(token for text in texts for token in split(text, token_type))
    counts.pop(SPACE, None)
    if not counts:
        raise DataError("no text to build a token list from; is the transcript file empty?")
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    return [BLANK, UNKNOWN, *([SPACE] if token_type == "char" else []), *ranked, SOS_EOS]


def write_token_list(path: str | os.PathLike, tokens: Sequence[str]) -> None:
    """One token per line, whole or not at all."""
    write_lines(path, tokens)


def read_token_list(path: str | os.PathLike) -> list[str]:
    """Read and check a token list.

    Raises:
        DataError: no file, a token twice, or ``<blank>``, ``<unk>``, ``<sos/eos>`` not where ESPnet wants them.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such token list; write one with s3router tokens")
    try:
        tokens = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {number} is not UTF-8 ({error.reason}); convert it, as by iconv") from None
    tokens = tokens[:-1] if tokens and not tokens[-1] else tokens
    twice = [token for token, count in collections.Counter(tokens).items() if count > 1]
    if twice:
        raise DataError(f"{path}: more than one line for {' '.join(map(repr, twice))}; keep one of each")
    if tokens[:2] != [BLANK, UNKNOWN] or tokens[-1] != SOS_EOS:
        raise DataError(f"{path}: a token list starts with {BLANK}, {UNKNOWN} and ends with {SOS_EOS}")
    return tokens


def train_bpe(texts: Iterable[str], size: int, prefix: str | os.PathLike) -> list[str]:
    """Train a sentencepiece unigram model, write ``prefix.model`` and return its token list in ESPnet's order.

    Raises:
        DataError: the texts do not support that many units.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(list(texts)),
            model_writer=model,
            vocab_size=size,
            character_coverage=1.0,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(f"no sentencepiece model of {size} units from these texts: {error}") from error
    with replacing(f"{os.fspath(prefix)}.model", "wb") as file:
        file.write(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    own = {pieces.unk_id(), pieces.bos_id(), pieces.eos_id()}
    return [BLANK, UNKNOWN, *(pieces.id_to_piece(i) for i in range(len(pieces)) if i not in own), SOS_EOS]


class TokenIds:
    """Text to ids and back.

    Args:
        tokens: a token list.
        token_type: ``char``, ``phn`` (tokens separated by blanks) or ``bpe``.
        bpe_model: the sentencepiece model, its path or its content; only for ``bpe``.
    """

    def __init__(
        self, tokens: Sequence[str], token_type: str = "char", bpe_model: str | os.PathLike | bytes | None = None
    ):
        if token_type not in TOKEN_TYPES:
            raise ConfigError(f"unknown token type {token_type!r}; known: {', '.join(TOKEN_TYPES)}")
        if (token_type == "bpe") != bool(bpe_model):
            raise ConfigError("token type bpe needs a sentencepiece model, and only bpe does")
        self.tokens, self.token_type = list(tokens), token_type
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self._pieces = None
        if bpe_model:
            import sentencepiece

            if isinstance(bpe_model, bytes):
                self._pieces = sentencepiece.SentencePieceProcessor(model_proto=bpe_model)
                return
            if not Path(bpe_model).is_file():
                raise DataError(f"{bpe_model}: no such sentencepiece model")
            try:
                self._pieces = sentencepiece.SentencePieceProcessor(model_file=os.fspath(bpe_model))
            except RuntimeError:
                raise DataError(f"{bpe_model}: not a sentencepiece model, or damaged; name another") from None

    def __len__(self) -> int:
        return len(self.tokens)

    def split(self, text: str) -> list[str]:
        """Tokens of ``text``, known or not."""
        return self._pieces.encode(text, out_type=str) if self._pieces else split(text, self.token_type)

    def unknown(self, text: str) -> list[str]:
        """Tokens of ``text`` that the list lacks, each once, in order of appearance."""
        return [token for token in dict.fromkeys(self.split(text)) if token not in self._ids]

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``.

        Raises:
            DataError: tokens outside the list.
        """
        if missing := self.unknown(text):
            raise DataError(f"not in the token list: {' '.join(missing)} (in {text!r})")
        return [self._ids[token] for token in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids`` (blanks and repeats already removed); ``<blank>`` and ``<sos/eos>`` read as nothing."""
        tokens = [self.tokens[index] for index in ids]
        tokens = [token for token in tokens if token not in (BLANK, SOS_EOS)]
        if self.token_type == "phn":
            return " ".join(tokens)
        if self._pieces:
            return self._pieces.decode(tokens)
        return " ".join("".join(" " if token == SPACE else token for token in tokens).split())


def min_ctc_frames(tokens: Sequence) -> int:
    """Frames that CTC needs to emit ``tokens``: one each, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
