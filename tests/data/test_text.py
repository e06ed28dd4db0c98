from __future__ import annotations

import pytest

from s3router.data.text import ALPHABETS, normalize
from s3router.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("lang", "raw", "expected"),
    [
        (
            "en",
            'Press 1 to mute, 2-3 to "unmute"; it\'s Waldo’s.',
            "press one to mute two three to unmute it's waldo's",
        ),
        ("en", "Dial 5 to a polite 'don't call' menu", "dial five to a polite don't call menu"),
        ("en", "3D audio at [@] 20", "three d audio at twenty"),
        ("es", "¿Está en la contraseña número 21?", "esta en la contraseña numero veintiuno"),
        ("fr", "“Cœur”, appuyez sur 1 – l’été, ÉCHEC…", "coeur appuyez sur un l'été échec"),
        ("it", "L’utente: e' in uso. Perché? C'è un po' di 8", "l'utente è in uso perché c'è un po' di otto"),
        ("ru", "Нажмите «решётку» - ещё 2!", "нажмите решетку еще два"),
    ],
)
def test_normalised(lang, raw, expected):
    text = normalize(raw, lang)
    assert text == expected
    assert set(text) <= set(ALPHABETS[lang]) | {" "}
    assert normalize(text, lang) == text, "normalising twice changes nothing"


@pytest.mark.parametrize(
    ("lang", "raw", "reason"),
    [
        ("en", "[ascending tones]", "not speech"),
        ("en", "(10 seconds of silence)", "not speech"),
        ("en", "<beep>.", "not speech"),
        ("en", "", "not speech"),
        ("en", " ... ", "not speech"),
        ("en", "IAX (note: does not say 2)", "ambiguous"),
        ("en", "press * now", "no single reading"),
        ("en", "press # now", "no single reading"),
        ("en", "a 28.8 kilobit modem", "no single reading"),
        ("ru", "первoe", "no single reading: e o"),
        ("it", "La conferenza ? piena.", "damaged"),
        ("it", "non pu? essere", "damaged"),
    ],
)
def test_refused(lang, raw, reason):
    with pytest.raises(DataError, match=f"^{reason}"):
        normalize(raw, lang)


def test_unknown_language():
    with pytest.raises(ConfigError, match="'de'; known: en, es, fr, it, ru"):
        normalize("hallo", "de")
