"""The page of ready packs on one backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from s3router.cli import main
from tests.asr.conftest import make_upstream, small_upstream, tokens_file, zygote  # noqa: F401
from tests.serving.conftest import route_experiments, route_packs, upstream_in_place  # noqa: F401

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"

pytestmark = pytest.mark.usefixtures("upstream_in_place")


@pytest.fixture
def packs(route_packs, tmp_path) -> list[str]:  # noqa: F811
    """Of two routes, which say how sure they usually are."""
    found = [str(shutil.copy(path, tmp_path)) for path in route_packs if path.stem in ("it", "ru")]
    from s3router.packs import read_pack, write_pack
    from s3router.serving.route_heads import with_confidence

    for path in found:
        write_pack(path, with_confidence(read_pack(path), -1.0))
    return found


def test_measured_and_written(packs, capsys, tmp_path):
    work, page = tmp_path / "work", tmp_path / "page.md"
    sets = [f"{route}={FIVE}" for route in ("it", "ru")]
    langid = tmp_path / "langid.pack"
    assert main(["langid", "--upstream", "tiny", "--fit", *sets, "--dev", *sets, "-o", str(langid)]) == 0
    options = ["--packs", *packs, "--sets", *sets, "--work", str(work), "--output", str(page)]
    assert main(["experiment", "routes", *options, "--langid", str(langid)]) == 0
    found = json.loads((work / "measured.json").read_text())
    for route in ("it", "ru"):
        row = found["routes"][route]
        assert row["cer"] == json.loads((work / f"routed/decode_{route}/result.json").read_text())["cer"]
        assert row["bytes"] == (tmp_path / f"{route}.pack").stat().st_size
    assert found["memory"]["parameters"] > 0
    text = page.read_text()
    assert "s3router experiment routes --packs" in text
    assert "right by the routes' confidences" in text
    assert "right by a classifier on the first layers" in text

    made = (work / "routed/decode_it/result.json").stat().st_mtime_ns, (work / "langid.json").stat().st_mtime_ns
    single = shutil.copytree(work / "routed/decode_it", tmp_path / "single")
    lines = (single / "text").read_text().splitlines()
    (single / "text").write_text("\n".join([*lines[:-1], lines[-1].split()[0] + " autre"]) + "\n")
    assert main(["experiment", "routes", *options, "--langid", str(langid), "--single", f"it={single}"]) == 0
    assert "1 of 5" in page.read_text()
    assert made == tuple((work / name).stat().st_mtime_ns for name in ("routed/decode_it/result.json", "langid.json"))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([f"it={FIVE}"], "--sets: the test directory of ru is missing"),
        ([f"it={FIVE}", f"ru={FIVE}", f"xx={FIVE}"], "--sets: no pack has the route xx; known: it, ru"),
        (["it"], "expected LANG=DIR"),
    ],
)
def test_what_does_not_fit_together(packs, sets, message, capsys, tmp_path):
    options = ["--packs", *packs, "--sets", *sets, "--work", str(tmp_path / "w"), "--output", str(tmp_path / "p.md")]
    assert main(["experiment", "routes", *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.md").exists()
