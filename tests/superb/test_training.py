"""Training, resuming, predicting, on a small random upstream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from s3router.cli import main
from s3router.data.audio import write_audio
from s3router.errors import CheckpointError, ConfigError, DataError
from s3router.superb import run as run_module
from s3router.superb.batches import TrainingBatches
from s3router.superb.experiment import TaskExperiment
from s3router.superb.labels import read_labels
from s3router.superb.options import complete
from s3router.superb.run import Run, step_seed
from s3router.superb.select import select
from s3router.superb.table import table
from s3router.superb.tasks import TASKS
from s3router.training.parameters import trained_state
from tests.superb.conftest import make_set, train

ROOT = Path(__file__).parents[2]


def test_it_learns_and_predicts(options, sets, tmp_path):
    args = options("--max-updates", "60", "--valid-interval", "20", "--lr", "2e-2")
    run = train(args)
    assert run.best["accuracy"] > 0.8
    out = tmp_path / "x/predict_test"
    command = ["--exp-dir", str(args.output_dir), "--data-dir", str(sets["test"]), "--output-dir", str(out)]
    assert main(["superb-predict", *command]) == 0
    result = json.loads((out / "result.json").read_text())
    assert (result["n_utts"], result["method"], "track" in result) == (5, "frozen", False)
    true = read_labels(sets["test"]).labels
    found = dict(line.split() for line in (out / "utt2label").read_text().splitlines())
    right = sum(found[utt] == label for utt, (label,) in true.items()) / 5
    assert result["accuracy"] == right > 0.5
    lines = table([tmp_path / "x"])
    assert "track" not in lines[0]  # of a task that is not the benchmark's
    assert f"| test | hf_hubert_custom | frozen |  | 0 | 5 | {100 * right:.2f} |" in lines[2]


@pytest.mark.parametrize("method", ["frozen", "weight", "router", "scratch"])
def test_a_checkpoint_holds_what_trained_and_no_more(options, method):
    run = Run.prepare(args := options("--method", method), complete(args))
    before = {name: tensor.clone() for name, tensor in run.task.model.state_dict().items()}
    names = set(trained_state(run.task.model))
    run.train()
    changed = {n for n, tensor in run.task.model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed <= names
    assert names == set(torch.load(args.output_dir / "best.pth", weights_only=True)["model"])
    inside = {name for name in changed if name.startswith("upstream.")}
    assert bool(inside) == (method != "frozen")
    assert all(name.endswith(".scores") for name in inside) == (method in ("frozen", "router"))
    assert any("feature_extractor" in name for name in changed) == (method == "scratch")


RESUMED = {
    "frozen": (),
    "router": (),
    "imp": ("--method-conf", '{"rounds": 5}'),
    "parp": ("--method-conf", '{"every": 3}'),
    "router_p": ("--method-conf", '{"start": "finetuned"}', "--upstream-lr", "1e-2"),
}


@pytest.mark.parametrize("method", RESUMED)
def test_stopped_and_resumed_is_as_never_stopped(options, method, monkeypatch):
    more = ("--method", method, "--accum-grad", "2", *RESUMED[method])
    whole = train(options(*more, name="whole"))
    args = options(*more, "--save-interval", "1", name="stopped")
    step = Run._step

    def dies(self, *arguments):
        if self.update == 4:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Run, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(args)
    monkeypatch.setattr(Run, "_step", step)
    resumed = train(options(*more, "--save-interval", "1", name="stopped"))
    for (name, a), b in zip(
        trained_state(whole.task.model).items(), trained_state(resumed.task.model).values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert whole.best == resumed.best


KILL = """
import os, sys, torch
from s3router.cli.superb_train import main
save = torch.save
def dies(states, file):
    if states.get("update") == 4:
        file.write(b"half a checkpoint")
        file.flush()
        os.kill(os.getpid(), 9)
    save(states, file)
