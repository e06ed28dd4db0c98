"""The pretraining recipe on five utterances: two rounds, resumed, and loaded by transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from s3router.data.audio import read_audio, write_audio
from s3router.data.kaldi import DataDir
from s3router.errors import CheckpointError, ConfigError, DataError
from s3router.pretraining.model import Optimizers, Pretrainer, configuration
from s3router.pretraining.report import gathered, report
from s3router.pretraining.rounds import resume
from s3router.pretraining.settings import Settings
from s3router.pretraining.speech import Speech, frame_counter, read_folders
from s3router.pretraining.targets import at_other_speeds, load_targets, save_targets

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs/asterisk/ssl1"


def pretrain(config: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """One call of the pretraining command on the fixture, from the repository's root."""
    data = "tests/fixtures/five"
    command = ["pretrain", "--config", config, "--train", data, "--dev", data, "--out", out, "--threads", "1", *more]
    return s3router(*command)


def s3router(*command: object) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "s3router", *map(str, command)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def settings() -> dict:
    settings = yaml.safe_load((RECIPE / "conf" / "tiny.yaml").read_text())
    settings["model"] |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    settings["model"] |= {"conv_dim": [16, 16], "num_conv_pos_embedding_groups": 2}
    settings["training"] |= {"warmup": 1, "batch_seconds": 4.0}
    settings["rounds"] = [
        {"features": "mfcc", "clusters": [4, 6], "steps": 3},
        {"features": "layer", "layer": 1, "clusters": [5], "steps": 2},
    ]
    return settings


def test_rounds_export_and_resume(settings, tmp_path):
    config, out = tmp_path / "conf.yaml", tmp_path / "out"
    settings["rounds"][1]["steps"] = 2
    config.write_text(yaml.safe_dump(settings))
    first = pretrain(config, out)
    assert first.returncode == 0, first.stderr[-2000:]
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(e["round"], e["step"]) for e in entries] == [(1, 3), (2, 2)]
    assert all(0 <= e[k] <= 1 for e in entries for k in e if "acc" in k)

    settings["rounds"][1]["steps"] = 4  # goes on from the checkpoint: two more steps, round 1 not again
    config.write_text(yaml.safe_dump(settings))
    assert pretrain(config, out).returncode == 0
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(e["round"], e["step"]) for e in entries] == [(1, 3), (2, 2), (2, 4)]
    assert not list(out.rglob("*.tmp"))

    card = ["--install", tmp_path / "tiny", "--card", RECIPE / "conf/model_card.md"]
    reported = s3router("pretrain-report", "--config", config, "--exp", out, *card)
    assert reported.returncode == 0, reported.stderr[-2000:]
    assert [last["step"] for last in json.loads((out / "report.json").read_text())["rounds"]] == [3, 4]
    assert (tmp_path / "tiny/model.safetensors").read_bytes() == (out / "export_round2/model.safetensors").read_bytes()
    assert "| 2 | hidden state 1 of the round before | 5 | 4 |" in (tmp_path / "tiny/MODEL_CARD.md").read_text()

    with (out / "log.jsonl").open("a") as log:
        log.write('{"round": 2, "st')  # killed while it wrote
    (out / "export_round2").rename(tmp_path / "aside")
    with pytest.raises(DataError, match="round 2 is not finished"):
        report(out)
    (tmp_path / "aside").rename(out / "export_round2")
    assert [last["step"] for last in report(out)["rounds"]] == [3, 4]

    import torch
    from transformers import HubertModel

    model, info = HubertModel.from_pretrained(out / "export_round2", output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    hidden = model(torch.randn(1, 16000)).last_hidden_state
    assert hidden.shape == (1, 48, 32)  # a frame every 20 ms


def test_init_goes_with_first_round(settings, tmp_path):
    config = tmp_path / "conf.yaml"
    config.write_text(yaml.safe_dump(settings))
    refused = pretrain(config, tmp_path / "out", "--init", str(tmp_path))
    assert refused.returncode == 2
    assert "--first-round" in refused.stderr
    assert not (tmp_path / "out").exists()


def synthetic(folder: Path) -> Path:
    """The fixture once more, as if synthetic: with a phone for every frame."""
    folder.mkdir()
    phones = {}
    lines = (ROOT / "tests/fixtures/five/wav.scp").read_text().splitlines()
    with open(folder / "wav.scp", "w") as scp:
        for line in lines:
            utt, source = line.split(maxsplit=1)
            path = ROOT / source
            scp.write(f"espeak-{utt} {path}\n")
            frames = (len(read_audio(path)) - 720) // 320 + 1
            phones[f"espeak-{utt}"] = (np.arange(frames) % 3).astype(np.int16)
    np.savez(folder / "phones.npz", **phones)
    (folder / "phones.txt").write_text("(none)\na\nb\n")
    return folder


def test_phones_of_synthetic_speech_are_targets(settings, tmp_path):
    settings = settings | {"rounds": [{"features": "mfcc", "clusters": [4], "phones": True, "steps": 3}]}
    config, out = tmp_path / "conf.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(settings))
    refused = pretrain(config, out)
    assert refused.returncode == 1
    assert "phones: name synthetic speech with --synthetic" in refused.stderr
    assert "speeds" not in refused.stderr  # nothing was read
    assert not out.exists()
    done = pretrain(config, out, "--synthetic", str(synthetic(tmp_path / "synthetic")))
    assert done.returncode == 0, done.stderr[-2000:]
    entry = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"masked_acc_4", "masked_acc_3"} <= entry.keys()
    assert "dev_masked_acc_3" not in entry  # real speech has no phones
    assert json.loads((out / "data.json").read_text())["synthetic"]["phones"] == 3


