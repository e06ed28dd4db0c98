"""``s3router doctor``: what it finds, what it calls broken, and the way out that it names."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from s3router.cli import main
from s3router.doctor import packages, programs
from s3router.doctor.examination import examine, page
from s3router.packs import MaskPack, PackMeta, write_pack
from s3router.upstreams import public


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder of upstreams."""
    monkeypatch.setenv(public.FOLDER_VARIABLE, str(tmp_path / "upstreams"))
    return tmp_path / "upstreams"


def write(path: Path, backbone: str) -> Path:
    write_pack(path, MaskPack("es", {}, {}, {}, {}, None, PackMeta(backbone, "0" * 32)))
    return path


def remedies(found: dict, title: str) -> dict[str, str]:
    return {each["what"]: each["remedy"] for each in found[title]}


def test_this_installation_is_well(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["broken"] == []
    assert all(each["fits"] for each in found["packages"][packages.BASE])
    assert found["machine"]["arithmetic"]["fastest"] in ("float32", "bfloat16")
    assert found["machine"]["usable_cores"] >= 1
    assert found["audio"]["libsndfile"]
    text = page(found)
    assert "Nothing that is needed is broken." in text
    assert "tiny            ships with s3router" in text


def test_every_extra_of_the_project_is_looked_at():
    found = packages.extras()
    assert {packages.BASE, "train", "serve", "onnx", "lm", "test"} <= set(found)
    assert {each.name for each in found["train"]} > {each.name for each in found["asr"] + found["superb"]}
    assert "espnet" in {each.name for each in found["asr"]} - {each.name for each in found["superb"]}


def test_a_wheel_says_by_its_metadata_what_it_needs(monkeypatch, tmp_path):
    in_clone = packages.extras()
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    assert not packages.in_clone()
    in_wheel = packages.extras()
    for extra in (packages.BASE, "serve", "onnx"):
        assert {each.name for each in in_wheel[extra]} == {each.name for each in in_clone[extra]}
    assert packages.how_to_get("serve") == "pip install 's3router[serve]'"


def test_commands_that_get_an_extra_exist():
    for extra in packages.extras():
        words = shlex.split(packages.how_to_get(extra))
        if words[0] != "pip":
            assert Path(words[0]).is_file()
            assert all(word in Path(words[0]).read_text() for word in words[1:])


@pytest.fixture
def installed(monkeypatch):
    """installed(name=version): as if these were installed; None: as if they were not."""

    def change(**versions: str | None) -> None:
        real = importlib.metadata.version

        def version(name: str) -> str:
            found = versions.get(name, real(name) if name not in versions else None)
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(packages.importlib.metadata, "version", version)

    return change


def test_a_package_of_the_wrong_version_is_broken(installed, capsys):
    installed(jiwer="3.0")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "jiwer is 3.0, and base needs <5,>=4\n    -> " in text
    assert text.endswith("1 thing that is needed does not work.\n")


def test_a_missing_package_is_broken_in_the_base_and_missing_in_an_extra(installed):
    installed(jiwer=None, fastapi=None)
    found = examine()
    assert list(remedies(found, "broken")) == ["jiwer is not installed"]
    assert remedies(found, "missing")["extra serve: fastapi"].endswith("tools/setup.sh --with-serve")


def test_a_library_that_cannot_be_loaded_is_broken(monkeypatch):
    real = importlib.import_module

    def fail(name: str):
        if name == "soxr":
            raise ImportError("libsoxr.so: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(packages.importlib, "import_module", fail)
    (what, remedy) = next(iter(remedies(examine(), "broken").items()))
    assert what == "soxr cannot be imported: libsoxr.so: cannot open shared object file"
    assert remedy == f"pip install --force-reinstall --no-deps soxr=={importlib.metadata.version('soxr')}"


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_it_works_where_these_do_not(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text('raise ImportError("lib.so: cannot open")')
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "s3router", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout.count("not examined    torch or numpy cannot be imported") == 2
    assert f"{name} cannot be imported: lib.so: cannot open\n    -> pip install --force-reinstall" in done.stdout


def test_a_damaged_list_of_what_was_fetched_is_a_line(folder, capsys):
    place = folder / "wavlm_large" / "wavlm"
    place.mkdir(parents=True)
    (place / "wavlm_large.pt").write_bytes(b"x")
    (folder / "checksums.json").write_text('{"a":')
    assert main(["doctor"]) == 1
    assert "checksums.json" in capsys.readouterr().out.partition("\nbroken\n")[2]


def test_a_cut_upstream_is_broken(folder, capsys):
    place = folder / "whisper_base" / "ctranslate2"
    place.mkdir(parents=True)
    (place / "model.bin").write_bytes(b"cut")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert f"{place}/model.bin has 3 bytes instead of 145217532" in text
    assert "s3router upstream fetch whisper_base --format ctranslate2 --refresh" in text


def test_packs_of_a_folder(tmp_path, capsys):
    write(tmp_path / "good.pack", "tiny")
    write(tmp_path / "far.pack", "hubert_base")
    assert main(["doctor", "--packs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "route es, an encoder, for tiny" in text
    assert "far.pack: its backbone hubert_base has not been fetched\n    -> s3router upstream fetch hubert_base" in text
    (tmp_path / "bad.pack").write_bytes(b"nothing of a pack")
    assert main(["doctor", "--packs", str(tmp_path)]) == 1
    assert "bad.pack" in capsys.readouterr().out.partition("\nbroken\n")[2]


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["doctor", "--packs", str(tmp_path / "nowhere")]) == 1
    assert f"{tmp_path}/nowhere" in capsys.readouterr().out


def test_programs_that_are_missing_come_with_a_command(monkeypatch):
    monkeypatch.setattr(programs.shutil, "which", lambda name: "/bin/wget" if name == "wget" else None)
    found = {each["name"]: each for each in programs.programs()}
    assert found["curl or wget"]["found"] == "/bin/wget"
    assert found["git"]["found"] is None
    assert found["git"]["get"] == "apt-get install git"
