"""One transcription: decoded, cut, heard piece by piece."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.errors import S3RouterError
from s3router.server.decoding import Decoders
from s3router.server.engine import Engine, Piece
from s3router.server.formats import Segment
from s3router.server.limits import Limits
from s3router.server.refusal import Refusal
from s3router.server.wanted import Wanted
from s3router.serving.pauses import pieces_of

logger = logging.getLogger(__name__)

LONGEST: Seconds = BatchOptions().max_seconds
"""Of a piece: what the model takes at once, and Whisper's window."""


@dataclass
class Transcription:
    """A transcription under way.

    Attributes:
        seconds: length of the recording.
        pieces: what it was cut into.
        timing: milliseconds: ``decoding`` of the audio, ``inference`` of all pieces, and ``queue``: waiting for others.
        engine: hears the pieces.
        submitted: when the pieces went into the queue.
    """

    wanted: Wanted
    seconds: Seconds
    pieces: list[tuple[int, Piece]]
    timing: dict[str, float]
    engine: Engine = field(repr=False)
    submitted: float = field(default_factory=time.monotonic)

    @classmethod
    async def begin(cls, wanted: Wanted, decoders: Decoders, engine: Engine, limits: Limits) -> Transcription:
        """Decode the recording, and put its pieces into the queue.

        The upload is read by the decoder that takes it, and closed after that.

        Raises:
            Refusal: not audio, too long, too short for one frame; or too much is under way already.
        """
        passes = engine.passes(wanted.routes)
        engine.check_room(0, limits.waiting_seconds)  # before the work of decoding
        started = time.monotonic()
        wave = await decoders.decode(wanted.upload, limits.audio_seconds)
        took = time.monotonic() - started
        engine.metrics.decoding.observe(took)
        seconds, least = len(wave) / SAMPLE_RATE, engine.model.receptive_field
        if len(wave) < least:
            needed = 1000 * least / SAMPLE_RATE
            message = f"{1000 * seconds:.0f} ms of audio; the model needs {needed:.0f}, send a longer recording"
            raise Refusal(400, message, "audio_too_short", "file")
        with engine.reserving(passes * len(wave), limits.waiting_seconds):  # nothing was awaited since it was decoded
            await wanted.upload.close()
            places = await asyncio.to_thread(pieces_of, wave, LONGEST, wanted.pause)
            pieces = [(start, Piece(wave[start:stop], wanted.routes, wanted.timed)) for start, stop in places]
            engine.submit([piece for _, piece in pieces])
        engine.metrics.audio.inc(seconds)
        return cls(wanted, seconds, pieces, {"decoding": 1000 * took, "queue": 0.0, "inference": 0.0}, engine)

    async def segments(self) -> AsyncIterator[Segment]:
        """What was heard, piece by piece, as soon as it is there and all before it.

        Raises:
            Refusal: a pack cannot be read any more.
        """
        try:
            for start, piece in self.pieces:
                heard = await asyncio.wrap_future(piece.future)
                self.timing["inference"] += 1000 * heard.computed
                self.timing["queue"] = 1000 * (time.monotonic() - self.submitted) - self.timing["inference"]
                yield Segment(start / SAMPLE_RATE, start / SAMPLE_RATE + piece.seconds, heard)
        except S3RouterError as error:  # with paths in it, which are nobody's business
            logger.warning("not transcribed", extra={"fields": {"reason": str(error)}})
            message = "a pack cannot be read; the server's log says why"
            raise Refusal(503, message, "pack_not_readable", "model") from None
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Take what is left from the queue."""
        self.engine.withdraw([piece for _, piece in self.pieces])
