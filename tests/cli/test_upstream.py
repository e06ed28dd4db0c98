"""``s3router upstream``: what it prints, and how it fails."""

from __future__ import annotations

import shutil

import pytest

from s3router.cli import main
from s3router.upstreams import public


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(public.FOLDER_VARIABLE, str(tmp_path / "upstreams"))
    return tmp_path / "upstreams"


@pytest.fixture
def offline(monkeypatch):
    import urllib.request

    def refuse(self, request, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)


def test_the_list_names_every_upstream_and_what_is_there(folder, capsys):
    place = folder / "xls_r_300m" / "fairseq"
    place.mkdir(parents=True)
    (place / "xlsr2_300m.pt").write_bytes(b"")
    assert main(["upstream", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + len(public.catalogue())
    assert any(line.startswith("tiny ") and "15 M" in line and "ships with s3router*" in line for line in lines)
    line = next(line for line in lines if line.startswith("xls_r_300m"))
    assert "fairseq*" in line
    assert "s3prl " in line
    assert "315 M" in line


def test_a_mistyped_name_is_refused_at_once(folder, capsys):
    for name in ("tiny", "xls_r_300m", "hubert_base_ls960", "distilhubert"):
        assert main(["upstream", "known", name]) == 0
    assert main(["upstream", "known", "xlsr_300m"]) == 1
    assert "upstream 'xlsr_300m' is not known. Did you mean xls_r_300m" in capsys.readouterr().err
    assert main(["upstream", "known", "auto"]) == 1
    assert "needs a file, folder or repository name" in capsys.readouterr().err
    assert main(["upstream", "known", "auto", "--upstream-ckpt", str(folder / "x.pt")]) == 1
    assert "x.pt: no such checkpoint file or folder" in capsys.readouterr().err
    assert main(["upstream", "list", "--all"]) == 0
    assert {"tiny", "auto", "xls_r_300m", "distilhubert"} <= set(capsys.readouterr().out.split())


def test_fetch_fails_with_the_address_and_the_place(folder, offline, capsys):
    assert main(["upstream", "fetch", "hubert_base"]) == 1
    error = capsys.readouterr().err
    assert "https://dl.fbaipublicfiles.com/hubert/hubert_base_ls960.pt cannot be downloaded (no route to host)" in error
    assert f"put it at {folder}/hubert_base/fairseq/hubert_base_ls960.pt" in error
    assert main(["upstream", "fetch", "hubrt_base"]) == 1
    assert "not public upstreams: hubrt_base. Known: data2vec_base_960" in capsys.readouterr().err


def test_fetch_refuses_a_copy_that_is_not_the_published_file(folder, offline, tmp_path, capsys):
    (tmp_path / "copy.pt").write_bytes(b"0123456789")
    assert main(["upstream", "fetch", "hubert_base", "--file", str(tmp_path / "copy.pt")]) == 1
    assert "10 bytes, expected 1136468879 (published)" in capsys.readouterr().err
    assert main(["upstream", "fetch", "hubert_base", "xlsr_53", "--file", "x"]) == 1
    assert "--file is for one name" in capsys.readouterr().err


def test_fetch_takes_a_copy_and_says_its_hash(folder, offline, tmp_path, capsys):
    (tmp_path / "copy.pt").write_bytes(b"0123456789")
    assert main(["upstream", "fetch", "xlsr_53", "--format", "fairseq", "--file", str(tmp_path / "copy.pt")]) == 0
    said = capsys.readouterr().out
    assert "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882 (first seen)" in said


def test_convert_and_check(folder, tmp_path, capsys):
    shutil.copytree(public.CONF.parent / "tiny", tmp_path / "tiny")
    assert main(["upstream", "check", str(tmp_path / "tiny")]) == 0
    said = capsys.readouterr().out
    assert "HubertModel of transformers" in said
    assert "all weights were found" in said
    assert main(["upstream", "check", "tiny"]) == 0
    assert capsys.readouterr().out == said
    (tmp_path / "x.pt").write_bytes(b"<html>")
    assert main(["upstream", "convert", str(tmp_path / "x.pt"), str(tmp_path / "new")]) == 1
    assert "not a torch checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
