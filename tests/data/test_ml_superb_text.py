"""Transcripts of ML-SUPERB: codes, tags, and the form in which CER is counted."""

from __future__ import annotations

import pytest

from s3router.data.ml_superb_text import language_code, scored_text, split_tag, tagged, training_text
from s3router.errors import DataError


@pytest.mark.parametrize(
    ("label", "utt", "code"),
    [
        ("eng", "cv_eng_000001", "eng"),
        ("org_jpn", "cv_org_jpn_000001", "jpn"),
        (" lga ", "x", "lug"),
        ("ory", "x", "ori"),
        ("arb", "x", "ara"),
        ("hin", "ms_speech_tam_000000042", "tam"),
        ("hin", "ms_speech_xyz_1", "hin"),
    ],
)
def test_the_codes_are_those_that_the_challenge_expects(label, utt, code):
    assert language_code(label, utt) == code


def test_the_language_stands_before_the_text():
    assert split_tag("[eng] I'll be there. \n") == ("eng", "I'll be there.")
    assert split_tag("[org_jpn]漢字") == ("org_jpn", "漢字")
    assert split_tag("[eng]") == ("eng", "")
    assert split_tag(tagged("fra", "[sic] oui")) == ("fra", "[sic] oui")
    with pytest.raises(DataError, match=r"not '\[iso\] text': 'eng hello'"):
        split_tag("eng hello")


@pytest.mark.parametrize(
    ("lang", "text", "scored", "training"),
    [
        ("eng", "I'll go - to the CMU, now.", "ILL GO  TO THE CMU NOW", "ILL GO TO THE CMU NOW"),
        ("cmn", "我 想去，餐厅。", "我想去餐厅", "我想去餐厅"),
        ("tha", "ก ข", "กข", "กข"),
        ("deu", "Straße 5 % ¿«ß»", "STRASSE 5  SS", "STRASSE 5 SS"),  # % is punctuation to Unicode (Po), € is not
        ("deu", "5 €", "5 €", "5 €"),
        ("eng", "...", "", ""),
        ("eng", ". .", " ", ""),
    ],
)
def test_punctuation_goes_and_letters_are_capitals(lang, text, scored, training):
    assert scored_text(text, lang) == scored
    assert training_text(text, lang) == training
