"""Words with times: what a word is, punctuation and pauses, long recordings, and the same text as without."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from s3router.data.audio import SAMPLE_RATE, resample
from s3router.data.kaldi import Utterance
from s3router.data.words import Word, joined
from s3router.seq2seq.decode import Listening, listen
from s3router.seq2seq.generate import Heard
from s3router.seq2seq.windows import cut
from s3router.seq2seq.word_times import outside_pauses, timed_words
from s3router.upstreams.public import find_public
from s3router.upstreams.whisper_recogniser import load_recogniser
from tests.upstreams.whisper_files import TEXT


@pytest.fixture(scope="module")
def recogniser(whisper_folder):
    return load_recogniser("auto", str(whisper_folder))


@pytest.fixture(scope="module")
def tokenizer(recogniser):
    return recogniser.tokenizer


def words_of(tokenizer, text: str, spaced: bool = True) -> list[Word]:
    """Words of a text whose every token, a byte or a longer piece, lasts a second."""
    tokens = tokenizer.encode(text, add_special_tokens=False)
    return timed_words(tokenizer, tokens, [0.0] * len(tokens), list(range(len(tokens) + 1)), spaced)


def brief(words: list[Word]) -> list[tuple[str, float, float]]:
    return [(word.word, word.start, word.end) for word in words]


def test_blanks_part_words_and_punctuation_has_no_time(tokenizer):
    assert brief(words_of(tokenizer, " da, été ok.")) == [("da,", 1, 3), ("été", 5, 10), ("ok.", 11, 13)]
    assert brief(words_of(tokenizer, "va ? (oui) ¿no")) == [("va ?", 0, 2), ("(oui)", 6, 9), ("¿no", 13, 15)]
    assert brief(words_of(tokenizer, " « oui »")) == [("« oui »", 4, 7)]
    assert brief(words_of(tokenizer, "...")) == [("...", 0, 3)]
    assert words_of(tokenizer, " ") == words_of(tokenizer, "") == []


def test_words_of_a_language_without_blanks(tokenizer):
    words = words_of(tokenizer, "你好，「世界」ok。", spaced=False)
    assert brief(words[:4]) == [("你", 0, 3), ("好，", 3, 6), ("「世", 12, 15), ("界」", 15, 18)]
    assert brief(words[4:]) == [("o", 21, 22), ("k。", 22, 23)]
    assert [word.spaced for word in words] == [True, False, False, False, False, False]
    assert joined(words) == "你好，「世界」ok。"
    thai = words_of(tokenizer, "ที่ นี่", spaced=False)  # vowels and tones written onto a consonant
    assert [(word.word, word.spaced) for word in thai] == [("ที่", True), ("นี่", True)]


def test_probabilities_are_those_of_the_spoken_tokens(tokenizer):
    tokens = tokenizer.encode("ab.", add_special_tokens=False)
    scores = [math.log(value) for value in (0.5, 0.125, 0.9)]
    (word,) = timed_words(tokenizer, tokens, scores, [0, 1, 2, 3])
    assert word.probability == pytest.approx(0.25)


@pytest.mark.parametrize("spaced", [True, False])
def test_any_tokens_give_the_words_of_their_text(tokenizer, recogniser, spaced):
    """Broken characters, times and the end of the text among them."""
    generator = torch.Generator().manual_seed(0)
    others = [TEXT, recogniser.model.config.vocab_size - 5]
    for _ in range(100):
        drawn = torch.randint(TEXT + 10, (30,), generator=generator).tolist()
        tokens = [token if token < TEXT else others[token % 2] for token in drawn]
        words = timed_words(tokenizer, tokens, [0.0] * 30, list(range(31)), spaced)
        assert joined(words) == " ".join(tokenizer.decode(tokens, skip_special_tokens=True).split())
        assert all(word.start < word.end for word in words)


def test_words_begin_and_end_where_somebody_speaks():
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * SAMPLE_RATE)
    noise[:8000] = noise[16000:32000] = 0
    given = [("a", 0.0, 0.7), ("b", 0.7, 1.6), ("c", 1.6, 2.4), ("d", 1.2, 1.6), ("e", 0.9, 2.2)]
    found = outside_pauses([Word(word, start, end, 1.0) for word, start, end in given], noise)
    wanted = [("a", 0.5, 0.7), ("b", 0.7, 1.0), ("c", 2.0, 2.4), ("d", 1.2, 1.6), ("e", 0.9, 2.2)]
    assert [word.word for word in found] == list("abcde")
    for word, (_, start, end) in zip(found, wanted, strict=True):
        assert (word.start, word.end) == pytest.approx((start, end), abs=0.011)
    assert outside_pauses([Word("a", 0.0, 0.02, 1.0)], noise[:40])[0].end == 0.02  # no frame at all


def test_words_take_the_form_of_the_text(recogniser):
    tokens = recogniser.tokenizer.encode(" Dix 2 ♪ fois, n'est-ce?", add_special_tokens=False)
    heard = Heard(tokens, "", 0.0, False, [0.0] * len(tokens), [0.01 * n for n in range(len(tokens) + 1)])
    loud = torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    found = {
        rules: [word.word for word in Listening("fr", 6.0, rules).words(recogniser, loud, heard)]
        for rules in ("none", "prompts")
    }
    assert found["none"] == ["Dix", "2 ♪", "fois,", "n'est-ce?"]
    assert found["prompts"] == ["dix", "deux", "fois", "n'est ce"]


def heard(recogniser, waves: list[np.ndarray], timed=(), **how):
    utts = [Utterance("", "", duration=len(wave) / SAMPLE_RATE) for wave in waves]
    listening = Listening("fr", 9.0, **how)
    found = dict(listen(recogniser, utts, listening, read=lambda index: waves[index], timed=timed))
    return [found[index] for index in range(len(waves))]


def test_times_change_nothing_else_and_are_the_same_again(recogniser):
    waves = [np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32) for n in (20000, 40000, 70000, 16000)]
    plain = heard(recogniser, waves, batch_seconds=10.0)
    timed = heard(recogniser, waves, range(4), batch_seconds=10.0)
    for one, other in zip(plain, timed, strict=True):
        assert one.words is None
        assert other.words
        assert (one.text, one.confidence, one.tokens) == (other.text, other.confidence, other.tokens)
        assert joined(other.words) == one.text
    assert heard(recogniser, waves, range(4), batch_seconds=10.0) == timed
    beam = heard(recogniser, waves[:1], [0], beam_size=2)
    assert joined(beam[0].words) == beam[0].text


def test_only_batches_with_a_wish_for_times_have_them(recogniser, monkeypatch):
    from s3router.seq2seq import generate

    passes = []
    real = generate.token_times
    monkeypatch.setattr(generate, "token_times", lambda *args: passes.append(len(args[3])) or real(*args))
    waves = [np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32) for n in (20000, 90000)]  # two windows
    first, second = heard(recogniser, waves, [1])
    assert (first.words, passes) == (None, [1])
    assert second.words


def test_times_in_long_recordings_are_from_their_beginning(recogniser):
    noise = np.random.default_rng(0).normal(0, 0.1, 41 * SAMPLE_RATE).astype(np.float32)
    noise[25 * SAMPLE_RATE : 26 * SAMPLE_RATE] = 0
    (found,) = heard(recogniser, [noise], [0])
    pieces = [piece.numpy() for piece in cut(torch.from_numpy(noise))]
    wanted, before = [], 0.0
    for piece in pieces:
        (one,) = heard(recogniser, [piece], [0])
        wanted += [(word.word, before + word.start, before + word.end) for word in one.words]
        before += len(piece) / SAMPLE_RATE
    assert len(pieces) == found.pieces == 2
    assert brief(found.words) == wanted
    assert found.words[-1].start > 25


@pytest.mark.skipif(not find_public("whisper_base").present(), reason="s3router upstream fetch whisper_base")
def test_two_sentences_with_a_second_of_silence_between():
    """By whisper_base as published, on espeak-ng's speech."""
    from s3router.data.espeak import synthesize

    def say(text: str) -> np.ndarray:
        samples, rate = synthesize(text, "en-us")
        return resample(np.asarray(samples, np.float32), rate, SAMPLE_RATE)

    silence = np.zeros(SAMPLE_RATE, np.float32)
    first, second = say("The mountains are cold tomorrow."), say("We have new messages in the evening.")
    wave = np.concatenate([silence, first, silence, second])
    utt = Utterance("", "", duration=len(wave) / SAMPLE_RATE)
    how = Listening("en", 6.0, "prompts", window_step=30.0)
    ((_, found),) = listen(load_recogniser("whisper_base"), [utt], how, read=lambda _: wave, timed=[0])
    begin = 2 + len(first) / SAMPLE_RATE
    words = {word.word: word for word in found.words}
    assert joined(found.words) == found.text
    assert words["tomorrow"].end < begin - 1
    assert found.words[0].start >= 1
    assert all(one.start < one.end <= other.start for one, other in itertools.pairwise(found.words))
    behind = [word for word in found.words if word.start > words["tomorrow"].start]
    assert behind[0].start >= begin - 0.01  # a frame of loudness
    assert begin < behind[1].start  # which word it is depends on espeak-ng's settings, which a process keeps
