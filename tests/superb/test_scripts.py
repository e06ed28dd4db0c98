"""The stage script's refusals, before anything is set up or written; fetching; corpora that are got by hand."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUPERB = ROOT / "egs/superb"


def run(script: Path, *options: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "S3ROUTER_VENV": "/nonexistent/venv", **variables}
    command = ["bash", str(script), *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=cwd, check=False, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("superb/ks1", ["--method", "rooter"], "the known ones are: scratch frozen weight ffn_weight"),
        ("superb/ks1", ["--mode", "rooter"], "--method 'rooter' is not known"),
        ("superb/ks1", ["--sparsity", "0.1"], "for methods with masks, and frozen has none"),
        ("superb/ks1", ["--mask-conf", '{"granularity": "2:4"}'], "for methods with masks, and frozen has none"),
        ("superb/ks1", ["--config", "/nonexistent.yaml"], "/nonexistent.yaml is missing or empty"),
        ("superb/ks1", ["--method", "router", "--sparsity", "1"], "--sparsity '1' is not a number from 0"),
        ("superb/ks1", ["--upstream-lr", "1e-3"], "with --method frozen the upstream does not train"),
        ("superb/ks1", ["--lr", "1e-3 fast"], "learning rate 'fast' is not a number"),
        ("superb/ks1", ["--corpus", "/nonexistent"], "--corpus /nonexistent: no such folder"),
        ("superb/ks1", ["--test-sets", ""], "nothing to predict"),
        ("superb/qbe1", ["--layers", "1 x"], "layer 'x' is not a whole number"),
        ("superb/qbe1", ["--mode", "router"], "--mode"),
        ("superb/qbe1", ["--test-sets", ""], "nothing to search for"),
        ("superb/er1", ["--fold", "6"], "the known ones are: 1 2 3 4 5"),
        ("TEMPLATE/cls1", ["--train-set", "/a/x", "--valid-set", "/b/x"], "two of the sets are called x"),
        ("asterisk/lid1", ["--max-updates", "0"], "--max-updates '0' is not a whole number above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(recipe, options, message):
    done = run(ROOT / "egs" / recipe / "run.sh", *options)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize("recipe", ["ic1", "er1"])
def test_corpora_given_out_on_request_say_where_they_are_to_be_put(recipe, tmp_path):
    done = run(SUPERB / recipe / "local/data.sh", *(["--fold", "1"] if recipe == "er1" else []), cwd=tmp_path)
    assert done.returncode != 0
    assert f"{tmp_path}/downloads" in done.stderr
    assert "--corpus DIR" in done.stderr
    assert "https://" in done.stderr
    assert not (tmp_path / "data").exists()


def test_lists_of_folds_that_cannot_be_fetched_are_to_be_put_somewhere(tmp_path):
    corpus = tmp_path / "IEMOCAP"
    corpus.mkdir()
    options = ["--fold", "3", "--corpus", str(corpus)]
    done = run(SUPERB / "er1/local/data.sh", *options, cwd=tmp_path, https_proxy="http://127.0.0.1:9")
    assert done.returncode != 0
    place = f"{tmp_path}/downloads/iemocap_split/Session3"
    assert f"Put train_meta_data.json into {place} by hand (from https://" in done.stderr
    assert "--lists DIR" in done.stderr
    assert "--corpus" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_mixtures_are_to_be_made_by_hand(tmp_path):
    done = run(SUPERB / "sd1/local/data.sh", cwd=tmp_path)
    assert done.returncode != 0
    assert "generate_librimix_sd.sh" in done.stderr
    assert "--corpus DIR" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bogus", "x"], "local/data.sh: unknown option --bogus\nusage: local/data.sh"),
        (["prompts"], "local/data.sh: unknown option prompts\nusage: local/data.sh"),
        (["--prompts data", "x"], "unknown option --prompts data\n"),  # two names are none
        (["--data"], "local/data.sh: --data needs a value\n"),
    ],
)
def test_wrong_options_of_the_preparation_are_refused(options, message, tmp_path):
    done = run(ROOT / "egs/asterisk/lid1/local/data.sh", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


@pytest.mark.skipif(shutil.which("tar") is None, reason="unpacks")
def test_an_archive_is_unpacked_whole_or_not_at_all(tmp_path):
    (tmp_path / "in/it").mkdir(parents=True)
    (tmp_path / "in/it/a").write_text("content")
    (tmp_path / "downloads").mkdir()
    subprocess.run(["tar", "-czf", "downloads/good.tar.gz", "in"], cwd=tmp_path, check=True)
    (tmp_path / "downloads/bad.tar.gz").write_bytes(b"half")
    script = tmp_path / "data.sh"
    script.write_text(f'set -eu\n. "{ROOT}/utils/local_data.sh"\ndownloads=downloads\nunpack "$@"\n')
    assert run(script, "good.tar.gz", "whole", cwd=tmp_path).returncode == 0
    assert run(script, "good.tar.gz", "some/part", "in/it", cwd=tmp_path).returncode == 0
    assert (tmp_path / "downloads/whole/in/it/a").read_text() == "content"
    assert (tmp_path / "downloads/some/part/a").read_text() == "content"
    done = run(script, "bad.tar.gz", "other", cwd=tmp_path)
    assert done.returncode == 1
    assert "downloads/bad.tar.gz is damaged" in done.stderr
    assert {path.name for path in (tmp_path / "downloads").iterdir()} == {"good.tar.gz", "bad.tar.gz", "whole", "some"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="fetches a file:// address with curl")
def test_fetching_checks_what_came_and_what_was_put_there(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/a.tar.gz").write_bytes(b"content")
    url, downloads = f"file://{tmp_path}/site/a.tar.gz", tmp_path / "downloads"
    right = hashlib.sha256(b"content").hexdigest()
    assert run(SUPERB / "fetch.sh", url, str(downloads), right).returncode == 0
    assert (downloads / "a.tar.gz").read_bytes() == b"content"
    done = run(SUPERB / "fetch.sh", f"file://{tmp_path}/site/b.tar.gz", str(downloads), right)
    assert done.returncode == 1
    assert f"Put b.tar.gz into {downloads} by hand" in done.stderr
    (downloads / "c.tar.gz").write_bytes(b"half")
    done = run(SUPERB / "fetch.sh", f"file://{tmp_path}/site/c.tar.gz", str(downloads), right)
    assert done.returncode == 1
    assert "is damaged" in done.stderr


class Site(http.server.BaseHTTPRequestHandler):
    """Gives its content from the start alone, whatever part is asked for; with an account, to its owner alone.

    It is VoxCeleb's that wants one.
    """

    account: bytes | None = None

    def do_GET(self):
        wanted = None if self.account is None else f"Basic {base64.b64encode(self.account).decode()}"
        self.send_response(200 if wanted in (None, self.headers.get("Authorization")) else 401)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"content")

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    """The address of a file on a server; `Site.account` may be set."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_address[1]}/part.zip"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="wget starts anew by itself")
def test_a_server_without_ranges_is_asked_for_all_of_it(site, tmp_path):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "part.zip.part").write_bytes(b"con")
    done = run(SUPERB / "fetch.sh", site, str(downloads))
    assert done.returncode == 0, done.stderr
    assert (downloads / "part.zip").read_bytes() == b"content"


@pytest.mark.skipif(shutil.which("curl") is None, reason="it is curl that has to be told")
def test_an_account_is_read_from_netrc(site, tmp_path, monkeypatch):
    monkeypatch.setattr(Site, "account", b"me:secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(SUPERB / "fetch.sh", site, str(tmp_path / "downloads")).returncode == 1
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    done = run(SUPERB / "fetch.sh", site, str(tmp_path / "downloads"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "downloads/part.zip").read_bytes() == b"content"


def test_a_file_without_a_published_checksum_is_held_to_its_first(tmp_path):
    (tmp_path / "d.tar.gz").write_bytes(b"first")
    url = "http://127.0.0.1:9/d.tar.gz"  # nobody listens there
    assert run(SUPERB / "fetch.sh", url, str(tmp_path)).returncode == 0
    assert (tmp_path / "d.tar.gz.sha256").read_text().split()[0] == hashlib.sha256(b"first").hexdigest()
    (tmp_path / "d.tar.gz").write_bytes(b"second")
    os.utime(tmp_path / "d.tar.gz", (2e9, 2e9))
    done = run(SUPERB / "fetch.sh", url, str(tmp_path))
    assert done.returncode == 1
    assert "is damaged" in done.stderr
