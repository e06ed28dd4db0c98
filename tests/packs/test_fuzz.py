"""A short cut of fuzz.py, in a process of its own because it limits its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_damaged_file_gets_through():
    command = [sys.executable, "tests/packs/fuzz.py", "400", "1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "refused" in done.stdout
