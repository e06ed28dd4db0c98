"""The page in headless Chromium, offline: no complaint, fits a phone, both schemes, and tables sort by keyboard."""

from __future__ import annotations

import pytest

from s3router import cli
from tests.analysis.browser import CHROMIUM, DRIVER, browser

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver here")


@pytest.fixture(scope="module")
def page(packs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    assert cli.main(["analyze", *map(str, packs), "-o", str(folder), "--typology", "none"]) == 0
    return folder / "index.html"


@pytest.fixture(scope="module")
def shown():
    with browser() as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits(page, shown, width, scheme):
    shown.show(page, width, scheme=scheme)
    assert shown.complaints() == []
    assert shown.run("return document.documentElement.scrollWidth") <= width
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert shown.run(ground) == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    text = "return getComputedStyle(document.querySelector('svg.figure text')).fill"
    assert shown.run(text) == {"light": "rgb(31, 35, 40)", "dark": "rgb(230, 237, 243)"}[scheme]


COLUMN = """
const table = document.querySelector("#packs table");
return [...table.tBodies[0].rows].map(row => row.cells[2].textContent);
"""


def test_tables_sort_by_keyboard(page, shown):
    shown.show(page, 1280)
    shown.run("document.querySelectorAll('#packs th button')[1].focus()")
    shown.press("Tab")
    assert shown.run("return document.activeElement.textContent") == "seed"
    shown.press("Enter")
    assert shown.run(COLUMN) == ["0", "1", "2", "3", "4", "5"]
    shown.press("Enter")
    assert shown.run(COLUMN) == ["5", "4", "3", "2", "1", "0"]
    order = "return document.querySelectorAll('#packs th')[2].getAttribute('aria-sort')"
    assert shown.run(order) == "descending"
    assert shown.complaints() == []
