"""Writing files: whole or not at all, whatever happens, whoever else writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s3router.errors import ConfigError, DataError
from s3router.files import clean_unfinished, link, read_yaml, replacing, replacing_folder, write_json, write_lines

ROOT = Path(__file__).parents[1]


def run(code: str, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_what_was_there_is_replaced(tmp_path: Path):
    target = tmp_path / "new" / "a.txt"
    write_lines(target, ["a", "ж"])
    write_lines(target, ["b"])
    assert target.read_text(encoding="utf-8") == "b\n"
    assert os.listdir(target.parent) == ["a.txt"]


def test_an_error_leaves_all_as_it_was(tmp_path: Path):
    write_lines(tmp_path / "a", ["old"])

    def fail_in_a_file():
        with replacing(tmp_path / "a") as file:
            file.write("new")
            raise ZeroDivisionError

    def fail_in_a_folder():
        with replacing_folder(tmp_path / "b") as draft:
            (draft / "x").touch()
            raise ZeroDivisionError

    for fail in (fail_in_a_file, fail_in_a_folder):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old\n"


def test_a_link_is_followed_and_a_device_written_to(tmp_path: Path):
    (tmp_path / "link").symlink_to("target")
    write_json(tmp_path / "link", {"ж": 1})
    assert json.loads((tmp_path / "target").read_text(encoding="utf-8")) == {"ж": 1}
    write_lines("/dev/null", ["x"])
    assert Path("/dev/null").is_char_device()


def test_folders_are_refused_as_files_and_kept_where_they_hold_something(tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(DataError, match="a folder; name a file"):
        write_lines(tmp_path / "full", [])
    with pytest.raises(DataError, match="exists already"), replacing_folder(tmp_path / "full"):
        pass
    assert os.listdir(tmp_path / "full") == ["mine"]
    (tmp_path / "empty").mkdir()
    with replacing_folder(tmp_path / "empty") as draft:
        (draft / "x").touch()
    assert os.listdir(tmp_path / "empty") == ["x"]


def test_links_are_replaced(tmp_path: Path):
    for target in ("a", "b", "b"):
        link(tmp_path / "best", target)
        assert os.readlink(tmp_path / "best") == target
    assert os.listdir(tmp_path) == ["best"]


def test_a_failed_write_names_the_file_that_was_asked_for(tmp_path: Path):
    code = """
import resource, sys
from s3router.errors import explain
from s3router.files import replacing
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with replacing(sys.argv[1], "wb") as file:
        file.write(bytes(10_000))
except OSError as error:
    print(explain(error))
"""
    out, _ = run(code, str(tmp_path / "big")).communicate()
    assert out == f"{tmp_path / 'big'}: file too large\n"
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_while_tensors_are_saved(tmp_path: Path):
    """Libraries have errors of their own for it."""
    code = """
import resource, sys, torch
from safetensors.torch import save_file
from s3router.errors import explain
from s3router.files import replacing, replacing_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
states = {"a": torch.zeros(10_000)}
try:
    with replacing(sys.argv[1] + "/a.pth", "wb") as file:
        torch.save(states, file)
except OSError as error:
    print(explain(error))
try:
    with replacing_folder(sys.argv[1] + "/b") as folder:
        save_file(states, folder / "model.safetensors")
except OSError as error:
    print(explain(error))
"""
    out, err = run(code, str(tmp_path)).communicate()
    assert out.splitlines() == [f"{tmp_path}/a.pth: file too large", f"{tmp_path}/b: file too large"], err
    assert os.listdir(tmp_path) == []


def test_processes_that_write_one_file_never_mix_and_leave_nothing_else(tmp_path: Path):
    code = """
import sys
from s3router.files import write_lines
for _ in range(30):
    write_lines(sys.argv[1], [sys.argv[2]] * 3000)
"""
    target = tmp_path / "text"
    writers = [run(code, str(target), letter) for letter in "abcd"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if target.exists():
            lines = target.read_text().splitlines()
            assert len(lines) == 3000
            seen |= {frozenset(lines)}
    assert [writer.wait() for writer in writers] == [0] * 4, [writer.stderr.read() for writer in writers]
    assert all(len(lines) == 1 for lines in seen)
    assert os.listdir(tmp_path) == ["text"]


def test_of_processes_that_make_one_folder_one_wins(tmp_path: Path):
    code = """
import sys, time
from s3router.errors import DataError
from s3router.files import replacing_folder
try:
    with replacing_folder(sys.argv[1]) as draft:
        for name in "xyz":
            (draft / name).write_text(sys.argv[2])
            time.sleep(0.05)
except DataError:
    sys.exit(7)
"""
    makers = [run(code, str(tmp_path / "made"), letter) for letter in "abc"]
    assert sorted(maker.wait() for maker in makers) == [0, 7, 7]
    assert len({(tmp_path / "made" / name).read_text() for name in "xyz"}) == 1
    assert os.listdir(tmp_path) == ["made"]


def test_what_killed_processes_have_left_is_removed(tmp_path: Path):
    code = """
import sys, time
from s3router.files import replacing, replacing_folder
with replacing(sys.argv[1] + "/a") as file, replacing_folder(sys.argv[1] + "/b") as draft:
    (draft / "x").touch()
    print("ready", flush=True)
    time.sleep(600)
"""
    (tmp_path / ".mine.tmp").touch()  # not ours: we do not know who writes it
    killed, living = run(code, str(tmp_path)), run(code, str(tmp_path))
    for process in (killed, living):
        assert process.stdout.readline() == "ready\n"
    killed.kill()
    killed.wait()
    clean_unfinished(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 3
    assert all(f".{living.pid}-" in name for name in left[:2])
    living.kill()
    living.wait()
    clean_unfinished(tmp_path)
    assert os.listdir(tmp_path) == [".mine.tmp"]


def test_names_may_be_as_long_as_the_file_system_takes(tmp_path: Path):
    name = "ж" * 127
    write_lines(tmp_path / name, ["x"])
    assert os.listdir(tmp_path) == [name]


def test_a_terminated_command_leaves_nothing(tmp_path: Path):
    code = """
import sys, time
from s3router import cli
from s3router.cli import targets
from s3router.files import replacing
def main(argv):
    with replacing(argv[0]) as file:
        print("ready", flush=True)
        time.sleep(600)
targets.main = main
sys.exit(cli.main(["targets", sys.argv[1]]))
"""
    process = run(code, str(tmp_path / "a"))
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []


def test_names_that_stand_twice_in_yaml(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &x {b: [1, {c: 1, c: 2}]}\nd: *x\ne:\n  1: x\n  '1': x\n")
    with pytest.raises(ConfigError, match=r"a.yaml: c stands twice, in lines 1 and 1$"):
        read_yaml(path)
    path.write_text("a: &x\n  b: 1\nd:\n  <<: *x\n  b: 2\nlist: &l [*l]\n")
    assert read_yaml(path)["d"] == {"b": 2}
    path.write_text("methods:\n  a: {}\n  b: {}\n  a: {x: 1}\n")
    with pytest.raises(ConfigError, match=r"a stands twice, in lines 2 and 4"):
        read_yaml(path)
