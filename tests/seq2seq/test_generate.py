"""Decoding: windows, limits, batches, cuts, and the form of hypotheses."""

from __future__ import annotations

import pytest
import torch

from s3router.data.audio import SAMPLE_RATE
from s3router.data.hypotheses import tidy
from s3router.data.kaldi import Utterance
from s3router.data.words import Word, joined
from s3router.errors import ConfigError
from s3router.seq2seq.decode import Listening, listen
from s3router.seq2seq.generate import Heard, token_limit, transcribe_batch
from s3router.seq2seq.utterances import WindowSampler
from s3router.seq2seq.windows import cut, window_of
from s3router.upstreams.whisper import WINDOW
from s3router.upstreams.whisper_recogniser import load_recogniser


@pytest.fixture(scope="module")
def recogniser(whisper_folder):
    return load_recogniser("auto", str(whisper_folder))


def waves(*seconds: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(round(s * SAMPLE_RATE), generator=generator) / 10 for s in seconds]


def test_windows_are_multiples_of_five_seconds_with_room_for_silence():
    seconds = {0.1: 5, 4.5: 5, 4.6: 10, 9.5: 10, 27.0: 30, 29.9: 30, 30.0: 30}
    assert {s: window_of(round(s * SAMPLE_RATE)) / SAMPLE_RATE for s in seconds} == seconds
    assert window_of(SAMPLE_RATE, 30.0) == WINDOW


def test_a_long_recording_is_cut_in_its_pause():
    wave = torch.cat([*waves(24), torch.zeros(SAMPLE_RATE), *waves(20)])
    first, second = cut(wave)
    assert 24 * SAMPLE_RATE < len(first) < 25 * SAMPLE_RATE
    assert torch.equal(torch.cat((first, second)), wave)
    assert [len(piece) for piece in cut(wave[:WINDOW])] == [WINDOW]


def test_tokens_are_limited_by_the_length_of_an_utterance():
    assert token_limit(2.0, 5.0, 400) == 18
    assert token_limit(100.0, 50.0, 400) == 400


def test_what_is_heard_does_not_depend_on_the_batch(recogniser):
    given = waves(1.0, 2.5, 4.0)
    together = transcribe_batch(recogniser, given, "fr", 6.0, window_of(len(given[-1])))
    for wave, found in zip(given, together, strict=True):
        (alone,) = transcribe_batch(recogniser, [wave], "fr", 6.0, window_of(len(wave)))
        assert alone.tokens == found.tokens
        assert (alone.text, alone.limited) == (found.text, found.limited)
        assert alone.confidence == pytest.approx(found.confidence, abs=1e-4)
        assert len(found.tokens) <= token_limit(len(wave) / SAMPLE_RATE, 6.0, 400)
        assert not found.limited or len(found.tokens) == token_limit(len(wave) / SAMPLE_RATE, 6.0, 400)


