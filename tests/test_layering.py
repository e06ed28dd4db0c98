"""Imports point down only, and importing a package costs nothing that it does not use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "s3router"

# What each part may import from s3router besides itself. A new part needs a line here.
GROUND = {"errors", "files"}
FIRST = GROUND | {"masks", "prune", "packs", "data", "scoring", "tuners"}
BELOW = {
    "__init__": {"api", "data", "sharing"},  # each name when it is first asked for
    "errors": set(),
    "files": {"errors"},
    "masks": {"errors"},
    "prune": GROUND | {"masks"},
    "packs": GROUND | {"masks"},
    "data": GROUND,
    "scoring": GROUND | {"data"},  # the form in which texts are compared
    "tuners": GROUND | {"masks", "prune", "packs"},
    "upstreams": GROUND | {"masks", "packs", "data", "tuners"},
    "corpora": GROUND | {"data", "upstreams"},  # of the latter, s3prl's own readers of corpora
    "training": FIRST | {"upstreams"},
    "submission": GROUND | {"data", "scoring"},
    "asr": FIRST | {"upstreams", "training"},
    "seq2seq": FIRST | {"upstreams", "training", "asr"},  # of asr, what decoding writes
    "miniatures": FIRST | {"asr", "corpora"},  # of these, the language model, and writers of layouts
    "superb": FIRST | {"upstreams", "training", "submission"},
    "serving": FIRST | {"upstreams", "training", "asr", "seq2seq", "superb", "submission"},
    "pretraining": FIRST | {"upstreams", "training", "asr"},  # of asr, the alignment of characters
    "experiments": FIRST | {"upstreams", "training", "asr", "seq2seq", "superb", "submission", "serving"},
    # of asr the rules of CTC, of experiments Markdown
    "analysis": FIRST | {"upstreams", "training", "asr", "serving", "experiments"},
    "server": FIRST | {"upstreams", "asr", "serving"},
    "doctor": GROUND | {"packs", "data", "upstreams", "training", "server"},
    "sharing": GROUND | {"packs", "upstreams", "serving"},
    "api": FIRST | {"upstreams", "training", "asr", "seq2seq", "serving", "sharing"},
    "cli": {"*"},
    "__main__": {"cli"},
}
HEAVY = {"torch", "torchaudio", "espnet2", "s3prl", "transformers", "jiwer", "av", "matplotlib", "sklearn", "fastapi"}
MASKS_NEED = {"torch", "numpy"}  # numpy comes with torch


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of every import in a file, lazy ones inside functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            # `from s3router import masks` names a part as an attribute
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "s3router" else [module]
            found += [(node.lineno, name) for name in names]
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_the_package_was_found():
    assert {part_of(path) for path in SOURCES} >= {"errors", "masks", "data", "asr", "cli"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    part = part_of(path)
    assert part in BELOW, f"{part} is new: say in BELOW what it may import"
    for line, name in imports_of(path):
        assert not name.startswith("."), f"{path}:{line}: relative import {name}"
        top, *rest = name.split(".")
        if top != "s3router":
            continue
        target = rest[0] if rest else "__init__"
        if target.startswith("__version__") or "*" in BELOW[part]:
            continue
        allowed = BELOW[part] | {part}
        assert target in allowed, f"{path}:{line}: {part} must not import s3router.{target} (only {sorted(allowed)})"


@pytest.mark.parametrize("path", sorted((PACKAGE / "masks").glob("*.py")), ids=lambda path: path.name)
def test_masks_need_torch_alone(path: Path):
    foreign = {name.split(".")[0] for _, name in imports_of(path)} - sys.stdlib_module_names - {"s3router"}
    assert foreign <= MASKS_NEED


@pytest.mark.parametrize("path", sorted((PACKAGE / "submission").glob("*.py")), ids=lambda path: path.name)
def test_submissions_need_no_model(path: Path):
    assert {name.split(".")[0] for _, name in imports_of(path)}.isdisjoint({"torch", "torchaudio", "s3prl", "espnet2"})


def test_importing_is_cheap():
    packages = [f"s3router.{p.parent.name}" for p in PACKAGE.glob("*/__init__.py") if p.parent.name != "masks"]
    code = f"import sys, s3router, {', '.join(packages)}; print(*(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert done.stdout.split() == [], f"imported by the packages' __init__ files: {done.stdout}"


EXTRAS = ("espnet2", "espnet", "peft", "sklearn", "matplotlib", "h5py", "num2words", "espeakng_loader", "tensorboard")
SERVES = ("transcribe", "routed_model", "loading", "whole_routes", "bake", "classify", "route_heads", "langid")


def test_what_serves_needs_no_extra_of_training():
    """The commands of a bare installation: transcribe, serve, inspect, bake and doctor, without ESPnet."""
    modules = [f"s3router.serving.{name}" for name in SERVES] + ["s3router.server.serve", "s3router.packs.summary"]
    modules += [f"s3router.doctor.{path.stem}" for path in (PACKAGE / "doctor").glob("*.py")]
    build = "from s3router.upstreams import hub; hub.build(upstream='tiny')"
    code = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); import {', '.join(modules)}; {build}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=False)
    assert done.returncode == 0, done.stderr


def test_no_file_is_too_long():
    assert {path.name: n for path in SOURCES if (n := len(path.read_text(encoding="utf-8").splitlines())) > 450} == {}
