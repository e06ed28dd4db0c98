"""Messages of errors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from s3router.errors import DataError, explain


def os_error(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names[:1], *((None, names[1]) if len(names) > 1 else ()))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("text is missing"), "text is missing"),
        (os_error(errno.ENOENT, "x/y"), "x/y: no such file or directory; correct the path"),
        (os_error(errno.ENOTDIR, "x/y"), "x/y: not a directory; a folder is needed here: correct the path"),
        (os_error(errno.EISDIR, "x"), "x: is a directory; name a file"),
        (os_error(errno.EROFS, "x"), "x: read-only file system; name a folder on a disk that can be written to"),
        (os_error(errno.ENOTEMPTY, "x", "y"), "x -> y: directory not empty; remove it, or name another"),
        (os_error(errno.EPROTO), "protocol error"),
        (OSError("the hub\nhas no such model"), "the hub has no such model"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory; take smaller"),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"),
            "a checkpoint cannot be written (",
        ),
        (RuntimeError("shapes differ"), None),
        (KeyError("x"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_told_in_one_line(error, message):
    told = explain(error)
    assert told == message or (message and told.startswith(message) and "\n" not in told)


def test_a_full_disk_says_how_much_is_left(tmp_path: Path):
    told = explain(os_error(errno.ENOSPC, f"{tmp_path}/a/b.pth"))
    assert told.startswith(f"{tmp_path}/a/b.pth: no space left on device (")
    assert told.endswith(f" MiB free at {tmp_path}); make room and run the same command again")


def test_a_refused_access_names_the_owner_or_the_way(tmp_path: Path):
    assert explain(os_error(errno.EACCES, "/proc/1/mem")).startswith("/proc/1/mem: permission denied; ")
    assert explain(os_error(errno.EACCES, f"{tmp_path}/none")) == (
        f"{tmp_path}/none: permission denied; chmod u+rwX {tmp_path} gives you access"
    )
