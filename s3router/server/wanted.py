"""What a request for a transcription asks for, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile

from s3router.data.audio import Seconds
from s3router.errors import ConfigError
from s3router.server.catalogue import Catalogue, Found
from s3router.server.refusal import Refusal
from s3router.serving.choice import AUTO
from s3router.serving.pauses import PAUSE

SUBTITLES = ("srt", "vtt")
FORMATS = ("json", "text", "verbose_json", *SUBTITLES)
GRANULARITIES = ("segment", "word")
_READ = (
    "file",
    "model",
    "candidates",
    "language",
    "response_format",
    "timestamp_granularities",
    "chunking_strategy",
    "stream",
)
_IGNORED = (
    "prompt",
    "temperature",
    "include",
    "keywords",
    "languages",
    "known_speaker_names",
    "known_speaker_references",
)
"""Fields of OpenAI's that change nothing here: decoding is greedy, and knows no prompts."""
_LISTS = ("candidates", "timestamp_granularities", *_IGNORED[2:])
_ITEM = re.compile(rf"({'|'.join(_LISTS)})\[\d*\]")  # as clients write one: name[], or name[0]
_PART = re.compile(r"chunking_strategy\[(\w+)\]")
_STRATEGY = 1000  # characters of a chunking_strategy


@dataclass(frozen=True)
class Wanted:
    """A transcription to be made.

    Attributes:
        upload: the recording.
        model: what was asked for: a route, or ``auto``.
        routes: the candidates, one at least.
        form: one of `FORMATS`.
        words: with times of words in the answer.
        pause: cut the recording in all pauses of this length; None: only if it is long.
        stream: send the text of each piece as soon as it is there.
    """

    upload: UploadFile
    model: str
    routes: tuple[Found, ...]
    form: str
    words: bool
    pause: Seconds | None
    stream: bool

    @property
    def timed(self) -> bool:
        """Whether times of words are needed: for the answer, or for the lines of subtitles."""
        return self.words or self.form in SUBTITLES

    @classmethod
    def of(cls, form: FormData, catalogue: Catalogue, languages: Collection[str] | None = None) -> Wanted:
        """Read the fields of a request. Raises Refusal for what is missing, unknown or contradictory.

        Args:
            languages: the routes that ``auto`` can tell apart; None: all.
        """
        fields: dict[str, list] = {}
        for name, value in form.multi_items():
            item = _ITEM.fullmatch(name)
            fields.setdefault(item[1] if item else name, []).append(value)
        if unknown := [name for name in fields if name not in (*_READ, *_IGNORED) and not _PART.fullmatch(name)]:
            raise _wrong(unknown[0], f"unknown field {unknown[0]!r}; known: {', '.join(_READ)}")
        upload = (fields.get("file") or [None])[0]
        if not isinstance(upload, UploadFile):
            raise _wrong("file", "file is missing: upload a recording, as multipart/form-data")
        if others := [name for name, values in fields.items() if name != "file" and UploadFile in map(type, values)]:
            raise _wrong(others[0], f"{others[0]} is a file, and should be text")
        one = {name: str(values[-1]) for name, values in fields.items() if name != "file"}
        if not one.get("model"):
            raise _wrong("model", f"model is missing: name a route, or {AUTO}; GET /v1/models lists them")
        candidates = [name for value in fields.get("candidates", ()) for name in str(value).split(",") if name.strip()]
        routes = choose(catalogue, one["model"], [name.strip() for name in candidates], one.get("language") or None)
        lacking = [found.route for found in routes if languages is not None and found.route not in languages]
        if lacking and len(routes) > 1:
            message = (
                f"the server's language classifier does not know {', '.join(lacking)}; name candidates that it knows"
            )
            raise _wrong("candidates", f"{message}: {', '.join(languages or ())}")
        shape = _one_of("response_format", one.get("response_format", "json"), FORMATS)
        granularities = {
            _one_of("timestamp_granularities", str(value), GRANULARITIES)
            for value in fields.get("timestamp_granularities", ())
        }
        words = "word" in granularities
        if words and shape != "verbose_json":
            raise _wrong("timestamp_granularities", "times of words come with response_format verbose_json only")
        stream = _one_of("stream", one.get("stream", "false").lower(), ("true", "false")) == "true"
        if stream and shape in ("text", *SUBTITLES):
            raise _wrong("stream", f"a stream is of response_format json or verbose_json, not {shape}")
        return cls(upload, one["model"], routes, shape, words, _pause(fields), stream)


def choose(catalogue: Catalogue, model: str, candidates: Sequence[str], language: str | None) -> tuple[Found, ...]:
    """The candidates of a request, each once.

    A language never overrides a route: a route of another one is refused. With ``auto`` it leaves the routes of that
    language.

    Raises:
        Refusal: unknown routes, routes that write no text, or none of that language.
    """
    known = {route: found for route, found in catalogue.routes.items() if found.transcribes}
    if model != AUTO:
        if candidates:
            raise _wrong("candidates", f"candidates are for model {AUTO}, not for {model}")
        found = _known(catalogue, model, "model")
        if language is not None and found.language is not None and _code(language) != found.language:
            raise _wrong(
                "language",
                f"route {model} is for {found.language}, not {language}; take another route, or model {AUTO}",
            )
        return (found,)
    chosen = [_known(catalogue, name, "candidates") for name in dict.fromkeys(candidates)] or list(known.values())
    if language is not None:
        spoken = sorted({found.language for found in chosen if found.language})
        chosen = [found for found in chosen if found.language == _code(language)]
        if not chosen:
            raise _wrong("language", f"no route is for {language}; there are routes for {', '.join(spoken) or 'none'}")
    if not chosen:
        raise Refusal(404, "no route here writes text", "model_not_found", "model")
    return tuple(chosen)


def _known(catalogue: Catalogue, name: str, param: str) -> Found:
    try:
        found = catalogue.route(name)
    except ConfigError as error:
        raise Refusal(404, str(error), "model_not_found", param) from None
    if not found.transcribes:
        raise _wrong(param, f"route {name} gives labels and no text")
    return found


def _code(language: str) -> str:
    return language.lower().replace("_", "-").split("-")[0]


def _pause(fields: dict[str, list]) -> Seconds | None:
    """OpenAI's ``chunking_strategy``: ``auto``, or an object as JSON or as fields ``chunking_strategy[…]``."""
    given = str((fields.get("chunking_strategy") or [""])[-1])
    parts = {part[1]: values[-1] for name, values in fields.items() if (part := _PART.fullmatch(name))}
    if given in ("", "null") and not parts:
        return None
    if given == "auto":
        return PAUSE
    try:
        if len(given) > _STRATEGY:
            raise ValueError
        settings = parts or json.loads(given)
        milliseconds = float(settings.get("silence_duration_ms", 1000 * PAUSE))
        if settings.get("type") != "server_vad" or not 50 <= milliseconds <= 60000:
            raise ValueError
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        message = 'chunking_strategy: expected auto, or {"type": "server_vad", "silence_duration_ms": 50 to 60000}'
        raise _wrong("chunking_strategy", message) from None
    return milliseconds / 1000


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise _wrong(name, f"{name} {value!r} is not known; known: {', '.join(known)}")
    return value


def _wrong(param: str, message: str) -> Refusal:
    return Refusal(400, message, "invalid_value", param)
