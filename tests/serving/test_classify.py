"""Classification by packs: each route says what its own model says, of recordings and of labelled directories."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from s3router import cli
from s3router.data.audio import read_audio, write_audio
from s3router.errors import ConfigError, DataError, PackError
from s3router.packs import read_pack, write_pack
from s3router.serving.classify import best_labels, read_directory
from s3router.serving.loading import load_routes
from s3router.serving.packing import pack_experiment
from s3router.serving.route_heads import route_head
from s3router.superb.batches import in_order
from s3router.superb.experiment import TaskExperiment
from s3router.superb.predict import predict
from s3router.superb.tasks import TASKS
from s3router.training.parameters import load_trained
from s3router.upstreams.hub import load_expert
from tests.superb.conftest import make_set, train

GAIN_DB = TASKS["ks"].settings().gain_db


@pytest.fixture
def trained(options, sets, tmp_path) -> dict[str, tuple]:
    """Route -> (run, pack file, test set): one label, three slots, and a task with a gain."""
    three = {
        name: make_set(tmp_path / "three" / name, n, 3, seed=n) for name, n in (("train", 12), ("dev", 6), ("test", 5))
    }
    made = {}
    for route, folders, more in (
        ("noises", sets, ["--method", "router", "--sparsity", "0.3"]),
        ("intents", three, ["--task", "ic", "--method", "router", "--sparsity", "0.5"]),
        ("words", sets, ["--task", "ks", "--method", "frozen"]),
    ):
        where = ["--train-dir", str(folders["train"]), "--valid-dir", str(folders["dev"]), "--lr", "1e-2"]
        args = options(*more, *where, "--max-updates", "3", name=f"exp_{route}")
        run = train(args)
        path = tmp_path / f"{route}.pack"
        write_pack(path, pack_experiment(TaskExperiment(args.output_dir), route))
        made[route] = run, path, folders["test"]
    return made


@pytest.fixture
def run(trained, upstream, capsys):
    """(arguments) -> exit status, lines on stdout, stderr of ``s3router classify`` with all packs."""

    def call(*arguments, packs=tuple(trained)) -> tuple[int, list[str], str]:
        capsys.readouterr()
        backbone = ["--upstream", "hf_hubert_custom", "--upstream-ckpt", str(upstream)]
        routes = ["--routes", *(str(trained[route][1]) for route in packs)]
        status = cli.main(["classify", *backbone, *routes, *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return call


def test_tasks_on_one_backbone_say_what_their_own_models_say(trained, tmp_path, upstream, run):
    pairs = [f"{route}={folder}" for route, (_, _, folder) in trained.items()]
    status, lines, err = run("--score", *pairs, "--output-dir", tmp_path / "out")
    assert (status, [line.split(":")[0] for line in lines]) == (0, list(trained)), err
    packs = [path for _, path, _ in trained.values()]
    model = load_routes(packs, "hf_hubert_custom", str(upstream))
    assert (model.classifying, model.transcribing) == (tuple(trained), ())
    for route, (finished, _, folder) in trained.items():
        own = tmp_path / "own" / route
        predict(TaskExperiment(finished.folder), folder, own)
        shared = tmp_path / "out" / f"predict_{route}"
        assert (shared / "utt2label").read_text() == (own / "utt2label").read_text()
        for file in own.rglob("predict.*"):
            assert (shared / file.relative_to(own)).read_text() == file.read_text()
        one, other = (json.loads((f / "result.json").read_text()) for f in (own, shared))
        assert {key: one[key] for key in other} == other

        labelled = finished.kind.read(folder)
        load_trained(finished.task.model, torch.load(finished.folder / "best.pth", weights_only=True)["model"], "best")
        clips = finished.kind.clips(labelled, finished.task.encoder, finished.kind.settings())
        batch = next(iter(in_order(clips, 5)))
        waves = {utt.utt: torch.from_numpy(read_audio(utt.source)) for utt in labelled.data.utts}
        with torch.no_grad():
            wanted = finished.task.eval().model(batch["x"], batch["x_len"])
        found = torch.stack(model.logits([waves[str(name)] for name in batch["unique_name"]], route))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert model.class_head("words").gain == pytest.approx(10 ** (GAIN_DB / 20)) != 1


def test_recordings_without_labels(trained, sets, run, tmp_path):
    folder = sets["test"] / "wav"
    status, lines, _ = run(folder, packs=["noises"])
    files = sorted(map(str, folder.iterdir()))
    assert (status, [line.split("\t")[0] for line in lines]) == (0, files)
    for line in lines:
        _, label, confidence = line.split("\t")
        assert label in ("hiss", "rumble")
        assert 0.5 <= float(confidence) <= 1
    _, lines, _ = run(files[0], "--top", "5", packs=["noises"])  # there are only two classes
    assert sorted(line.split("\t")[1] for line in lines) == ["hiss", "rumble"]
    assert sum(float(line.split("\t")[2]) for line in lines) == pytest.approx(1, abs=1e-3)
    output = tmp_path / "out.json"
    status, lines, _ = run(files[0], files[1], "--json", "--top", "2", "--output", output)
    assert (status, lines) == (0, [])
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(item["id"], item["route"]) for item in found] == [(f, r) for f in files[:2] for r in trained]
    assert all(len(item["labels"]) == 2 for item in found)
    _, lines, _ = run(files[0], "--route", "intents", "words")
    assert [line.split("\t")[1] for line in lines] == ["intents", "words"]
    assert lines[0].split("\t")[2].count(" ; ") == 2


def test_the_best_labels_of_several_slots():
    class Head:
        classes = (["a", "b"], ["x", "y", "z"])

    logits = torch.log(torch.tensor([0.6, 0.4, 0.5, 0.3, 0.2]))
    found = best_labels(Head, logits, 3)
    assert [label for label, _ in found] == [("a", "x"), ("b", "x"), ("a", "y")]
    assert [p for _, p in found] == pytest.approx([0.3, 0.2, 0.18])
    assert len(best_labels(Head, logits, 100)) == 6


def test_what_cannot_be_classified_is_refused(trained, upstream, sets, run, tmp_path):
    _, path, folder = trained["intents"]
    model = load_routes([path], "hf_hubert_custom", str(upstream))
    with pytest.raises(ConfigError, match="unknown route 'noises'"):
        read_directory(model, "noises", folder)
    with pytest.raises(ConfigError, match="'intents': it gives labels and no text"):
        model.log_probs([torch.zeros(800)], "intents")
    model.add(trained["noises"][1])
    wrong = make_set(tmp_path / "wrong", 2)
    (wrong / "utt2label").write_text("hiss-0 hum\nrumble-1 rumble\n")
    with pytest.raises(DataError, match="is not in the list of classes"):
        read_directory(model, "noises", wrong)
    pack = read_pack(path)
    with pytest.raises(PackError, match="no output layer"):
        route_head(type(pack)(**{**vars(pack), "head": {}}))
    status, _, err = run("--score", "x=y", "--output-dir", tmp_path / "out")
    assert (status, "unknown route 'x'" in err) == (1, True)
    for arguments, message in (
        ((), "name recordings to classify, or --score"),
        ((sets["test"], "--top", "0"), "--top 0"),
        ((sets["test"], "--route", "nosies"), "unknown route 'nosies'; did you mean noises?"),
        (("--score", f"noises={sets['test']}"), "--score needs --output-dir"),
    ):
        status, _, err = run(*arguments)
        assert (status, message in err) == (1, True), err


def test_clips_that_prediction_refuses_are_refused_in_the_same_words(trained, run, tmp_path):
    short = make_set(tmp_path / "short", 3)
    write_audio(short / "wav" / "hiss-0.wav", torch.zeros(399).numpy(), 16000)
    words = "hiss-0: 25 ms, shorter than the 25 ms that the model needs; take it out"
    with pytest.raises(DataError, match=words):
        predict(TaskExperiment(trained["noises"][0].folder), short, tmp_path / "own")
    status, _, err = run("--score", f"noises={short}", "--output-dir", tmp_path / "out")
    assert (status, words in err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_an_experiment_folder_is_as_good_as_its_pack(trained, sets, options, run, tmp_path, capsys):
    _, of_pack, _ = run(sets["test"], packs=["noises"])
    exp = trained["noises"][0].folder
    assert cli.main(["classify", str(sets["test"]), "--routes", str(exp)]) == 0  # it knows its own upstream
    assert capsys.readouterr().out.splitlines() == of_pack
    wrapped = tmp_path / "chosen"
    wrapped.mkdir()
    (wrapped / "selected").symlink_to(exp)
    assert cli.main(["classify", str(sets["test"]), "--routes", str(wrapped)]) == 0
    assert capsys.readouterr().out.splitlines() == of_pack


def test_finetuned_weights_classify_and_become_a_plain_model(sets, options, tmp_path, capsys):
    exp = train(options("--method", "weight", "--lr", "1e-2", "--max-updates", "2")).folder
    recordings = [str(path) for path in sorted((sets["test"] / "wav").iterdir())]
    assert cli.main(["pack", str(exp), "-o", str(tmp_path / "x.pack")]) == 0  # in half precision
    assert "delta" in capsys.readouterr().out
    assert cli.main(["classify", *recordings, "--routes", str(exp)]) == 0
    ours = capsys.readouterr().out
    predict(TaskExperiment(exp), sets["test"], tmp_path / "own")
    own = (tmp_path / "own" / "utt2label").read_text().split()[1::2]
    assert [line.split("\t")[1] for line in ours.splitlines()] == own
    assert cli.main(["bake", str(exp), "-o", str(tmp_path / "baked")]) == 0
    assert " parameters\n" in capsys.readouterr().out
    command = [sys.executable, str(tmp_path / "baked" / "classify.py"), *recordings]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for theirs, line in zip(done.stdout.splitlines(), ours.splitlines(), strict=True):
        assert theirs.split("\t")[:2] == line.split("\t")[:2]
        assert float(theirs.split("\t")[2]) == pytest.approx(float(line.split("\t")[2]), abs=2e-4)


def test_packs_of_tasks_are_packed_as_others_are(trained, sets, tmp_path, capsys, upstream):
    """Coded, read back, with versions; from a folder with ``selected``; metrics of the validation set."""
    exp = trained["noises"][0].folder
    wrapped = tmp_path / "chosen"
    wrapped.mkdir()
    (wrapped / "selected").symlink_to(exp)
    assert cli.main(["pack", str(wrapped), "-o", str(tmp_path / "n.pack"), "--codec", "coded"]) == 0
    assert "codec coded" in capsys.readouterr().out
    backbone = load_expert("hf_hubert_custom", str(upstream)).model
    pack, bits = read_pack(tmp_path / "n.pack", backbone), read_pack(trained["noises"][1])
    assert all(torch.equal(mask, bits.masks[name]) for name, mask in pack.masks.items())
    assert {"s3router", "torch"} <= pack.meta.versions.keys()
    assert "balanced_accuracy" in pack.meta.metrics["dev"]
    assert pack.meta.training["method"] == "router"