torch.save = dies
main(sys.argv[1:])
"""


def test_killed_while_it_writes_a_checkpoint(options, tmp_path):
    more = ["--method", "router", "--save-interval", "1"]
    whole = train(options(*more, name="whole"))
    command = [sys.executable, "-c", KILL, *words_of(options(*more, name="killed")), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "killed/best.pth").read_bytes().startswith(b"half")
    resumed = train(options(*more, name="killed"))
    found = trained_state(resumed.task.model)
    for name, tensor in trained_state(whole.task.model).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-7)  # another process, other thread counts


def words_of(args) -> list[str]:
    """The command line again, but for options without an equals sign."""
    names = (
        "task",
        "upstream",
        "upstream_ckpt",
        "train_dir",
        "valid_dir",
        "output_dir",
        "max_updates",
        "valid_interval",
    )
    return [f"--{name.replace('_', '-')}={vars(args)[name]}" for name in (*names, "batch_size", "amp_dtype")]


def test_another_run_in_the_same_folder_is_refused(options):
    train(options("--max-updates", "1"))
    with pytest.raises(ConfigError, match=r"--lr was 0.001, is 0.5"):
        train(options("--max-updates", "1", "--lr", "0.5"))


def test_other_labels_and_classes_in_the_same_folder_are_refused(options, tmp_path):
    folder = make_set(tmp_path / "train", 6)
    args = ["--max-updates", "1", "--train-dir", str(folder)]
    train(options(*args))
    lines = (folder / "utt2label").read_text().splitlines()
    swapped = {line.split()[0]: line.split()[1] for line in lines}
    swapped["hiss-0"], swapped["rumble-1"] = swapped["rumble-1"], swapped["hiss-0"]
    (folder / "utt2label").write_text("".join(f"{utt} {label}\n" for utt, label in swapped.items()))
    with pytest.raises(ConfigError, match="holds a run with other labels"):
        train(options(*args))


def test_other_recordings_in_the_same_folder_are_refused(options, tmp_path):
    folder = make_set(tmp_path / "train", 6)
    args = ["--max-updates", "1", "--train-dir", str(folder)]
    train(options(*args))
    make_set(folder, 6, seconds=0.5)
    with pytest.raises(ConfigError, match="holds a run with other recordings"):
        train(options(*args))


def test_a_resumed_run_keeps_its_arithmetic(options, monkeypatch):
    """Measured when it begins, or given; a measurement of another day does not change it."""
    chosen = iter(["bfloat16", "float32"])
    monkeypatch.setattr(run_module, "choose_arithmetic", lambda *_: next(chosen))
    assert train(options("--amp-dtype", "auto", "--max-updates", "1")).task.model.autocast
    assert train(options("--amp-dtype", "auto", "--max-updates", "1")).options.amp_dtype == "bfloat16"
    assert TaskExperiment(options().output_dir).amp_dtype == "bfloat16"
    with pytest.raises(ConfigError, match="--amp-dtype was bfloat16, is float32"):
        train(options("--max-updates", "1"))


def test_a_run_of_before_that_says_mode_goes_on(options):
    args = options("--mode", "router", "--max-updates", "1")
    train(args)
    path = args.output_dir / "config.json"
    config = json.loads(path.read_text())
    config["options"]["mode"] = config["options"].pop("method")
    del config["labels"]
    path.write_text(json.dumps(config))
    assert train(options("--method", "router", "--max-updates", "1")).update == 1
    assert TaskExperiment(args.output_dir).method == "router"
    with pytest.raises(ConfigError, match="--method was router, is frozen"):
        train(options("--max-updates", "1"))


def test_processes_that_train_together_draw_different_numbers():
    seeds = [step_seed(seed, update, rank, 3) for seed in (0, 1) for update in range(50) for rank in range(3)]
    assert len(set(seeds)) == len(seeds)
    assert step_seed(2, 5) == 2 * 1_000_003 + 5


def test_a_damaged_checkpoint_is_refused(options):
    args = options("--max-updates", "1")
    train(args)
    path = args.output_dir / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"damaged|refused"):
        train(options("--max-updates", "1"))


def test_batches_are_the_same_from_any_start_and_shared_between_ranks(sets):
    kind = TASKS["cls"]
    labelled = kind.read(sets["train"])
    clips = kind.clips(labelled, kind.encoder([["hiss", "rumble"]]), kind.settings(), max_seconds=0.2)
    sampler = kind.sampler(clips, 5, kind.settings(), 3)

    def names(count: int, start: int = 0, **kwargs) -> list[list[str]]:
        stream = TrainingBatches(clips, sampler, **kwargs).starting_at(start)
        return [list(batch["unique_name"]) for _, (batch, _) in zip(range(count), stream, strict=False)]

    whole = names(7)
    assert names(3, start=4) == whole[4:]
    assert whole[0] != whole[3]  # another order in the second epoch
    assert sorted(utt for batch in whole[:3] for utt in batch) == sorted(labelled.labels)
    halves = [names(3, rank=rank, world=2) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(batch) for batch in whole[:3]]
    weights = [next(TrainingBatches(clips, sampler, rank=r, world=2).starting_at(0))[1] for r in (0, 1)]
    assert weights == [2 * 3 / 5, 2 * 2 / 5]


def test_balanced_batches(tmp_path):
    folder = make_set(tmp_path, 12)
    lines = (folder / "utt2label").read_text().splitlines()
    (folder / "utt2label").write_text(
        "\n".join(f"{line.split()[0]} {'b' if i else 'a'}" for i, line in enumerate(lines)) + "\n"
    )
    kind = TASKS["ks"]
    clips = kind.clips(kind.read(folder), kind.encoder([["a", "b"]]), kind.settings())
    batches = TrainingBatches(clips, kind.sampler(clips, 4, kind.settings(), 0)).starting_at(0)
    drawn = [label for _, (batch, _) in zip(range(30), batches, strict=False) for label in batch["label"]]
    assert 0.3 < drawn.count("a") / len(drawn) < 0.7


@pytest.mark.parametrize("more", [["--method", "frozen"], ["--method", "router", "--upstream-dropout", "0"]])
def test_two_processes_train_as_one(options, tmp_path, more):
    one = train(options(*more, name="one"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["s3router", "superb-train", *words_of(options(*more, name="two")), *more]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, two = (torch.load(tmp_path / name / "best.pth", weights_only=True) for name in ("one", "two"))
    assert two["best"]["update"] == one.best["update"]
    for name, tensor in first["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-4, atol=1e-5)


def test_a_sweep_is_decided_on_the_validation_set(options, tmp_path):
    for lr in ("1e-5", "2e-2"):
        train(options("--max-updates", "40", "--valid-interval", "40", "--lr", lr, name=f"lr_{lr}"))
    best, _ = select([tmp_path / "lr_1e-5", tmp_path / "lr_2e-2"])
    assert best.path.name == "lr_2e-2"
    assert main(["superb-select", str(tmp_path / "lr_2e-2"), "--output", str(tmp_path / "selected")]) == 0
    for folder in (tmp_path, tmp_path / "selected"):
        experiment = TaskExperiment(folder)
        assert experiment.best().is_file()
        assert (experiment.options["lr"], experiment.top) == (2e-2, tmp_path)
    assert experiment.metrics() == {"dev": {name: best.validated[name] for name in ("accuracy", "balanced_accuracy")}}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sparsity", "0.1"], "for methods with masks"),
        (["--upstream-lr", "1e-3"], "does not train"),
        (["--method", "router", "--sparsity", "1.5"], "sparsity"),
        (["--lr", "-1"], "--lr must be a number above 0"),
        (["--max-seconds", "2", "--feature-cache", "x"], "cannot be kept"),
        (["--batch-size", "0"], "--batch-size must be"),
    ],
)
def test_wrong_options_are_refused(options, more, message):
    with pytest.raises(ConfigError, match=message):
        train(options(*more))


def spoil(folder: Path, change) -> Path:
    make_set(folder, 4)
    change(folder)
    return folder


def relabel(folder: Path, old: str, new: str) -> None:
    path = folder / "utt2label"
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("train_change", "valid_change", "message"),
    [
        (None, lambda f: relabel(f, " hiss", " hum"), r"'hum' is not in the list of classes"),
        (lambda f: relabel(f, " rumble", " hiss"), None, "only class"),
        (lambda f: relabel(f, " hiss", " it hissed all day"), None, r"'it hissed all day' has blanks; write one word"),
        (lambda f: relabel(f, "hiss-0 ", "nobody "), None, "nobody is in utt2label, but not in wav.scp"),
        (lambda f: (f / "utt2label").unlink(), None, "no such file"),
        (
            lambda f: write_audio(f / "wav/hiss-0.wav", np.zeros(300), 16000),
            None,
            "hiss-0: 19 ms, shorter than the 25 ms",
        ),
    ],
)
def test_bad_data_is_refused_before_training(options, tmp_path, train_change, valid_change, message):
    train_dir, valid_dir = (
        spoil(tmp_path / n, c or (lambda _: None)) for n, c in (("a", train_change), ("b", valid_change))
    )
    args = options("--train-dir", str(train_dir), "--valid-dir", str(valid_dir))
    with pytest.raises(DataError, match=message):
        train(args)
    assert not args.output_dir.exists()


def test_labels_of_test_sets_are_checked_before_training(options, tmp_path):
    wrong = make_set(tmp_path / "test", 3)
    relabel(wrong, " hiss", " hum")
    args = options("--test-dirs", str(make_set(tmp_path / "other", 2)), str(wrong))
    with pytest.raises(DataError, match=r"test: .*\n.*'hum' is not in the list of classes"):
        train(args)
    assert not args.output_dir.exists()


def test_a_mistyped_upstream_is_refused_before_training(options):
    with pytest.raises(ConfigError, match=r"hf_hubert_costum.*hf_hubert_custom"):
        train(options("--upstream", "hf_hubert_costum"))
    assert not options().output_dir.exists()


def test_an_empty_class_and_a_wrong_list_are_refused(options, tmp_path):
    listed = tmp_path / "classes"
    listed.write_text("label hiss\nlabel rumble\nlabel click\n")
    with pytest.raises(DataError, match="class 'click' has no utterance"):
        train(options("--classes", str(listed)))
    listed.write_text("label hiss\nlabel hiss\n")
    with pytest.raises(DataError, match="is listed twice"):
        train(options("--classes", str(listed)))
    listed.write_bytes("label hiss\nlabel é\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        train(options("--classes", str(listed)))
    listed.write_text("\ufefflabel hiss\nlabel rumble\n")
    assert train(options("--classes", str(listed), "--max-updates", "1")).sets.classes == [["hiss", "rumble"]]


def test_lines_of_a_submission():
    intents = {"b": ("change language", "none", "none"), "a": ("bring", "shoes", "none")}
    assert TASKS["ic"].submission_lines(intents) == ["a,bring,shoes,none", "b,change language,none,none"]
    assert TASKS["ks"].submission_lines({"yes-1.wav": ("yes",)}) == ["yes-1.wav yes"]
    with pytest.raises(DataError, match="contains the column separator"):
        TASKS["ks"].submission_lines({"a": ("two words",)})
