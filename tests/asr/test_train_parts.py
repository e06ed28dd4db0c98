"""The small parts of training that need no ESPnet: progress, files, error counts, logging, options."""

from __future__ import annotations

import jiwer
import pytest
import yaml

from s3router.asr.experiment import ASRExperiment
from s3router.asr.inputs import AudioReader, espnet_options, write_inputs
from s3router.asr.options import _numbers
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.tokens import split
from s3router.errors import ConfigError
from s3router.scoring.error_counts import ErrorCounts

FIVE = "tests/fixtures/five"


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
