"""The Dockerfile, as far as it can be checked without building it."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

from s3router.cli import serve

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^\s*{name}\s+(.*)$", TEXT, flags=re.M)


def test_what_it_copies_is_here_and_not_ignored():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    assert {"s3router", "conf", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), f"{source} is left out by .dockerignore"


def test_it_serves_where_its_health_is_looked_for():
    command = json.loads(instructions("CMD")[-1])
    assert json.loads(instructions("ENTRYPOINT")[-1]) == ["s3router"]
    assert command[0] == "serve"
    args = serve.parser().parse_args(command[1:])
    (port,) = instructions("EXPOSE")
    assert str(args.port) == port
    assert f"http://127.0.0.1:{port}/health" in TEXT
    assert args.host not in ("127.0.0.1", "localhost")
    assert str(args.routes[0]) in json.loads(instructions("VOLUME")[-1])


def test_its_user_is_not_root():
    (user,) = instructions("USER")
    assert int(user) > 0


def test_torch_is_the_pinned_one():
    pins = (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"grep -E '(.*?)'", TEXT)
    assert len(re.findall(pattern, pins, flags=re.M)) == 2
