"""The notebook of the documentation runs from its first cell to its last, on the smallest settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_its_outputs_are_cleared():
    assert [cell for cell in CELLS if cell["outputs"] or cell["execution_count"] is not None] == []


def test_it_runs(tmp_path: Path):
    lines = []
    for cell in CELLS:
        lines += ["".join(cell["source"])]
        if "parameters" in cell["metadata"].get("tags", ()):
            lines += ["UPDATES = 2"]
    script = tmp_path / "quickstart.py"
    script.write_text("\n".join(lines), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=NOTEBOOK.parent, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "route it, mask pack of format 1" in done.stdout
    assert "(it is: arrivederci)" in done.stdout
    assert "WER" in done.stdout
