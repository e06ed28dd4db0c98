"""Servers of small routes, in threads of the test's process; clients reach them over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="tools/setup.sh --with-serve")

from tests.serving.conftest import (  # noqa: F401
    make_upstream,
    route_experiments,
    route_packs,
    small_upstream,
    tokens_file,
    upstream_in_place,
    zygote,
)
from tests.serving.test_language_classifier import classifier, spoken  # noqa: F401

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"
AUDIO = sorted((FIVE / "audio").iterdir())


@contextlib.contextmanager
def serving(*sources: Path, **settings) -> Iterator:
    """A server of these packs; yields its address, and the service behind it."""
    from s3router.server.serve import Server, Settings, bind, service

    with (
        bind("127.0.0.1", 0) as sock,
        service(Settings(sources, **settings)) as given,
        Server(given, sock).in_thread() as url,
    ):
        yield url, given


@pytest.fixture(scope="module")
def packs(route_packs) -> Path:  # noqa: F811
    """The folder of the packs es, fr.CA, it, ru."""
    return route_packs[0].parent


@pytest.fixture(scope="module")
def server(packs, upstream_in_place) -> Iterator[str]:  # noqa: F811
    """The address of a server of those, with loading over HTTP."""
    with serving(packs, loading=True) as (url, _):
        yield url


@pytest.fixture
def client(server) -> Callable:
    """OpenAI's own client; only the address is ours."""
    import openai

    return openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0)
