"""What `s3router.Router` gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from s3router.data.audio import Seconds
from s3router.data.words import Word


@dataclass(frozen=True)
class Transcription:
    """What was heard in one recording.

    Attributes:
        text: the transcript.
        route: the route that wrote it: the one that was asked for, or the surest.
        language: code of its language, where the pack tells it.
        confidence: log probability per token (docs/routing.md); minus infinity where nothing was written.
        seconds: length of the recording.
        source: the path, or what the recording was called.
        scores: of ``auto``, every candidate and its score, the best first (`s3router.serving.transcribe.Ranking`, or
            the log probabilities of a language classifier).
        words: with times, where they were asked for.
    """

    text: str
    route: str
    language: str | None
    confidence: float
    seconds: Seconds
    source: str
    scores: Mapping[str, float] = field(default_factory=dict)
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True)
class Classification:
    """What one route makes of one recording.

    Attributes:
        label: the most probable one; the parts of a label with several slots have `` ; `` between them.
        confidence: its probability.
        route: the task's name.
        seconds: length of the recording.
        source: the path, or what the recording was called.
        labels: the most probable ones and their probabilities, the best first; as many as were asked for.
    """

    label: str
    confidence: float
    route: str
    seconds: Seconds
    source: str
    labels: tuple[tuple[str, float], ...]
