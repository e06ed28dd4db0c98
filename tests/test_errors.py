"""How a script ends."""

from __future__ import annotations

import pytest

from s3router.errors import DataError, run_script


def test_the_status_is_that_of_main():
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: 3)
    assert ended.value.code == 3


def test_an_error_of_ours_is_one_line_behind_the_scripts_name(monkeypatch):
    def main() -> int:
        raise DataError("data/x: no such folder")

    monkeypatch.setattr("sys.argv", ["local/prepare.py", "--out", "y"])
    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == "prepare.py: data/x: no such folder"  # which Python prints on stderr, with status 1


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)
