"""The documentation: every page has its place in mkdocs.yml, and every link leads somewhere. mkdocs is not needed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    {*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("benchmarks/**/*.md"), *ROOT.glob("egs/**/README.md")}
)
_FENCE = re.compile(r"^(```|~~~).*?^\1", flags=re.M | re.S)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Loader(yaml.SafeLoader):
    """mkdocs.yml has tags of mkdocs' own, whose values do not matter here."""


Loader.add_multi_constructor("", lambda loader, suffix, node: None)


def nav_files(entries: list) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from nav_files(value)


def anchors(path: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", _FENCE.sub("", path.read_text(encoding="utf-8")), flags=re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


def test_every_page_has_its_place():
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    listed = list(nav_files(config["nav"]))
    there = {path.name for pattern in ("*.md", "*.ipynb") for path in DOCS.glob(pattern)}
    assert sorted(listed) == sorted(there)
    assert all((ROOT / hook).is_file() for hook in config["hooks"])
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [name for name in listed if name != "index.md" and f"]({name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    broken = []
    for link in _LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else page.parent / name
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    ("repository", "found"),
    [
        ("https://example.org/s3router/", "see [the table](https://example.org/s3router/blob/main/egs/a/RESULTS.md)"),
        (None, "see the table (`egs/a/RESULTS.md`)"),
    ],
)
def test_links_out_of_the_site(repository: str | None, found: str):
    spec = importlib.util.spec_from_file_location("docs_links", ROOT / "tools" / "docs_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.outside_links("see [the table](../egs/a/RESULTS.md)", repository) == found
    assert module.outside_links("[packs](packs.md#file)", repository) == "[packs](packs.md#file)"