@torch.no_grad()
def test_it_is_the_best_token_of_the_model_step_by_step(recogniser):
    (wave,) = waves(2.0)
    window = window_of(len(wave))
    (found,) = transcribe_batch(recogniser, [wave], "it", 3.0, window)
    model, settings = recogniser.model, recogniser.model.generation_config
    features = recogniser.log_mel(torch.nn.functional.pad(wave, (0, window - len(wave))))[None]
    tokens, total = recogniser.prompt("it"), 0.0
    for step in range(len(found.tokens) + (not found.limited)):
        scores = model(features, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
        scores[list(settings.suppress_tokens or [])] = -torch.inf
        if step == 0:
            scores[list(settings.begin_suppress_tokens or [])] = -torch.inf
        log_probs = scores.log_softmax(-1)
        best = int(log_probs.argmax())
        total += float(log_probs[best])
        tokens.append(best)
    assert tokens[4 : 4 + len(found.tokens)] == found.tokens
    assert found.confidence == pytest.approx(total / (len(found.tokens) + (not found.limited)), abs=1e-4)


def test_a_beam_finds_what_is_at_least_as_likely(recogniser):
    given, window = waves(1.0, 2.0), window_of(2 * SAMPLE_RATE)
    greedy = transcribe_batch(recogniser, given, "fr", 6.0, window)
    beam = transcribe_batch(recogniser, given, "fr", 6.0, window, beam_size=4)
    for one, other in zip(greedy, beam, strict=True):
        assert other.confidence >= one.confidence - 1e-4


@pytest.mark.parametrize(("language", "text"), [("zh", "今天你好"), ("fr", "今天 你好")])
def test_pieces_of_a_recording_are_joined_as_the_language_is_written(recogniser, monkeypatch, language, text):
    heard = iter([Heard([1], " 今天", -0.1, False), Heard([1], "你好", -0.1, False)])
    said = [[Word("今天", 0.0, 1.0, 1.0)], [Word("你好", 0.0, 1.0, 1.0)]]
    monkeypatch.setattr(Listening, "transcribe", lambda *_: [next(heard)])
    monkeypatch.setattr(Listening, "words", lambda *_: said.pop(0))
    utt = Utterance("a", "a.wav", duration=31.0)
    [(_, found)] = listen(
        recogniser, [utt], Listening(language, 10.0), read=lambda _: waves(31.0)[0].numpy(), timed=(0,)
    )
    assert (found.text, joined(found.words)) == (text, text)
    assert found.words[1].start > 10


def test_a_wave_longer_than_its_window_and_unknown_languages_are_refused(recogniser):
    with pytest.raises(ConfigError, match="does not fit a window"):
        transcribe_batch(recogniser, waves(6), "fr", 6.0, 5 * SAMPLE_RATE)
    with pytest.raises(ConfigError, match="language 'xx' is none"):
        transcribe_batch(recogniser, waves(2), "xx", 6.0, 5 * SAMPLE_RATE)


def test_batches_have_similar_windows_and_epochs_their_own_order():
    windows = [5, 30] * 16
    sampler = WindowSampler(windows, 4, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert sorted(first) == sorted(sampler) == list(range(32))
    assert list(sampler) != first
    mixed = [at for at in range(0, 32, 4) if len({windows[i] for i in first[at : at + 4]}) > 1]
    assert len(mixed) <= 2  # one for each part of the order within which it sorts
    again = WindowSampler(windows, 4, seed=0)
    assert list(again) == first


@pytest.mark.parametrize(
    ("text", "rules", "lang", "wanted"),
    [
        (" Vous avez 12 messages, n'est-ce pas ?", "prompts", "fr", "vous avez douze messages n'est ce pas"),
        ("¿Cómo está, señor?", "prompts", "es", "como esta señor"),
        ("ọrọ Orísun, 5.", "sentences", "yo", "ọrọ orísun"),
        ("Ça va  BIEN", "none", "fr", "Ça va BIEN"),
        ("50% of $3", "prompts", "en", "fifty percent of three"),
        (
            "the 15th of 1,234 files, 2.5 MB",
            "prompts",
            "en",
            "the fifteenth of one thousand two hundred and thirty four files two point five mb",
        ),
        ("Agent 007, at 12:30", "prompts", "en", "agent zero zero seven at twelve thirty"),
        ("1.2.3 and 70F, 0", "prompts", "en", "one two three and seventy f zero"),
        (
            "Le 1er, le 2e: 1 000 ou 1.000, 2,5 %",
            "prompts",
            "fr",
            "le premier le deuxième mille ou mille deux virgule cinq pour cent",
        ),
        ("2.5 et " + "12 " * 9, "prompts", "fr", "deux virgule cinq et" + " douze" * 9),
        ("10 ex. et 1\u202f000", "prompts", "fr", "dix ex et mille"),
        ("il 3º piano, 1.500 euro", "prompts", "it", "il terzo piano millecinquecento euro"),
        ("2-й, 100 %", "prompts", "ru", "второй сто процентов"),
        ("привет", "prompts", "en", "привет"),
        ("", "sentences", "fr", ""),
        ("Наберите " + "1" * 40, "prompts", "ru", "наберите"),
        ("በ 123456", "sentences", "am", "በ"),
        ("Ọ̀rọ̀ ẹ̀kọ́ 2%", "sentences", "yo", "ọ̀rọ̀ ẹ̀kọ́"),
        ("हिन्दी में 50% बात", "sentences", "hi", "हिन्दी में बात"),
    ],
)
def test_hypotheses_take_the_form_of_references(text, rules, lang, wanted):
    assert tidy(text, rules, lang) == wanted