def test_targets_at_other_speeds_follow_the_recording():
    samples = 32000
    speech = {("a", speed): np.zeros(round(samples / speed), np.int16) for speed in (0.5, 1.0, 2.0)}
    frames = frame_counter([400, 3], [160, 2])
    own = np.arange(frames(samples))[:, None]
    found = at_other_speeds({("a", 1.0): own}, speech, frames)
    assert (found["a", 1.0] == own).all()
    assert abs(found["a", 2.0][20, 0] - 41) <= 1  # half as long: frame 20's centre was at 41
    assert abs(found["a", 0.5][40, 0] - 19) <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("rounds"), "expected model, training and rounds"),
        (lambda s: s["training"].pop("warmup"), "training: warmup is missing"),
        (lambda s: s["training"].update(warmpu=2), "training: unknown key warmpu"),
        (lambda s: s["rounds"][0].update(features="layer"), "round 1: there is no model yet"),
        (lambda s: s["rounds"][1].pop("layer"), "round 2: features: layer needs the number of a layer"),
        (lambda s: s.update(rounds=[]), "rounds: expected a list of one or more"),
        (lambda s: s["training"].update(lr="fast"), "training: lr is a number, not 'fast'"),
        (lambda s: s["training"].update(warmup=0), "training: warmup is 1 update or more"),
        (lambda s: s["rounds"][0].update(clusters=[8.5]), "round 1: clusters is a list of whole numbers"),
    ],
)
def test_wrong_configurations_are_refused(settings, tmp_path, change, message):
    changed = json.loads(json.dumps(settings))
    change(changed)
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(ConfigError, match=message):
        Settings.read(tmp_path / "conf.yaml")


def test_a_rate_may_be_written_as_yaml_does_not_know_it(settings, tmp_path):
    settings["training"]["lr"] = "1e-3"
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(settings))
    assert Settings.read(tmp_path / "conf.yaml").training.lr == 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hiden_size": 8}, "HubertConfig has no option hiden_size"),
        ({"num_attention_heads": 5}, "these options make no HubertModel"),
        ({"hidden_size": "x"}, "these options make no HubertModel"),
        ({"conv_stride": [160, 4]}, "a frame must see 720 samples"),
        ({"num_hidden_layers": 0}, "layer 1 is clustered, but the model has 0 layers"),
    ],
)
def test_models_that_cannot_be_are_refused(settings, tmp_path, change, message):
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(settings | {"model": settings["model"] | change}))
    with pytest.raises(ConfigError, match=message):
        configuration(Settings.read(tmp_path / "conf.yaml"))


