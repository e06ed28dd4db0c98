"""The small parts of training that need no ESPnet: progress, files, error counts, logging, options."""

from __future__ import annotations

import logging
import os

import jiwer
import pytest
import yaml

from s3router.asr.experiment import ASRExperiment
from s3router.asr.inputs import AudioReader, espnet_options, write_inputs
from s3router.asr.options import _numbers
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.tokens import split
from s3router.errors import ConfigError
from s3router.files import link, replacing
from s3router.scoring.error_counts import ErrorCounts
from s3router.training.logs import on_screen, to_files
from s3router.training.progress import Progress, clock

FIVE = "tests/fixtures/five"


def test_clock():
    assert [clock(s) for s in (4.6, 75.2, 3700, 360000)] == ["0:05", "1:15", "1:01:40", "100:00:00"]


class Time:
    """A clock that a test moves."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_progress_counts_steps(caplog):
    time = Time()
    progress = Progress(max_updates=10, interval=3, done=5, now=time)
    with caplog.at_level(logging.INFO, "s3router"):
        for _ in range(5):
            time.seconds += 3
            progress.step(lambda steps: float(steps))
    assert progress.update == 10
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "update 6/10  loss 1  0.33 updates/s  0:12 left",
        "update 9/10  loss 3  0.33 updates/s  0:03 left",
        "update 10/10  loss 1  0.33 updates/s  0:00 left",
    ]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ValueError, match="x"), replacing(path) as file:
        file.write(f"ne{int('x')}")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_links_are_replaced(tmp_path):
    (tmp_path / "1").write_text("one")
    link(tmp_path / "best", "1")
    link(tmp_path / "best", "2")
    assert os.readlink(tmp_path / "best") == "2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "best"]


def test_error_counts_are_those_of_scoring():
    pairs = [("ciao bella", "ciao bello"), ("", "sei"), ("a b c d", "a c"), ("domani", "domani")]
    counts = ErrorCounts()
    for hypothesis, reference in pairs:
        counts.add(hypothesis, reference)
    hypotheses, references = (list(side) for side in zip(*pairs, strict=True))
    assert counts.cer == jiwer.cer(references, hypotheses)
    assert counts.wer == jiwer.wer(references, hypotheses)
    assert (counts.empty, counts.all_empty()) == (1, False)
    assert ErrorCounts(*counts.as_list()) == counts


@pytest.mark.parametrize(("empty", "update", "warned"), [(3, 40, True), (3, 20, False), (2, 40, False)])
def test_blank_collapse_is_reported_once_training_is_well_under_way(caplog, empty, update, warned):
    from s3router.training.progress import announce

    progress = Progress(max_updates=100, done=update)
    with caplog.at_level(logging.INFO, "s3router"):
        announce(progress, 1.0, ErrorCounts(9, 9, 3, 3, utts=3, empty=empty))
    assert ("nothing but blanks" in caplog.text) == warned
    assert progress.best == (1.0, update)


def test_inputs_say_lengths_at_16_khz_and_read_stretches(tmp_path):
    utt = DataDir.read(FIVE).utts[0]
    cut = Utterance("cut", f"{utt.source}#t=0.25,0.75", "premere", "cut", 0.5)
    folder = tmp_path / "train"
    write_inputs(DataDir(tmp_path, [cut, utt]), folder)
    options = espnet_options(folder, "train")
    with open(options["train_shape_file"][0]) as file:
        assert file.read() == f"cut 8000\n{utt.utt} 25600\n"
    audio = AudioReader(options["train_data_path_and_name_and_type"][0][0])
    assert list(audio) == ["cut", utt.utt]
    whole, part = audio[utt.utt], audio["cut"]
    assert part.shape == (8000,)
    assert (whole[4000:12000] == part).all()


def test_espnet_gets_the_tokens_that_were_checked(tmp_path):
    """Blanks that are doubled, or of other kinds, come from word processors and spread sheets."""
    text = "a  b\u00a0c\td   e"
    write_inputs(DataDir(tmp_path, [Utterance("u", "a.wav", text, "u", 1.0)]), tmp_path / "train")
    given = (tmp_path / "train/text").read_text(encoding="utf-8").removesuffix("\n").removeprefix("u ")
    # ESPnet's tokenizers: a token for every character, and the phones between blanks
    assert ["<space>" if c == " " else c for c in given] == split(text, "char")
    assert given.split(" ") == split(text, "phn")


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


def test_only_decisive_options_make_another_run(tmp_path):
    before = {"method": "router", "upstream": "tiny", "frontend_conf": {}, "token_list": [], "seed": 0}
    before |= {"num_workers": 0, "optim_conf": {"betas": [0.9, 0.98]}, "amp_dtype": "bfloat16", "gone": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before))
    exp = ASRExperiment(tmp_path)
    now = {**before, "optim_conf": {"betas": (0.9, 0.98)}, "num_workers": 4, "score_lr": 1.0}
    exp.check_same_run(now)
    with pytest.raises(ConfigError, match="--seed was 0, is 1; --amp_dtype was bfloat16, is float32"):
        exp.check_same_run({**now, "seed": 1, "amp_dtype": "float32"})


def test_numbers_without_a_point():
    assert _numbers({"lr": "1e-4", "name": "adam", "n": 3}) == {"lr": 1e-4, "name": "adam", "n": 3}
