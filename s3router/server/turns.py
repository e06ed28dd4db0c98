"""The pieces that wait for the model, in the order in which requests take turns."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s3router.data.audio import Seconds

if TYPE_CHECKING:
    from s3router.server.engine import Piece


class Turns:
    """A queue in which a request waits for as much work of each other request as it asks for itself, or little more.

    Work is seconds of audio times passes of the model. Each piece is due when its request would be through with it, if
    all of them advanced side by side from the moment they came (self-clocked fair queueing). So a short request passes
    the many pieces of a long one, and no piece waits forever.

    For one thread at a time.

    Args:
        most: work that is taken at a time. A piece that asks for more goes on in a later turn.
    """

    def __init__(self, most: Seconds):
        self._most = most
        self._queue: list[tuple[Seconds, int, Piece]] = []
        self._count = itertools.count()  # equals: who came first
        self._clock: Seconds = 0.0  # what has been taken is due until here

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def work(self) -> Seconds:
        """All that waits, up to `most` of each piece."""
        return sum(min(piece.work, self._most) for _, _, piece in self._queue)

    @property
    def audio(self) -> Seconds:
        """Seconds of audio that wait."""
        return sum(piece.seconds for _, _, piece in self._queue)

    def add(self, pieces: Sequence[Piece]) -> None:
        """Append the pieces of one request."""
        start = self._clock
        for piece in pieces:
            piece.due = start + min(piece.work, self._most)
            self._push(piece)
            start += piece.work

    def put_back(self, piece: Piece) -> None:
        """Append one that was taken and asks for more."""
        piece.due += min(piece.work, self._most)
        self._push(piece)

    def take(self) -> list[Piece]:
        """The pieces that are due first, as many as there is time for, one at least if any waits."""
        taken: list[Piece] = []
        room = self._most
        while self._first():
            piece = self._queue[0][2]
            room -= min(piece.work, self._most)
            if taken and room < 0:
                break
            heapq.heappop(self._queue)
            self._clock = max(self._clock, piece.due)
            taken.append(piece)
        return taken

    def goes_on(self, piece: Piece) -> bool:
        """Whether one that was taken has the next turn, too, since nothing is due before; then it is taken again."""
        first, due = self._first(), piece.due + min(piece.work, self._most)
        if first is not None and first.due < due:
            return False
        piece.due = due
        self._clock = max(self._clock, due)
        return True

    def withdraw_cancelled(self) -> None:
        """Remove the pieces that nobody waits for."""
        self._queue = [entry for entry in self._queue if not entry[2].future.cancelled()]
        heapq.heapify(self._queue)

    def _push(self, piece: Piece) -> None:
        heapq.heappush(self._queue, (piece.due, next(self._count), piece))

    def _first(self) -> Piece | None:
        while self._queue and self._queue[0][2].future.cancelled():
            heapq.heappop(self._queue)
        return self._queue[0][2] if self._queue else None
