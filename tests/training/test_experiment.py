"""Experiment folders: opening, metrics, and what must not change on resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from s3router.asr.experiment import ASRExperiment
from s3router.errors import CheckpointError, ConfigError
from s3router.superb.experiment import TaskExperiment
from s3router.training.resume import COMMON, differences

CONFIG = {
    "method": "router",
    "upstream": "tiny",
    "upstream_ckpt": None,
    "upstream_fingerprint": "f" * 32,
    "frontend_conf": {},
    "token_list": ["<blank>", "<unk>", "<space>", "a", "<sos/eos>"],
    "seed": 3,
    "amp_dtype": "bfloat16",
    "max_updates": 5,
    "valid_interval": 2,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def test_what_a_folder_says(folder):
    exp = ASRExperiment(folder)
    assert (exp.method, exp.upstream, exp.upstream_ckpt, exp.seed, exp.task) == ("router", "tiny", None, 3, "asr")
    assert (exp.fingerprint, exp.amp_dtype) == ("f" * 32, "bfloat16")
    assert exp.tokens.encode("a a") == [3, 2, 3]
    assert exp.best() == exp.checkpoint() == folder / "valid.cer_ctc.best.pth"


def test_a_checkpoint_is_a_name_or_a_path(folder, tmp_path):
    torch.save({"w": torch.ones(2)}, folder / "1epoch.pth")
    torch.save({"model": {"w": torch.zeros(2)}, "optimizers": []}, folder / "checkpoint.pth")
    exp = ASRExperiment(folder)
    assert exp.checkpoint("1epoch.pth") == folder / "1epoch.pth"
    assert exp.state("1epoch.pth")["w"].tolist() == [1, 1]
    assert exp.state(folder / "checkpoint.pth")["w"].tolist() == [0, 0]
    with pytest.raises(CheckpointError, match=r"valid\.cer_ctc\.best\.pth: no such checkpoint"):
        exp.state()


def test_a_run_without_a_checkpoint_begins_anew(folder):
    assert ASRExperiment.interrupted(folder) is None
    torch.save({"reporter": {"epoch": 3, "stats": {}}}, folder / "checkpoint.pth")
    exp = ASRExperiment.interrupted(folder)
    assert exp.so_far() == (5, None)  # three validations every two updates, but no more than all
    torch.save(
        {"reporter": {"epoch": 2, "stats": {1: {"valid": {"cer_ctc": 0.5}}, 2: {"valid": {"cer_ctc": 0.25}}}}},
        folder / "checkpoint.pth",
    )
    assert exp.so_far() == (4, (0.25, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; .* is not an experiment of s3router train"),
        (b"a: [", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"- 1", "not a configuration of s3router train"),
        (b"method: router", "not a configuration of s3router train"),
    ],
)
def test_folders_that_cannot_be_opened(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        ASRExperiment(tmp_path)


def test_metrics_are_those_of_the_checkpoint(folder):
    for name, checkpoint, cer in (("dev", "", 0.5), ("test", "exp/x/latest.pth", 0.1)):
        (folder / f"decode_{name}").mkdir()
        result = {"wer": 1.0, "cer": cer, "n_utts": 5, "rtf": 0.1, "checkpoint": checkpoint}
        (folder / f"decode_{name}" / "result.json").write_text(json.dumps(result))
    exp = ASRExperiment(folder)
    assert exp.metrics() == {"dev": {"wer": 1.0, "cer": 0.5, "n_utts": 5}}
    assert exp.metrics("latest.pth") == {"test": {"wer": 1.0, "cer": 0.1, "n_utts": 5}}
    (folder / "decode_dev" / "result.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"decode_dev/result\.json: damaged"):
        exp.metrics()


@pytest.mark.parametrize(("name", "value"), [("seed", 4), ("amp_dtype", "float32"), ("method", "weight")])
def test_settings_that_must_not_change(folder, name, value):
    exp = ASRExperiment(folder)
    exp.check_same_run({**CONFIG, "num_workers": 4})
    with pytest.raises(ConfigError, match=f"--{name} was {CONFIG[name]}, is {value}"):
        exp.check_same_run({**CONFIG, name: value})


def test_another_upstream_or_token_list_is_refused(folder):
    exp = ASRExperiment(folder)
    exp.check_upstream("f" * 32)
    exp.check_tokens(CONFIG["token_list"])
    with pytest.raises(CheckpointError, match="upstream tiny: its weights are not those"):
        exp.check_upstream("0" * 32)
    with pytest.raises(ConfigError, match="another token list"):
        exp.check_tokens(["<blank>"])


@pytest.mark.parametrize("kind", [ASRExperiment, TaskExperiment])
def test_every_kind_keeps_the_common_settings(kind):
    assert set(COMMON) <= set(kind.DECISIVE)


def test_numbers_as_keys_are_compared_as_json_has_them():
    before, now = ({"mask_conf": {"layer_sparsity": {key: 0.5}}} for key in ("0", 0))
    assert differences(before, now, ["mask_conf"]) == []
    assert differences(before, {"mask_conf": {"layer_sparsity": {1: 0.5}}}, ["mask_conf"])
