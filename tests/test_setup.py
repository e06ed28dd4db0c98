"""The set-up: when it is ready, what it refuses, that the pins are complete (none is installed here); and the wheel."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"


@pytest.fixture(scope="module")
def check_install():
    spec = importlib.util.spec_from_file_location("check_install", TOOLS / "check_install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with an environment whose python notes how it is called, and fails where `fail` says so."""
    shutil.copytree(TOOLS, tmp_path / "tools", ignore=shutil.ignore_patterns("venv*", "__pycache__", ".setup.lock"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    python = tmp_path / "tools/venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\nif [ "$1" = -c ]; then echo 3.12; exit; fi\necho "$@" >>{tmp_path}/calls\n'
        f'if [ -e {tmp_path}/fail ] && echo "$@" | grep -q "$(cat {tmp_path}/fail)"; then exit 1; fi\n'
    )
    python.chmod(0o755)
    return tmp_path


def setup(clone: Path, *options: str, **env: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name not in ("S3ROUTER_VENV", "S3ROUTER_PYTHON")}
    environment = inherited | env
    command = ["bash", str(clone / "tools/setup.sh"), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)


def calls(clone: Path) -> list[str]:
    path = clone / "calls"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_second_run_starts_no_python(clone: Path):
    assert setup(clone).returncode == 0
    assert any("check_install.py --constraints" in call for call in calls(clone))
    done = setup(clone)
    assert (done.returncode, done.stdout, calls(clone)) == (0, "", [])


def test_extras_and_check_are_done_when_asked(clone: Path):
    setup(clone)
    calls(clone)
    assert setup(clone, "--with-lm").returncode == 0
    assert any("--with-lm" in call for call in calls(clone))
    assert setup(clone, "--with-lm").returncode == setup(clone).returncode == 0
    assert calls(clone) == []
    assert setup(clone, "--check").returncode == 0
    assert calls(clone) != []


@pytest.mark.parametrize("changed", ["tools/constraints.txt", "tools/check_install.py", "pyproject.toml"])
def test_change_makes_it_run_again(clone: Path, changed: str):
    setup(clone)
    calls(clone)
    with (clone / changed).open("a") as file:
        file.write("# changed\n")
    setup(clone)
    assert calls(clone) != []


def test_moved_clone_is_set_up_again(clone: Path):
    setup(clone)
    moved = clone / "moved"
    shutil.copytree(clone, moved, ignore=shutil.ignore_patterns("moved"))
    calls(clone)
    setup(moved)
    assert calls(clone) != []


def test_failed_check_leaves_no_stamp(clone: Path):
    (clone / "fail").write_text("check_install.py --constraints")
    for _ in range(2):
        done = setup(clone)
        assert done.returncode == 1
        assert "not usable" in done.stderr
        assert calls(clone) != []


def test_a_second_set_up_waits(clone: Path):
    lock = subprocess.Popen(["flock", str(clone / "tools/.setup.lock"), "sh", "-c", "echo held; sleep 1"], stdout=-1)
    assert lock.stdout.readline() == b"held\n"
    done = setup(clone)
    assert "another set-up is running" in done.stdout
    assert lock.wait() == done.returncode == 0


def test_own_environment_is_not_changed(clone: Path):
    own = clone / "own"
    shutil.copytree(clone / "tools/venv", own)
    assert setup(clone, S3ROUTER_VENV=str(own)).returncode == 0
    made = calls(clone)
    assert len(made) == 1
    assert made[0].endswith("check_install.py")
    assert {str(path.relative_to(own)) for path in own.rglob("*")} == {"bin", "bin/python"}
    setup(clone, S3ROUTER_VENV=str(own))
    assert calls(clone) == []


def test_refusals(clone: Path):
    unknown = setup(clone, "--with-ml")
    assert unknown.returncode == 1
    assert "--with-lm --with-onnx --with-serve --with-data --with-all --check --help" in unknown.stderr
    absent = setup(clone, S3ROUTER_VENV="/nonexistent")
    assert absent.returncode == 1
    assert "S3ROUTER_VENV=/nonexistent" in absent.stderr
    shutil.rmtree(clone / "tools/venv")
    no_python = setup(clone, S3ROUTER_PYTHON="/nonexistent/python")
    assert no_python.returncode == 1
    assert "found neither CPython 3.12 nor 3.13 (looked for /nonexistent/python)" in no_python.stderr
    assert not (clone / "tools/venv").exists()


def fake_python(path: Path, version: str, venv: Path | None = None) -> Path:
    """An interpreter that says its version and makes, as an environment, a link to ``venv``'s python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = '"$3/bin" && ln -s "' + str(venv) + '/bin/python" "$3/bin/python"'
    path.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo {version}; exit; fi\nmkdir -p {made}\n')
    path.chmod(0o755)
    return path


def test_an_environment_of_an_older_python_is_made_anew(clone: Path):
    ready = clone / "ready"
    shutil.copytree(clone / "tools/venv", ready)
    fake_python(clone / "tools/venv/bin/python", "3.11")
    (clone / "tools/venv/old").touch()
    done = setup(clone, S3ROUTER_PYTHON=str(fake_python(clone / "py", "3.13", ready)))
    assert done.returncode == 0, done.stderr
    assert f"{clone}/tools/venv is of Python 3.11: it is made anew" in done.stdout
    assert f"making {clone}/tools/venv with {clone}/py" in done.stdout
    assert not (clone / "tools/venv/old").exists()


def test_the_interpreter_is_found_behind_a_shim_that_does_not_run(clone: Path):
    """pyenv puts python3.12 on the path, where it fails unless it was chosen; the interpreter itself works."""
    ready = clone / "ready"
    (clone / "tools/venv").rename(ready)
    shim = clone / "shims/python3.12"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    for version in ("3.11.9", "3.12.4", "3.13.1"):
        fake_python(clone / f"pyenv/versions/{version}/bin/python", version[:4], ready)
    path = f"{shim.parent}:/usr/bin:/bin"
    done = setup(clone, PATH=path, PYENV_ROOT=str(clone / "pyenv"))
    assert done.returncode == 0, done.stderr
    assert f"with {clone}/pyenv/versions/3.12.4/bin/python" in done.stdout


def test_extras_by_interpreter(clone: Path):
    """There is no flashlight-text for 3.13: asked for by name it is refused, of all there is it is no part."""
    (clone / "tools/venv/bin/python3.13").touch()
    refused = setup(clone, "--with-lm")
    assert refused.returncode == 1
    assert "no flashlight-text for CPython 3.13" in refused.stderr
    assert setup(clone, "--with-all").returncode == 0
    assert any("--with-onnx" in call and "--with-lm" not in call for call in calls(clone))
    (clone / "tools/venv/bin/python3.13").unlink()
    assert setup(clone, "--with-all").returncode == 0
    assert any("--with-onnx" in call or "--with-lm" in call for call in calls(clone))
    assert (
        setup(clone, "--with-all").returncode
        == setup(clone, "--with-lm", "--with-onnx", "--with-serve", "--with-data").returncode
        == 0
    )
    assert calls(clone) == []


@pytest.mark.parametrize("extra", ["lm", "onnx", "serve", "data"])
def test_an_extra_is_installed_on_demand_only(clone: Path, extra: str):
    packages = [p for p in (TOOLS / f"requirements-{extra}.txt").read_text().splitlines() if not p.startswith("#")]
    pins = clone / "tools/venv/.pins.txt"
    assert setup(clone).returncode == 0
    without = pins.read_text()
    assert "torch==" in without
    assert setup(clone, f"--with-{extra}").returncode == 0
    for package in packages:
        assert f"\n{package}==" not in without
        assert f"\n{package}==" in pins.read_text()


def test_help(clone: Path):
    done = setup(clone, "--help")
    assert done.returncode == 0
    assert "--with-lm" in done.stdout


def test_everything_asked_for_is_pinned(check_install):
    pins = {re.sub(r"[-_.]+", "-", name).lower() for name in check_install.read_pins(TOOLS / "constraints.txt")}
    for file in TOOLS.glob("requirements*.txt"):
        for line in file.read_text().splitlines():
            if line and not line.startswith("#"):
                assert re.sub(r"[-_.]+", "-", line).lower() in pins


def test_pins_that_are_not_exact_are_refused(check_install, tmp_path: Path):
    (tmp_path / "pins").write_text("# fine\na==1.0\nb>=2\n")
    with pytest.raises(ValueError, match=r"pins:3: expected name==version, found 'b>=2'"):
        check_install.read_pins(tmp_path / "pins")


def test_wrong_and_missing_versions_are_named(check_install):
    wrong = check_install.wrong_versions({"pytest": "0.1", "nothing-like-this": "1", "optional": "1"}, {"optional"})
    assert [line.split()[0] for line in wrong] == ["pytest", "nothing-like-this"]


def test_unmet_requirements_are_named(check_install, tmp_path: Path, monkeypatch):
    info = tmp_path / "needy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: needy\nVersion: 1.0\nRequires-Dist: not-there-at-all\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "needy 1.0 requires not-there-at-all, which is not installed." in check_install.unmet()


def test_half_installed_package_is_found(check_install, tmp_path: Path, monkeypatch):
    for name, files in {"good": ["good.py"], "cut": ["cut.py", "gone.py"], "bare": []}.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        if files:
            (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
            (tmp_path / files[0]).touch()
    monkeypatch.setattr(check_install.sysconfig, "get_path", lambda name: str(tmp_path))
    assert set(check_install.damaged()) == {"cut-1.0", "bare-1.0"}


def test_broken_check_is_reported(check_install, monkeypatch):
    works, reason = check_install.run_check("jiwer")
    assert (works, reason) == (True, "word error rate")
    monkeypatch.setattr(check_install, "__file__", str(TOOLS / "nothing.py"))
    assert check_install.run_check("jiwer")[0] is False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package as pip would install it, in a folder of its own; built from a copy, since building leaves files."""
    copy, made = (tmp_path_factory.mktemp(name) for name in ("copy", "wheel"))
    for name in ("s3router", "conf"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(made),
        str(copy),
    ]
    subprocess.run(command, check=True, timeout=300)
    (path,) = made.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(made / "site")
    return made / "site"


def test_the_wheel_holds_every_module_and_the_catalogue(wheel: Path):
    def files(top: Path, pattern: str) -> set[str]:
        return {str(path.relative_to(top)) for path in top.rglob(pattern) if path.is_file()}

    assert files(wheel / "s3router", "*.py") == files(ROOT / "s3router", "*.py")
    for folder, there in (("catalogue", ROOT / "conf/upstreams"), ("tiny", ROOT / "s3router/upstreams/tiny")):
        assert files(wheel / "s3router/upstreams" / folder, "*") == files(there, "*")
    assert (wheel / "s3router/server/page.html").is_file()
    assert (wheel / "s3router/py.typed").is_file()


def test_the_wheel_works_away_from_the_clone(wheel: Path, tmp_path: Path):
    """It lists upstreams, loads the one that ships, and puts a pack on it as a route."""
    environment = {**os.environ, "PYTHONPATH": str(wheel), "S3ROUTER_UPSTREAMS": str(tmp_path)}

    def run(*command: str) -> str:
        command = [sys.executable, *command]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment).stdout

    assert run("-c", "import s3router; print(s3router.__file__)").strip() == str(wheel / "s3router/__init__.py")
    listed = [line.split()[0] for line in run("-m", "s3router", "upstream", "list").splitlines()[1:-1]]
    assert {"tiny", "hubert_base", "xls_r_300m"} <= set(listed)
    examined = json.loads(run("-m", "s3router", "doctor", "--json"))
    assert (examined["s3router"]["clone"], examined["broken"]) == (False, [])
    assert len(listed) == len(list((ROOT / "conf/upstreams").glob("*.yaml")))
    run("-c", ROUTE, str(tmp_path / "a.pack"))
    assert "route en" in run("-m", "s3router", "inspect", str(tmp_path / "a.pack"))


ROUTE = """
import sys
import torch
from s3router.masks import MaskConfig, attach, masks_of
from s3router.packs import MaskPack, PackMeta, read_pack, write_pack
from s3router.upstreams import hub
single, routed = (hub.build(upstream="tiny").eval() for _ in range(2))
attach(single.backbone, MaskConfig(sparsity=0.3, score_init="uniform"))
pack = MaskPack("en", masks_of(single.backbone), {}, {}, {}, None, PackMeta("tiny", routed.backbone_fingerprint))
write_pack(sys.argv[1], pack)
routed.add_route(read_pack(sys.argv[1]))
wav = [torch.randn(8000)]
with torch.no_grad(), routed.using("en"):
    assert all(map(torch.equal, single(wav)["hidden_states"], routed(wav)["hidden_states"]))
"""
