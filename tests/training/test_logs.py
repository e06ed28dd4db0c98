"""What of the log comes onto the screen, and when the log file is made."""

from __future__ import annotations

import logging

from s3router.training.logs import on_screen, to_files


def test_the_screen_shows_ours_and_what_is_wrong():
    def record(name: str, level: int, module: str = "asr") -> logging.LogRecord:
        return logging.LogRecord(name, level, f"/x/{module}.py", 1, "", None, None)

    assert on_screen(record("s3router.training.progress", logging.INFO))
    assert not on_screen(record("s3router.training.progress", logging.DEBUG))
    assert not on_screen(record("root", logging.WARNING))
    assert on_screen(record("root", logging.WARNING, "trainer"))
    assert on_screen(record("root", logging.ERROR))


def test_the_log_file_waits_for_its_folder(tmp_path, capsys):
    path = tmp_path / "exp" / "train.log"
    with to_files(path):
        logging.getLogger("s3router.x").info("first")
        logging.getLogger("else").info("second")
        assert not path.parent.exists()
        path.parent.mkdir()
        logging.getLogger("else").info("third")
    assert [line.split(": ")[-1] for line in path.read_text().splitlines()] == ["first", "second", "third"]
    screen = capsys.readouterr().err
    assert "first" in screen
    assert "second" not in screen