def test_broken_yaml_is_one_line(tmp_path):
    (tmp_path / "conf.yaml").write_text("model: [\n")
    with pytest.raises(ConfigError, match="not YAML") as error:
        Settings.read(tmp_path / "conf.yaml")
    assert "\n" not in str(error.value)


def test_missing_speech_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    five = Path("tests/fixtures/five")
    with pytest.raises(DataError, match=r"nowhere/wav.scp: no such file"):
        Speech.read([Path("nowhere")], [five], [1.0])
    with pytest.raises(ConfigError, match="--dev: a directory is named twice"):
        Speech.read([five], [five, five], [1.0])
    with pytest.raises(DataError, match=r"no synthetic speech .*s3router prepare synthetic"):
        Speech.read([five], [five], [1.0], tmp_path)
    with pytest.raises(DataError, match=r"log.jsonl is missing: not an experiment of s3router pretrain"):
        report(tmp_path)


def test_an_id_names_one_recording(tmp_path):
    five = (ROOT / "tests/fixtures/five").resolve()
    data = DataDir.read(five)
    utts = [replace(u, source=str(ROOT / u.source)) for u in data.utts]
    for name, part in (("train", utts[:3]), ("dev", utts[2:])):
        DataDir(tmp_path / name, part).write(tmp_path / name)
    with pytest.raises(DataError, match=f"{utts[2].utt} is both in .*train and in .*dev"):
        Speech.read([tmp_path / "train"], [tmp_path / "dev"], [1.0])


def test_segments_are_learnt_from_alone(tmp_path):
    write_audio(tmp_path / "rec.wav", np.zeros(64000), 16000)
    (tmp_path / "wav.scp").write_text(f"rec {tmp_path}/rec.wav\n")
    (tmp_path / "segments").write_text("a rec 0.0 1.0\nb rec 2.0 3.5\n")
    assert {utt: len(x) for utt, x in read_folders([tmp_path]).items()} == {"a": 16000, "b": 24000}


def test_checkpoints_of_another_model_are_refused(settings, tmp_path):
    import torch
    from transformers import HubertConfig

    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(settings))
    training = Settings.read(tmp_path / "conf.yaml").training
    model = Pretrainer(HubertConfig(**settings["model"]), [4])
    other = Pretrainer(HubertConfig(**settings["model"]), [5])
    state = {"model": other.state_dict(), "optimizer": Optimizers(other, training).state_dict(), "step": 1}
    torch.save(state | {"seconds": 0.0}, tmp_path / "round1.pt")
    with pytest.raises(CheckpointError, match="of another configuration"):
        resume(tmp_path / "round1.pt", model, Optimizers(model, training))
    (tmp_path / "round1.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        resume(tmp_path / "round1.pt", model, Optimizers(model, training))


def test_targets_come_back_as_they_were(tmp_path):
    targets = {("a-1", 0.9): np.arange(6, dtype=np.int16).reshape(3, 2), ("b c", 1.0): np.ones((1, 2), np.int16)}
    save_targets(tmp_path / "targets.npz", targets)
    found = load_targets(tmp_path / "targets.npz")
    assert found.keys() == targets.keys()
    assert all((found[item] == targets[item]).all() and found[item].dtype == np.int16 for item in targets)


def test_frames_of_another_span_are_refused():
    with pytest.raises(ConfigError, match="a frame must see 720 samples"):
        frame_counter([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2])  # of wav2vec 2.0


def test_sources_of_the_card():
    minutes = {"../asr1/data/en/train": 1.0, "../asr1/data/it/train": 2.0, "data/stamps": 3.0, "mine": 4.0}
    assert list(gathered(minutes).values()) == [3.0, 3.0, 4.0]
