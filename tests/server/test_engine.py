"""What the thread that runs the model does in which order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from s3router.asr.ctc_decode import BatchOptions
from s3router.server import engine as module
from s3router.server.catalogue import Catalogue
from s3router.server.engine import Engine, Piece
from s3router.server.metrics import Metrics
from s3router.server.refusal import Refusal
from s3router.serving.loading import load_backbone

pytestmark = pytest.mark.usefixtures("upstream_in_place")

WAVE = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)


@pytest.fixture
def catalogue(packs) -> Catalogue:
    return Catalogue([packs], {False: load_backbone([packs / "it.pack"]).upstream.backbone_fingerprint}.get)


@pytest.fixture
def make(packs: Path) -> Callable[[], Engine]:
    """Engines, not started."""

    def engine(**options) -> Engine:
        return Engine(
            load_backbone([packs / "it.pack"]).eval(), 10**9, Metrics(), 0.0, BatchOptions(batch_seconds=0, **options)
        )

    return engine


@pytest.fixture
def calls(monkeypatch) -> list[Callable[[], None]]:
    """What to do before the model hears something, one after the other; then nothing."""
    todo: list[Callable[[], None]] = []
    real = module.hear

    def hear(*args, **more):
        if todo:
            todo.pop(0)()
        return real(*args, **more)

    monkeypatch.setattr(module, "hear", hear)
    return todo


def in_order(**pieces: Piece) -> list[str]:
    """The names of pieces, as they are done."""
    order: list[str] = []
    for name, piece in pieces.items():
        piece.future.add_done_callback(lambda _, name=name: order.append(name))
    return order


def test_later_pieces_of_a_long_recording_let_short_ones_pass(make, catalogue, monkeypatch):
    monkeypatch.setattr(module, "ROUND", 0.5)
    engine, it = make(), [catalogue.route("it")]
    long, short = [Piece(WAVE, it) for _ in range(4)], Piece(WAVE, it)
    order = in_order(**{f"long{number}": piece for number, piece in enumerate(long)}, short=short)
    engine.submit(long)
    engine.submit([short])
    engine.start()
    engine.stop()
    assert order == ["long0", "short", "long1", "long2", "long3"]


def test_a_piece_is_answered_before_the_next_is_heard(make, catalogue, calls):
    engine = make()
    pieces = [Piece(WAVE, [catalogue.route("it")]) for _ in range(3)]
    answered: list[int] = []
    calls[:] = [lambda: answered.append(sum(piece.future.done() for piece in pieces))] * 3
    engine.submit(pieces)
    engine.start()
    engine.stop()
    assert answered == [0, 1, 2]


def test_what_comes_during_a_long_recording_is_next(make, catalogue, calls, monkeypatch):
    monkeypatch.setattr(module, "ROUND", 1.0)  # two pieces
    engine, it = make(), [catalogue.route("it")]
    long, short = [Piece(WAVE, it) for _ in range(6)], Piece(WAVE[:4000], it)
    order = in_order(**{f"long{number}": piece for number, piece in enumerate(long)}, short=short)
    calls[:] = [lambda: engine.submit([short])]
    engine.submit(long)
    engine.start()
    wait([short.future], 60)
    engine.stop()
    assert order[:3] == ["long0", "long1", "short"]


def test_a_piece_whose_client_goes_away_in_its_round_is_not_heard(make, catalogue, calls):
    engine, it = make(), [catalogue.route("it")]
    pieces = [Piece(WAVE, it) for _ in range(3)]
    calls[:] = [lambda: engine.withdraw(pieces[:2]), lambda: None, lambda: None]
    engine.submit(pieces)
    engine.start()
    engine.stop()
    assert [piece.future.cancelled() for piece in pieces] == [True, True, False]
    assert len(calls) == 1  # the first was at work when its client went, the second was left out
    assert engine.accepted_seconds == 0


def test_many_candidates_give_way_and_come_to_the_same(make, catalogue, calls, monkeypatch):
    routes = [catalogue.route(name) for name in ("es", "fr.CA", "it", "ru")]
    alone = Piece(WAVE, routes)
    engine = make()
    engine.submit([alone])
    engine.start()
    engine.stop()
    monkeypatch.setattr(module, "ROUND", 1.0)  # two of the candidates
    engine = make()
    many, short = Piece(WAVE, routes), Piece(WAVE[:4000], routes[:1])
    heard: list[int] = []
    short.future.add_done_callback(lambda _: heard.append(len(many.heard)))
    calls[:] = [lambda: engine.submit([short])]
    engine.submit([many])
    engine.start()
    wait([short.future], 60)
    engine.stop()
    assert heard == [2]
    found, expected = many.future.result(), alone.future.result()
    assert (found.route, found.text, found.scores) == (expected.route, expected.text, expected.scores)


def test_a_fault_while_a_pack_is_fetched_harms_its_pieces_only(make, catalogue, monkeypatch, caplog):
    engine = make()
    pieces = [Piece(WAVE, [catalogue.route(name)]) for name in ("es", "it")]
    bring = engine._residents.bring

    def failing(found):
        if found.route == "es":
            raise RuntimeError("out of order")
        bring(found)

    monkeypatch.setattr(engine._residents, "bring", failing)
    engine.submit(pieces)
    engine.start()
    engine.stop()
    with pytest.raises(RuntimeError, match="out of order"):
        pieces[0].future.result(0)
    assert pieces[1].future.result(0).route == "it"
    assert "a piece could not be heard" in caplog.messages


def test_a_task_that_nobody_waits_for_does_not_end_the_thread(make, catalogue):
    engine = make()
    engine.load(catalogue.route("it")).cancel()
    engine.start()
    engine.load(catalogue.route("es")).result(20)
    assert set(engine.resident) == {"es"}
    engine.stop()


def test_work_counts_until_it_is_done_and_for_each_candidate(make, catalogue, calls):
    engine = make()
    routes = [catalogue.route(name) for name in ("es", "it")]
    at_work, go_on = threading.Event(), threading.Event()
    calls[:] = [lambda: (at_work.set(), go_on.wait(60))]
    pieces = [Piece(WAVE, routes)]
    engine.check_room(10**9, 1.0)  # alone, whatever it is
    with engine.reserving(engine.passes(routes) * len(WAVE), 1.0):
        assert engine.accepted_seconds == 1.0
        with pytest.raises(Refusal, match="1 s of audio, times candidates, are under way already"):
            engine.check_room(1, 1.0)
    assert engine.accepted_seconds == 0
    engine.submit(pieces)
    engine.start()
    assert at_work.wait(60)
    assert engine.waiting_seconds == 0  # it has left the queue, and is not done
    with pytest.raises(Refusal), engine.reserving(8000, 1.4):
        pass
    with engine.reserving(8000, 1.5):
        assert engine.accepted_seconds == 1.5
    go_on.set()
    engine.stop()
    assert engine.accepted_seconds == 0
