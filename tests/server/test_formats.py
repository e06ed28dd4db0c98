"""What is answered, without a server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi", reason="tools/setup.sh --with-serve")

from s3router.data.words import Word
from s3router.server.engine import Heard
from s3router.server.formats import Segment, subtitles, text_of, verbose


def test_what_webvtt_would_take_for_its_own_is_escaped():
    words = [Word(word, number, number + 0.5, 1.0) for number, word in enumerate(("<unk>", "R&B", "-->"))]
    segments = [Segment(0.0, 3.0, Heard("it", "<unk> R&B -->", [], -0.1, {"it": -0.1}, True, words, 0.0, 0.0))]
    times = "00:00:00{0}000 --> 00:00:02{0}500\n"
    assert subtitles(segments, "vtt") == f"WEBVTT\n\n{times.format('.')}&lt;unk&gt; R&amp;B --&gt;\n"
    assert subtitles(segments, "srt") == f"1\n{times.format(',')}<unk> R&B -->\n"


def test_pieces_of_languages_without_blanks_have_none_between_them():
    def segment(start: float, route: str, text: str) -> Segment:
        words = [Word(text, 0.1, 0.9, 1.0)] if text else []
        heard = Heard(route, text, [], -0.1, {"it": -0.1, "zh": -0.1}, route == "it", words, 0.0, 0.0)
        return Segment(start, start + 1.0, heard)

    texts = (("zh", "大"), ("zh", ""), ("zh", "家"), ("it", "ciao"), ("it", "mondo"), ("zh", "好"))
    segments = [segment(float(start), *what) for start, what in enumerate(texts)]
    assert text_of(segments) == "大家 ciao mondo 好"
    routes = [SimpleNamespace(route=route, language=route) for route in ("it", "zh")]
    found = verbose(segments, routes, 6.0, words=True, timing={})
    assert [word["spaced"] for word in found["words"]] == [True, False, True, True, True]
    assert (found["words"][-1]["start"], found["words"][-1]["end"]) == (5.1, 5.9)
