"""The packages that s3router names in pyproject.toml, against those that are installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from s3router.errors import ConfigError

BASE = "base"
ROOT = Path(__file__).resolve().parents[2]
WITH = ("lm", "onnx", "serve", "data")  # extras for which tools/setup.sh has options of their own
NOT_IN_SETUP = ("docs",)  # extras that tools/setup.sh does not bring
NATIVE = ("torch", "torchaudio", "numpy", "safetensors", "constriction", "sentencepiece", "soundfile", "soxr", "av")
"""Modules with binaries of their own: these can be installed, and not work."""


@dataclass(frozen=True)
class Package:
    """One requirement.

    Attributes:
        name: of the distribution.
        wanted: versions that will do, as pip writes them; empty: any.
        found: the installed version; None: not installed.
    """

    name: str
    wanted: str
    found: str | None

    @property
    def fits(self) -> bool:
        """Whether it is installed in a version that will do."""
        return self.found is not None and Requirement(self.name + self.wanted).specifier.contains(self.found, True)


def in_clone() -> bool:
    """Whether the running s3router is that of a clone, rather than of a wheel."""
    return (ROOT / "tools" / "setup.sh").is_file()


def how_to_get(extra: str) -> str:
    """The command that installs an extra, or `BASE`."""
    if in_clone() and extra not in NOT_IN_SETUP:
        return f"{ROOT}/tools/setup.sh" + (f" --with-{extra}" if extra in WITH else "")
    if in_clone():
        return f"pip install '{ROOT}[{extra}]'"
    return "pip install s3router" if extra == BASE else f"pip install 's3router[{extra}]'"


def extras() -> dict[str, list[Package]]:
    """Extra -> its packages, `BASE` first; those that are not for this Python are left out.

    A clone's pyproject.toml is read itself: an editable installation keeps what it said on the day of the installation.

    Raises:
        ConfigError: s3router is neither installed nor in a clone.
    """
    base, optional = _in_pyproject() if in_clone() else _in_metadata()
    found = {BASE: list(_look_up(base, ""))} | {name: list(_look_up(each, name)) for name, each in optional.items()}
    for lines in found.values():  # an extra may be made of others: s3router[asr,superb]
        for each in [package for package in lines if package.name.startswith("s3router[")]:
            lines.remove(each)
            for name in each.name.partition("[")[2].rstrip("]").split(","):
                lines += [package for package in found[name] if package not in lines]
    return found


def broken_imports() -> dict[str, str]:
    """Module of `NATIVE` -> why it cannot be imported. torch takes seconds where it was not imported before."""
    found = {}
    for name in NATIVE:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:  # itself not installed: another line says so
                found[name] = str(error)
        except (ImportError, OSError, RuntimeError) as error:
            found[name] = " ".join(str(error).split())
    return found


def _in_pyproject() -> tuple[list[str], dict[str, list[str]]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"], project["optional-dependencies"]


def _in_metadata() -> tuple[list[str], dict[str, list[str]]]:
    try:
        metadata = importlib.metadata.metadata("s3router")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(f"{ROOT}/s3router: no installation and no clone; pip install s3router") from error
    lines = metadata.get_all("Requires-Dist", [])
    names = metadata.get_all("Provides-Extra", [])
    base = [line for line in lines if "extra ==" not in line]
    return base, {name: [line for line in lines if _is_of(line, name)] for name in names}


def _is_of(line: str, extra: str) -> bool:
    return "extra ==" in line and f'"{extra}"' in line.partition("extra ==")[2].replace("'", '"')


def _look_up(lines: list[str], extra: str) -> Iterator[Package]:
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "s3router":
            yield Package(f"s3router[{','.join(sorted(requirement.extras))}]", "", None)
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        yield Package(requirement.name, str(requirement.specifier), version)
