"""Routes of a whole recogniser: Whisper's encoder and decoder under each pack's masks, beside routes of its encoder.

Both kinds of routes share one resident model: the modules of the recogniser's encoder are those of the upstream that
CTC and classification run on.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.audio import SAMPLE_RATE
from s3router.data.hypotheses import RULES
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack
from s3router.packs.contents import language_of
from s3router.seq2seq.decode import Listening, Transcribed, decode, listen
from s3router.serving.route_heads import dev_figures
from s3router.upstreams.routes import Routes
from s3router.upstreams.whisper import WINDOW_SECONDS

if TYPE_CHECKING:
    from s3router.asr.decode_output import Transcripts
    from s3router.upstreams.whisper_recogniser import Recogniser


class WholeHead(nn.Module):
    """What a pack of a whole recogniser says besides its masks: there is no output layer, the vocabulary is Whisper's.

    Attributes:
        listening: language token, limits, and the form of the text.
        language, spaced, usual_confidence, error_rate: as of `s3router.serving.route_heads.CTCHead`.
        tokens: None: it writes with the recogniser's own.

    Raises:
        PackError: settings that are not known here.
    """

    purpose = "it is of a whole recogniser, which gives text, and neither labels nor frames: s3router transcribe"
    tokens = None

    def __init__(self, pack: MaskPack, recogniser: Recogniser):
        super().__init__()
        self.listening = listening_of(pack)
        try:
            recogniser.prompt(self.listening.language)
        except ConfigError as error:
            raise PackError(f"route {pack.route!r}: {error}") from None
        self.language = language_of(pack.route, pack.meta)
        self.spaced = self.listening.spaced
        self.usual_confidence, self.error_rate = dev_figures(pack.meta)


def listening_of(pack: MaskPack) -> Listening:
    """How a pack's recogniser listens. Raises PackError for settings that are not known here."""
    given = pack.meta.preprocessing
    language, rate, rules = given.get("language"), given.get("max_tokens_per_second"), given.get("normalize", "none")
    text, step = given.get("text_language"), given.get("window_step", float(WINDOW_SECONDS))
    if (
        given.get("sample_rate", SAMPLE_RATE) != SAMPLE_RATE
        or not (isinstance(rate, int | float) and 0 < rate < math.inf)
        or not (isinstance(step, int | float) and 0 < step <= WINDOW_SECONDS)
        or rules not in RULES
        or not all(value is None or isinstance(value, str) for value in (language, text))
    ):
        raise PackError(f"route {pack.route!r}: preprocessing {dict(given)} is not known; install a newer s3router")
    return Listening(language, float(rate), rules, text, float(step))


class WholeRoutes(nn.Module):
    """The routes of one recogniser. In evaluation mode; nothing of it trains.

    Args:
        recogniser: its weights become the routes' shared ones.
        beside: the routes of its encoder; passes of both take turns.
    """

    def __init__(self, recogniser: Recogniser, beside: Routes):
        super().__init__()
        self.recogniser = recogniser
        self.model = recogniser.model.requires_grad_(False)
        self.fingerprint = recogniser.fingerprint
        self.routes = Routes(self.model, self.fingerprint, beside=beside)

    def add(self, pack: MaskPack) -> WholeHead:
        """Take in a pack; returns its head. Raises as `Routes.add`, and PackError as `WholeHead`."""
        head = WholeHead(pack, self.recogniser)
        self.routes.add(pack)
        return head

    def hear(
        self,
        route: str,
        head: WholeHead,
        recordings: Sequence[Utterance],
        read: Callable[[int], np.ndarray],
        options: BatchOptions,
        timed: Collection[int] = (),
    ) -> Iterator[tuple[int, Transcribed]]:
        """`s3router.seq2seq.decode.listen` under a route; batches are of ``options.batch_seconds``."""
        return listen(self.recogniser, recordings, self._how(head, options), read, self._turn(route, options), timed)

    def decode(
        self, route: str, head: WholeHead, data: DataDir, options: BatchOptions
    ) -> tuple[Transcripts, list[str]]:
        """`s3router.seq2seq.decode.decode` under a route."""
        return decode(self.recogniser, data, self._how(head, options), self._turn(route, options))

    def _how(self, head: WholeHead, options: BatchOptions) -> Listening:
        return replace(head.listening, batch_seconds=options.batch_seconds)

    def _turn(self, route: str, options: BatchOptions) -> Callable[[], contextlib.AbstractContextManager[Any]]:
        @contextlib.contextmanager
        def turn() -> Iterator[None]:
            kind = next(self.model.parameters()).device.type
            with self.routes.applied(route), torch.autocast(kind, torch.bfloat16, enabled=options.bf16):
                yield

        return turn
