"""Trained models' folders, read for result files."""

from __future__ import annotations

import json

import pytest

from s3router.errors import DataError
from s3router.experiments import reading


class Trained:
    """What `reading` asks of an experiment."""

    RESULTS, method = "decode_", "frozen"

    def __init__(self, path):
        self.path = path
        self.options = {"max_updates": 20, "head_lr": 0.1}


def test_the_best_update_is_chosen_before_figures_are_rounded(tmp_path, monkeypatch):
    curve = [[10, 1.0, 1.0, 0.20004, 0.5], [20, 1.0, 1.0, 0.20001, 0.5]]
    monkeypatch.setattr(reading, "learning_curve", lambda exp: (curve, 3.0))
    monkeypatch.setattr(reading, "_figures", lambda folder: {})
    found = reading._recognition(Trained(tmp_path), "dev", [])
    assert found["best_update"] == 20
    assert [point[3] for point in found["curve"]] == [0.2, 0.2]


def test_damaged_files_of_what_was_recognised_are_named(tmp_path):
    (tmp_path / "utterances.tsv").write_text("utt\tref\thyp\twords\twrong\tchars\tbad\nu1\ta b\ta")
    with pytest.raises(DataError, match=r"utterances\.tsv is damaged .*remove .*, and decode again"):
        reading.recognised(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"data_dir": str(tmp_path)}))
    (tmp_path / "utt2label").write_text("u1\n")
    with pytest.raises(DataError, match=r"utt2label is damaged"):
        reading.classified(tmp_path)


def test_labels_with_a_byte_order_mark_are_right_all_the_same(tmp_path):
    (tmp_path / "utt2label").write_text("\ufeffa yes\nb no\n", encoding="utf-8")
    (tmp_path / "predict").mkdir()
    (tmp_path / "predict/utt2label").write_text("a yes\nb yes\n")
    (tmp_path / "predict/result.json").write_text(json.dumps({"data_dir": str(tmp_path)}))
    assert reading.classified(tmp_path / "predict") == {"a": [1, 0], "b": [1, 1]}
