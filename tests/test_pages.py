"""Pages of results are what their grids write from the result files beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3router.experiments import report, routes_page
from s3router.experiments.grid import Grid, read_with_base
from s3router.experiments.results import Known

ROOT = Path(__file__).parents[1]


def _page(path: Path) -> Path | None:
    """The page of a grid that is in the repository; None: it has none there, or is none."""
    raw = read_with_base(path)
    if "methods" not in raw or str(raw.get("report", "exp")).startswith("exp"):
        return None
    page = path.parents[1] / str(raw["report"])
    return page if page.is_file() else None


GRIDS = [path for path in sorted(ROOT.glob("egs/*/*/conf/*.yaml")) if _page(path)]


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: "-".join((*path.parts[-4:-2], path.stem)))
def test_a_page_is_what_its_grid_writes(path: Path, monkeypatch):
    monkeypatch.chdir(path.parents[1])  # as the command does
    written: list[str] = []
    for module in (report, routes_page):
        monkeypatch.setattr(module, "write_lines", lambda _, lines: written.extend(lines))
    grid = Grid.read(path.relative_to(path.parents[1]))
    write = routes_page.write_page if "routes" in grid.raw else report.write_report
    write(grid, Known.read(grid.results, grid.select), grid.report)
    page = grid.report.read_text(encoding="utf-8")
    assert page == "".join(f"{line}\n" for line in written), f"write it again: s3router experiment table {grid.typed}"
