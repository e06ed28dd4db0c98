"""Times of words, and pauses between stretches of speech."""

from __future__ import annotations

import io
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece
import torch

from s3router.asr.ctc_decode import best_path
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from s3router.data.tokens import TokenIds
from s3router.data.words import joined
from s3router.serving.pauses import pieces_of
from s3router.serving.words import timed_words
from tests.asr.conftest import FIVE

CHARS = ("<blank>", "<unk>", "<space>", "a", "b", "<sos/eos>")


def path_of(ids: list[int], probabilities: list[float] | None = None) -> torch.Tensor:
    values = [math.log(p) for p in probabilities or [0.5] * len(ids)]
    return torch.tensor([ids, values]).T


def test_words_of_characters_with_times_and_probabilities():
    ids = [2, 0, 3, 3, 0, 4, 2, 2, 0, 5, 3, 0, 3, 0]
    probabilities = [0.9] * len(ids)
    probabilities[2:4], probabilities[5] = [0.25, 0.5], 0.125
    words = timed_words(path_of(ids, probabilities), TokenIds(CHARS), 320)
    assert [word.word for word in words] == ["ab", "aa"]
    assert [(word.start, word.end) for word in words] == [(0.04, 0.12), (0.2, 0.26)]
    assert words[0].probability == pytest.approx((0.25 * 0.5 * 0.125) ** (1 / 3))
    assert words[1].probability == pytest.approx(0.9)


@pytest.mark.parametrize("ids", [[], [0, 0], [2, 2, 0], [5]])
def test_no_words_in_nothing(ids):
    assert timed_words(path_of(ids).reshape(-1, 2), TokenIds(CHARS), 320) == []


def test_words_end_with_the_recording():
    (word,) = timed_words(path_of([0, 3, 3, 4]), TokenIds(CHARS), 320, seconds=0.0735)
    assert (word.start, word.end) == (0.02, 0.0735)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_without_blanks_characters_are_words_with_their_marks(kind):
    blank = "<space>" if kind == "char" else "▁"
    tokens = SimpleNamespace(
        tokens=("<blank>", "<unk>", blank, "ก", "น", "\u0e34", "<sos/eos>"),
        token_type=kind,
        decode=lambda ids: "".join(" " if id == 2 else tokens.tokens[id] for id in ids),
    )
    words = timed_words(path_of([0, 3, 5, 5, 4, 0, 2, 3, 0]), tokens, 320, spaced=False)
    assert [word.word for word in words] == ["ก\u0e34", "น", "ก"]
    assert [word.spaced for word in words] == [True, False, True]
    assert joined(words) == "ก\u0e34น ก"
    assert [(word.start, word.end) for word in words] == [(0.02, 0.08), (0.08, 0.1), (0.14, 0.16)]


def test_phones_are_words_each():
    tokens = TokenIds(("<blank>", "<unk>", "t͡ʃ", "a", "<sos/eos>"), "phn")
    assert [word.word for word in timed_words(path_of([2, 2, 0, 2, 3]), tokens, 320)] == ["t͡ʃ", "t͡ʃ", "a"]


def test_any_path_gives_the_words_of_its_text():
    """Sentencepiece units, too, wherever a word begins."""
    model = io.BytesIO()
    texts = ["la casa", "la cosa", "una casa", "il caso", "le case", "una rosa"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=16, minloglevel=2
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    units = ["<blank>", "<unk>", *(pieces.id_to_piece(i) for i in range(3, len(pieces))), "<sos/eos>"]
    generator = torch.Generator().manual_seed(0)
    for tokens in (TokenIds(units, "bpe", model.getvalue()), TokenIds(CHARS)):
        for _ in range(50):
            path = path_of(torch.randint(len(tokens), (30,), generator=generator).tolist())
            words = timed_words(path, tokens, 320)
            assert " ".join(word.word for word in words) == " ".join(tokens.decode(best_path(path)[0]).split())
            assert all(a.start < a.end <= b.start for a, b in itertools.pairwise(words))


def speech(*seconds: float) -> np.ndarray:
    """Recorded speech, with so much near-silence in the middle of each two utterances."""
    noise = np.random.default_rng(0)
    waves = [read_audio(utt.source) for utt in DataDir.read(FIVE).utts]
    parts = [waves[0]]
    for number, gap in enumerate(seconds, 1):
        parts += [noise.normal(0, 1e-4, round(gap * 16000)).astype(np.float32), waves[number % 5]]
    return np.concatenate(parts)


@pytest.fixture(autouse=True)
def in_place(monkeypatch):
    monkeypatch.chdir(FIVE.parents[2])


def test_short_recordings_are_one_piece_unless_pauses_are_asked_for():
    wave = speech(1.0, 1.5)
    assert pieces_of(wave, 30) == [(0, len(wave))]
    pieces = pieces_of(wave, 30, 0.7)
    assert len(pieces) == 3
    first = len(read_audio(DataDir.read(FIVE).utts[0].source))
    assert first < pieces[0][1] < first + 16000
    assert len(pieces_of(wave, 30, 5.0)) == 1


def test_pieces_tile_the_recording_and_are_short_enough():
    wave = speech(*[0.8] * 30)
    for longest in (4.0, 10.0, 30.0):
        pieces = pieces_of(wave, longest)
        assert [start for start, _ in pieces] == [0, *(stop for _, stop in pieces[:-1])]
        assert pieces[-1][1] == len(wave)
        assert max(stop - start for start, stop in pieces) <= longest * 16000
        assert min(stop - start for start, stop in pieces) > 0.25 * 16000


@pytest.mark.parametrize("kind", ["silence", "noise", "click"])
def test_what_is_no_speech_is_not_cut_without_need(kind):
    wave = np.zeros(50 * 16000, np.float32)
    if kind == "noise":
        wave = np.random.default_rng(0).normal(0, 0.1, len(wave)).astype(np.float32)
    if kind == "click":
        wave[25 * 16000] = 1.0
    pieces = pieces_of(wave, 30)
    assert len(pieces) == 2
    assert pieces_of(wave[:16000], 30, 0.1) == [(0, 16000)]
    assert pieces_of(wave[:5], 30, 0.1) == [(0, 5)]
