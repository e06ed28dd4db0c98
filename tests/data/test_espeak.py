"""Phonemes and speech of espeak-ng."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from s3router.data import espeak
from s3router.data.languages import LANGUAGES
from s3router.errors import ConfigError, DataError

# As phoneticians write them (espeak-ng's own choices of symbols aside): not copied from its output.
WORDS = [
    ("nl", "ja", "j aː"),
    ("es", "señor", "s e ɲ o ɾ"),
    ("it", "città", "tʃ i tː a"),
    ("tr", "ışık", "ɯ ʃ ɯ k"),
    ("ru", "щука", "ɕ u k a"),
    ("en-us", "sheep", "ʃ iː p"),
]


@pytest.mark.parametrize(("voice", "word", "phones"), WORDS)
def test_phonemes(voice: str, word: str, phones: str):
    assert str(espeak.phonemize(word, voice)) == phones


@pytest.mark.parametrize("locale", sorted(LANGUAGES))
def test_every_language_of_the_recipe_has_a_voice(locale: str):
    assert espeak.has_voice(LANGUAGES[locale].voice)


def test_words_clauses_and_stress():
    found = espeak.phonemize("mijn naam, is jan. een huis", "nl")
    assert len(found.words) == 6  # commas and stops end clauses, and none is lost
    assert not set(str(found)) & set("ˈˌ_()-")
    assert found.foreign == ()


def test_tones_stay_and_traditional_characters_are_known():
    assert str(espeak.phonemize("天氣", "cmn")) == str(espeak.phonemize("天气", "cmn"))
    assert any(phone[-1].isdigit() for word in espeak.phonemize("天气", "cmn").words for phone in word)


def test_a_switch_of_language_is_told():
    found = espeak.phonemize("卡拉ok", "cmn")
    assert found.foreign == ("en",)
    assert "(" not in str(found)
    assert "k" in str(found).split()


def test_what_cannot_be_spoken():
    with pytest.raises(DataError, match="nothing to say"):
        espeak.phonemize("...", "nl")
    with pytest.raises(DataError, match="nothing to say"):
        espeak.synthesize("...", "nl")
    with pytest.raises(ConfigError, match="no voice 'xx'"):
        espeak.phonemize("a", "xx")
    assert not espeak.has_voice("xx")
    assert str(espeak.phonemize("ja", "nl")) == "j aː"  # and the next call is none the worse


def test_threads_do_not_see_each_others_voice():
    expected = {voice: str(espeak.phonemize(word, voice)) for voice, word, _ in WORDS}
    wrong: list[str] = []

    def work(voice: str, word: str) -> None:
        for _ in range(50):
            if str(espeak.phonemize(word, voice)) != expected[voice]:
                wrong.append(voice)

    threads = [threading.Thread(target=work, args=(voice, word)) for voice, word, _ in WORDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_speech():
    short, rate = espeak.synthesize("ja", "nl+f2")
    long, _ = espeak.synthesize("ja ja ja ja ja ja", "nl+f2")
    slow, _ = espeak.synthesize("ja ja ja ja ja ja", "nl+f2", words_per_minute=90)
    assert rate >= 16000
    assert short.dtype == np.float32
    assert 0.05 < np.abs(short).max() <= 1
    assert 0.1 * rate < len(short) < len(long) < len(slow)
