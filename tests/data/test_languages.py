"""Normalisation of read sentences, language by language."""

from __future__ import annotations

import unicodedata

import pytest

from s3router.data.languages import LANGUAGES, language, normalize
from s3router.errors import ConfigError, DataError

CASES = [
    ("en", "“Don’t” – he said: it's Zoë’s, OK?", "don't he said it's zoe's ok"),
    ("en", "‘Quoted words’ and the dogs' bones", "quoted words and the dogs bones"),
    ("en", "Well-known…  naïve", "well known naive"),
    ("nl", "'s Avonds gaat ‘Jan’ naar foto's van Ĳsland.", "'s avonds gaat jan naar foto's van ijsland"),
    ("nl", "Zet ’t raam open: één, coöperatie", "zet 't raam open één coöperatie"),
    ("nl", "'Hallo daar,' zei hij.", "hallo daar zei hij"),
    ("zh-CN", "今天，天气 很好！", "今天天气很好"),
    ("zh-CN", "卡拉ＯＫ 很 好", "卡拉ok 很好"),
    ("zh-TW", "三個人 在 臺灣。", "三個人在臺灣"),
    ("es", "¿Qué pasó? ¡Año nuevo, pingüino!", "qué pasó año nuevo pingüino"),
    ("es", "Pero l'Hospitalet", "pero lhospitalet"),
    ("tt", "Җылы һава — ЭШ, ңә!", "җылы һава эш ңә"),
    ("ru", "Ёлка — кто-то «Йод»", "ёлка кто то йод"),
    ("it", "L’amico è un po' stanco: perché?", "l'amico è un po stanco perché"),
    ("ky", "Жаңы Үй — Өзгөчө", "жаңы үй өзгөчө"),
    ("tr", "Türkiye’de IŞIK, İyi ısı", "türkiyede ışık iyi ısı"),
    ("tr", "KAĞIT İSTANBUL'DA DİKİŞ", "kağıt istanbulda dikiş"),
    ("sv-SE", "Åsa's Ö — Café", "åsas ö café"),
    ("fr", "Aujourd’hui, l'œuvre d'Éric : est-ce vrai ?", "aujourd'hui l'œuvre d'éric est ce vrai"),
    ("fr", "ﬁn de l’année", "fin de l'année"),
    ("be", "Сям’я — Ўсё, і Ганна!", "сям'я ўсё і ганна"),
    ("bg", "Йод и Щъркел…", "йод и щъркел"),
    ("ca", "L’ànec d'en Lluís; què? Pingüí", "l'ànec d'en lluís què pingüí"),
    ("da", "Årets Æble — Øl på Café", "årets æble øl på café"),
    ("el", "ΟΔΟΣ; Προΐσταμαι: «Ϋψος»", "οδος προΐσταμαι ϋψος"),
    ("ro", "Țară și Înălțime, Â!", "țară și înălțime â"),
    # languages without rules of their own
    ("de", "Straße: GRÖSSE!", "straße grösse"),
    ("uk", "П'ять ’слів’", "п'ять слів"),
    ("hi", "हिन्दी में।", "हिन्दी में"),
    ("az", "İLIQ", "ilıq"),
    ("ro", "O maşină şi o ţară", "o mașină și o țară"),
    ("yo", "ọ̀'bẹ", "ọ̀'bẹ"),
    ("yo", "❤️ bawo ni", "bawo ni"),
    ("hi", "हिन्दी'में", "हिन्दी'में"),
]


@pytest.mark.parametrize(("locale", "text", "expected"), CASES)
def test_sentences(locale: str, text: str, expected: str):
    assert normalize(text, locale) == expected
    assert normalize(expected, locale) == expected  # nothing is left to do
    assert normalize(unicodedata.normalize("NFD", text), locale) == expected  # nor do composed letters matter


def test_every_language_of_the_table_has_a_case():
    assert set(LANGUAGES) == {locale for locale, *_ in CASES if locale in LANGUAGES}


@pytest.mark.parametrize("locale", sorted(LANGUAGES))
def test_what_is_not_seen_is_removed(locale: str):
    letters = "字符" if locale.startswith("zh") else LANGUAGES[locale].alphabet[:2]
    assert normalize(f"\ufeff{letters[0]}\u200b\u00ad{letters[1]}\u200e", locale) == letters


@pytest.mark.parametrize("locale", sorted(LANGUAGES))
def test_every_letter_is_its_own_lower_case(locale: str):
    rules = LANGUAGES[locale]
    assert len(set(rules.alphabet)) == len(rules.alphabet)
    for letter in rules.alphabet:
        assert normalize(letter, locale) == letter
        if letter == "ς":
            continue  # at the end of a word; its capital is that of σ
        upper = "İ" if rules.turkic_i and letter == "i" else letter.upper()
        assert normalize(upper, locale) == letter


@pytest.mark.parametrize(
    ("locale", "text", "reason"),
    [
        ("en", "12 men", "digits"),
        ("en", "½ litre", "digits"),
        ("hi", "१२ लोग", "digits"),
        ("zh-CN", "第3个", "digits"),
        ("en", "Smith & Sons", "symbols: & may be read aloud"),
        ("de", "viele €", "symbols: €"),
        ("zh-CN", "百分之百％", "symbols: %"),
        ("ru", "слово word", r"outside the alphabet: w \(U\+0077\)"),
        ("es", "слово", "outside the alphabet"),
        ("zh-TW", "안녕 你好", "outside the alphabet"),
        ("en", "...", "no words"),
        ("fr", " ’ ", "no words"),
        ("en", "", "no words"),
    ],
)
def test_refused_with_a_reason(locale: str, text: str, reason: str):
    with pytest.raises(DataError, match=f"^{reason}"):
        normalize(text, locale)


@pytest.mark.parametrize("name", ["", "x", "../nl", "nl;rm", "1"])
def test_names_that_are_no_locale(name: str):
    with pytest.raises(ConfigError, match="is not a locale"):
        language(name)


def test_voices():
    voices = {name: language(name).voice for name in ("zh-TW", "sv-SE", "en", "de", "pt", "zh-HK", "nn-NO")}
    assert voices == {
        "zh-TW": "cmn",
        "sv-SE": "sv",
        "en": "en-us",
        "de": "de",
        "pt": "pt",
        "zh-HK": "yue",
        "nn-NO": "nb",
    }
