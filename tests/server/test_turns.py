"""The order in which pieces of several requests are taken."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="tools/setup.sh --with-serve")

from s3router.server.engine import Piece
from s3router.server.turns import Turns

SECOND = np.zeros(16000, np.float32)


def pieces(count: int, seconds: int, passes: int = 1) -> list[Piece]:
    return [Piece(np.tile(SECOND, seconds), [], passes=passes) for _ in range(count)]


def test_a_short_request_passes_a_long_one():
    turns = Turns(60)
    long = pieces(10, 30)
    turns.add(long)
    assert turns.take() == long[:2]
    (short,) = pieces(1, 5)
    turns.add([short])
    assert turns.take() == [short, long[2]]
    other = pieces(2, 30)
    turns.add(other)
    assert turns.take() == [long[3], other[0]]


def test_short_requests_are_taken_together():
    turns = Turns(60)
    short = [piece for _ in range(13) for piece in pieces(1, 5)]
    for piece in short:
        turns.add([piece])
    assert turns.take() == short[:12]
    assert turns.take() == short[12:]
    assert turns.take() == []


def test_candidates_count_and_a_piece_with_many_goes_on_later():
    turns = Turns(60)
    (many,) = pieces(1, 30, passes=100)
    turns.add([many])
    assert turns.take() == [many]
    many.passes -= 2
    assert turns.goes_on(many)  # nobody else is there
    many.passes -= 2
    one, several = pieces(1, 30)[0], pieces(1, 5, passes=2)[0]
    turns.add([one])
    turns.add([several])
    assert not turns.goes_on(many)
    turns.put_back(many)
    assert turns.take() == [several, one]
    assert turns.take() == [many]


def test_nothing_waits_forever():
    turns = Turns(10)
    long = pieces(3, 10)
    turns.add(long)
    taken = []
    for _ in range(100):
        turns.add(pieces(1, 2))
        taken += turns.take()
    assert [piece for piece in taken if piece in long] == long


def test_what_nobody_waits_for_is_not_taken():
    turns = Turns(60)
    gone, left = pieces(3, 30), pieces(1, 30)
    turns.add(gone)
    turns.add(left)
    for piece in gone[:2]:
        piece.future.cancel()
    turns.withdraw_cancelled()
    assert (len(turns), turns.audio) == (2, 60)
    gone[2].future.cancel()
    assert turns.take() == left
