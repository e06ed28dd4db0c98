"""A hub of one's own, and packs for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.conftest import hand_made, make_upstream  # noqa: F401
from tests.sharing.hub_server import Hub, hub_server


@pytest.fixture
def hub(tmp_path, monkeypatch, hand_made) -> Iterator[Hub]:  # noqa: F811
    """A hub that huggingface_hub talks to, with the right to write; nothing is downloaded yet."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    with hub_server() as found:
        at_import = {
            "ENDPOINT": found.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": found.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "downloads"),
            "HF_TOKEN_PATH": str(tmp_path / "no_token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in at_import.items():
            assert hasattr(constants, name)
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "writer")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("S3ROUTER_TINY", str(hand_made["es"].parent / "tiny"))
        yield found
