"""What is answered: OpenAI's JSON objects, plain text, and subtitles."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from s3router.data.audio import Seconds
from s3router.data.words import Word, joined
from s3router.server.catalogue import Found
from s3router.server.engine import Heard

LINE = 42
"""Characters of a subtitle."""


@dataclass(frozen=True)
class Segment:
    """One piece of a recording: where it lies, and what was heard."""

    start: Seconds
    end: Seconds
    heard: Heard


def text_of(segments: Sequence[Segment]) -> str:
    """The whole text."""
    written = [segment.heard for segment in segments if segment.heard.text]
    return "".join(blank_between(*pair) + pair[1].text for pair in itertools.pairwise((None, *written)))


def blank_between(before: Heard | None, after: Heard) -> str:
    """What parts the texts of two pieces: nothing within languages that are written without blanks."""
    return " " if before is not None and (before.spaced or after.spaced) else ""


def verbose(
    segments: Sequence[Segment], routes: Sequence[Found], seconds: Seconds, words: bool, timing: Mapping[str, float]
) -> dict[str, Any]:
    """OpenAI's verbose transcription; besides it ``route``, ``scores`` (of all candidates), and what it took.

    Args:
        segments: in their order, one at least.
        routes: the candidates.
        seconds: length of the recording.
        words: with the times of words.
        timing: milliseconds.
    """
    scores = _mean_scores(segments)
    spoken: dict[str, Seconds] = {}
    for segment in segments:
        spoken[segment.heard.route] = spoken.get(segment.heard.route, 0.0) + segment.end - segment.start
    route = max(spoken, key=lambda name: spoken[name])
    languages = {found.route: found.language or found.route for found in routes}
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": languages[route],
        "route": route,
        "duration": round(seconds, 3),
        "text": text_of(segments),
        "segments": [verbose_segment(number, segment, languages) for number, segment in enumerate(segments)],
        "scores": scores,
        "timing": {name: round(value, 1) for name, value in timing.items()},
        "usage": {"type": "duration", "seconds": math.ceil(seconds)},
    }
    if words:
        found["words"] = [asdict(word) for word in _words(segments)]
    return found


def verbose_segment(number: int, segment: Segment, languages: Mapping[str, str]) -> dict[str, Any]:
    """A segment as OpenAI has it. There is no temperature, and no estimate of how likely it is that nobody spoke."""
    heard = segment.heard
    encoded = heard.text.encode()
    return {
        "id": number,
        "seek": round(100 * segment.start),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": heard.text,
        "tokens": heard.tokens,
        "temperature": 0.0,
        "avg_logprob": _finite(heard.confidence),
        "compression_ratio": len(encoded) / len(zlib.compress(encoded)) if encoded else 0.0,
        "no_speech_prob": None,
        "language": languages[heard.route],
        "route": heard.route,
        "scores": {route: _finite(value) for route, value in heard.scores.items()},
    }


def subtitles(segments: Sequence[Segment], form: str) -> str:
    """SubRip (``srt``) or WebVTT (``vtt``)."""
    mark = "," if form == "srt" else "."
    escape = str if form == "srt" else _escaped
    cues = [(start, end, escape(text)) for segment in segments for start, end, text in _cues(segment)]
    blocks = [
        f"{number}\n{_clock(start, mark)} --> {_clock(end, mark)}\n{text}\n"
        for number, (start, end, text) in enumerate(cues, 1)
    ]
    if form == "srt":
        return "\n".join(blocks)
    return "\n".join(["WEBVTT\n", *(block.split("\n", 1)[1] for block in blocks)])


def _escaped(text: str) -> str:
    """As WebVTT writes it: ``<`` begins a tag there, ``&`` a character, and ``-->`` parts times."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _words(segments: Sequence[Segment]) -> Iterator[Word]:
    """With times from the beginning of the recording."""
    before = None
    for segment in segments:
        for number, word in enumerate(segment.heard.words or ()):
            start, end = (round(segment.start + time, 3) for time in (word.start, word.end))
            parted = word.spaced if number or before is None else bool(blank_between(before, segment.heard))
            yield replace(word, start=start, end=end, spaced=parted)
        before = segment.heard if segment.heard.words else before


def _cues(segment: Segment) -> Iterator[tuple[Seconds, Seconds, str]]:
    """(start, end, text) of subtitles: a line of words each."""
    line: list[Word] = []
    for word in _words([segment]):
        if line and len(joined([*line, word])) > LINE:
            yield line[0].start, line[-1].end, joined(line)
            line = []
        line.append(word)
    if line:
        yield line[0].start, line[-1].end, joined(line)


def _clock(seconds: Seconds, mark: str) -> str:
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _mean_scores(segments: Sequence[Segment]) -> dict[str, float | None]:
    """Means over the segments, by their lengths, the best first; None where a route wrote nothing anywhere."""
    means: dict[str, float | None] = {}
    for route in segments[0].heard.scores:
        pairs = [(segment.end - segment.start, segment.heard.scores[route]) for segment in segments]
        finite = [(length, score) for length, score in pairs if math.isfinite(score)]
        total = sum(length for length, _ in finite)
        if len(segments) == 1:  # the number itself, without rounding
            means[route] = _finite(pairs[0][1])
        else:
            means[route] = sum(length * score for length, score in finite) / total if finite else None
    return dict(sorted(means.items(), key=lambda item: -math.inf if item[1] is None else item[1], reverse=True))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
