"""What is answered, without a server."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="tools/setup.sh --with-serve")

from s3router.data.words import Word
from s3router.server.engine import Heard
from s3router.server.formats import Segment, subtitles


def test_what_webvtt_would_take_for_its_own_is_escaped():
    words = [Word(word, number, number + 0.5, 1.0) for number, word in enumerate(("<unk>", "R&B", "-->"))]
    segments = [Segment(0.0, 3.0, Heard("it", "<unk> R&B -->", [], -0.1, {"it": -0.1}, words, 0.0, 0.0))]
    times = "00:00:00{0}000 --> 00:00:02{0}500\n"
    assert subtitles(segments, "vtt") == f"WEBVTT\n\n{times.format('.')}&lt;unk&gt; R&amp;B --&gt;\n"
    assert subtitles(segments, "srt") == f"1\n{times.format(',')}<unk> R&B -->\n"
