"""tools/space: the page of a Space, asked by Gradio's own client."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import s3router

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "tools" / "space"
AUDIO = ROOT / "tests" / "fixtures" / "five" / "audio" / "it_carlo-is-in-use.flac"


def test_its_card_and_its_requirements_fit():
    front = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    card = yaml.safe_load(front)
    assert card["sdk"] == "gradio"
    assert (SPACE / card["app_file"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", card["sdk_version"])
    wheel = f"s3router-{s3router.__version__}-py3-none-any.whl"
    assert f"./{wheel}" in (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def app():
    pytest.importorskip("gradio", reason="pip install gradio")
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def router(hand_made) -> s3router.Router:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3ROUTER_TINY", str(hand_made["es"].parent / "tiny"))
        return s3router.Router(packs=[hand_made["es"], hand_made["fr"]])


@pytest.fixture(scope="module")
def client(app, router):
    from gradio_client import Client

    blocks = app.page(router)
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, server_port=None)
    yield Client(url, verbose=False)
    blocks.close()


@pytest.mark.parametrize("route", ["es", "fr", "auto"])
def test_its_api_gives_the_routers_text(route: str, client, router):
    from gradio_client import handle_file

    text, scores = client.predict(handle_file(str(AUDIO)), route, api_name="/transcribe")
    wanted = router.transcribe(AUDIO, route)
    assert text == wanted.text
    assert [row[0] for row in scores["data"]] == list(wanted.scores or {wanted.route: 0})


def test_what_is_no_recording_is_an_error_in_words(client, tmp_path: Path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    (tmp_path / "a.wav").write_bytes(b"nothing of a recording")
    with pytest.raises(AppError, match=r"a\.wav"):
        client.predict(handle_file(str(tmp_path / "a.wav")), "es", api_name="/transcribe")
    with pytest.raises(AppError, match="Record something"):
        client.predict(None, "es", api_name="/transcribe")


def test_packs_are_found_or_asked_for(app, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(app, "HERE", tmp_path)
    monkeypatch.delenv(app.VARIABLE, raising=False)
    with pytest.raises(s3router.errors.ConfigError, match="no packs"):
        app.sources()
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "es.pack").touch()
    assert app.sources() == [str(tmp_path / "packs" / "es.pack")]
    monkeypatch.setenv(app.VARIABLE, "user/prompts es.pack")
    assert app.sources() == ["user/prompts", "es.pack"]
