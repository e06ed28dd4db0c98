"""Tasks of CTC: equal to s3prl's unmodified problems; texts with marks of slots; refusals; a run from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from s3router.data.audio import write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.slot_marks import marked, unmarked
from s3router.errors import ConfigError, DataError
from s3router.superb.batches import TrainingBatches, collate, in_order
from s3router.superb.evaluate import evaluate
from s3router.superb.experiment import TaskExperiment
from s3router.superb.kind import Settings
from s3router.superb.model import build_task
from s3router.superb.options import complete, read_options
from s3router.superb.predict import described, predict
from s3router.superb.select import select
from s3router.superb.sequences import TextPredictions, submission_lines
from s3router.superb.table import table
from s3router.superb.tasks import TASKS
from s3router.upstreams import hub
from s3router.upstreams.s3prl_engine import problem
from tests.superb.conftest import train

EXTRA = {"upstream": "hf_hubert_custom"}
TEXTS = {
    "pr": ["AH0 B AH0", "B B", "AH0 N AH0 N", "N B AH0 B", "AH0"],
    "asr": ["A BAD DAB", "DAB", "ADD A BAD", "BAD A", "A"],
    "sf": ["B-what BAD DAB E-what A", "A B-who DAB E-who", "B-who ADD E-who B-what A E-what", "BAD", "A A"],
}


def make_texts(folder: Path, texts: list[str], seconds: float = 0.5) -> Path:
    """Noise of different lengths, with these texts."""
    random, utts = np.random.default_rng(len(texts)), []
    (folder / "wav").mkdir(parents=True)
    for index, text in enumerate(texts):
        path = folder / "wav" / f"utt{index}.wav"
        write_audio(path, 0.1 * random.standard_normal(round(16000 * (seconds + 0.13 * index))), 16000)
        utts.append(Utterance(path.stem, str(path), text))
    DataDir(folder, utts).write(folder)
    return folder


def small(settings: Settings) -> Settings:
    """The same with narrower layers of the head."""
    head = json.loads(json.dumps(settings.head))
    if "model_conf" in head:
        head["model_conf"].update(proj_size=24, hidden_size=[16, 16])
    return replace(settings, head=head)


@pytest.fixture(params=["pr", "asr", "sf"])
def both(request, upstream: Path, tmp_path: Path):
    """(kind, s3prl's task by its own functions, ours with the same head, clips, labelled)."""
    name, kind = request.param, TASKS[request.param]
    labelled = kind.read(make_texts(tmp_path / "set", TEXTS[name]))
    classes = kind.inventory(labelled)
    encoder, settings = kind.encoder(classes), small(kind.settings())
    hub.register()
    their_problem = problem(kind.problem)
    conf = their_problem.default_config()
    their = their_problem.build_task(
        conf["build_task"],
        their_problem.build_model(
            conf["build_model"],
            len(encoder),
            {"name": "s3router", "path_or_url": str(upstream), "extra_conf": EXTRA},
            conf["build_featurizer"],
            settings.head,
        ),
        encoder,
    )
    our = build_task(kind, settings, classes, "frozen", EXTRA, str(upstream))
    with torch.no_grad():  # of an untrained head all frames say the same: spread what it says
        for parameter in their.model.downstream.parameters():
            parameter.mul_(4)
    our.model.downstream.load_state_dict(their.model.downstream.state_dict())
    for one in (their, our):
        one.model.featurizer.weights.data.copy_(torch.linspace(-1, 1, len(one.model.featurizer.weights)))
        one.eval()
    return kind, their, our, kind.clips(labelled, encoder, settings), labelled


def test_loss_and_gradient_are_s3prls(both):
    _, their, our, clips, _ = both
    batch = collate([clips[0, i] for i in range(len(clips))])
    (loss_a, _), (loss_b, _) = their("train", **batch), our("train", **batch)
    assert loss_a.item() > 0
    torch.testing.assert_close(loss_b, loss_a, rtol=1e-5, atol=1e-6)
    loss_a.backward()
    loss_b.backward()
    pairs = zip(their.model.downstream.parameters(), our.model.downstream.parameters(), strict=True)
    for a, b in [*pairs, (their.model.featurizer.weights, our.model.featurizer.weights)]:
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6)


def test_predictions_of_a_batch_and_figures_are_s3prls_one_by_one(both):
    """s3prl validates with batches of one; in ours the frames of padding must not speak."""
    kind, their, our, clips, labelled = both
    with torch.no_grad():
        cached = [their("test", **collate([clips[0, i]]))[1] for i in range(len(clips))]
    found = evaluate(kind, our, in_order(clips, len(clips)), labelled, "cpu")
    assert found.predictions.predicted == {c["unique_name"][0]: c["prediction"][0] for c in cached}
    assert any(found.predictions.predicted.values())
    for c in cached:  # s3prl counts blanks that follow each other as empty words
        c["prediction"] = [" ".join(text.split()) for text in c["prediction"]]
    metric = their.reduction("test", cached)
    assert found.metrics == pytest.approx({key: metric[key] for key in found.metrics})
    assert kind.metric in found.metrics


@torch.no_grad()
def test_shares_of_two_processes_average_to_the_loss_of_the_batch(both):
    kind, _, our, clips, _ = both

    def batches(**kwargs):
        sampler = kind.sampler(clips, 3, kind.settings(), 0)
        sampler.max_length = 10**9  # no batch is halved
        return TrainingBatches(clips, sampler, **kwargs).starting_at(0)

    whole, shares = batches(), [batches(rank=rank, world=2) for rank in (0, 1)]
    for _ in range(4):
        batch, _ = next(whole)
        parts = [next(share) for share in shares]
        mean = sum(weight * our("train", **part)[0].item() for part, weight in parts) / 2
        assert mean == pytest.approx(our("train", **batch)[0].item(), rel=1e-4)


def test_figures_by_hand():
    def metrics(name: str, predicted: str, true: str) -> dict[str, float]:
        return TASKS[name].metrics(TextPredictions({"a": predicted}, {"a": true}))

    assert metrics("pr", "AH0 B", "AH0 N B B") == {"per": 0.5}
    assert metrics("asr", "A DAB", "A BAD") == {"wer": 0.5, "cer": 2 / 5}
    found = metrics("sf", "B-who DAD E-who", "B-who DAB E-who B-what A E-what")
    assert found == pytest.approx({"slot_type_f1": 2 / 3, "slot_value_cer": 2 / 4})


def test_settings_are_the_benchmarks():
    found = {name: TASKS[name].settings() for name in ("pr", "asr", "sf")}
    assert {n: (s.batch_size, s.accum_grad, s.head_lr, s.max_updates) for n, s in found.items()} == {
        "pr": (16, 2, 1e-2, 100_000),
        "asr": (32, 1, 1e-4, 200_000),
        "sf": (32, 1, 1e-4, 200_000),
    }


@pytest.mark.parametrize(
    ("text", "words", "tags"),
    [
        ("PLAY B-artist BLUE NOTE E-artist NOW", "PLAY BLUE NOTE NOW", "O artist artist O"),
        ("B-a X E-a B-b Y E-b", "X Y", "a b"),
        ("NO SLOT", "NO SLOT", "O O"),
    ],
)
def test_marks_and_s3prls_columns(text, words, tags):
    assert unmarked(text) == (words, tags)
    assert marked(words, tags) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B-a X", "slot a is not closed"),
        ("X E-a", "E-a does not fit here: no slot is open"),
        ("B-a X B-b Y E-b E-a", "B-b does not fit here: slot a is open"),
        ("B-a X E-b", "E-b does not fit here: slot a is open"),
        ("Y B-a E-a", "slot a holds no word"),
    ],
)
def test_marks_that_do_not_pair_are_named(text, message, tmp_path):
    folder = make_texts(tmp_path / "set", ["A", text])
    with pytest.raises(DataError, match=f"utt1: {message}"):
        TASKS["sf"].read(folder)


def test_empty_texts_unseen_slots_and_short_clips_are_refused(tmp_path):
    with pytest.raises(DataError, match="utt1: the transcript is empty"):
        TASKS["pr"].read(make_texts(tmp_path / "a", ["A", ""]))
    kind = TASKS["sf"]
    train_set = kind.read(make_texts(tmp_path / "b", ["B-a X E-a"]))
    dev = kind.read(make_texts(tmp_path / "c", ["B-z X E-z"], seconds=0.02))
    classes = kind.inventory(train_set)
    with pytest.raises(DataError, match="2 problems") as raised:
        kind.check(train_set, [dev], classes, receptive_field=400)
    assert "utt0: 20 ms, shorter than the 25 ms" in str(raised.value)
    assert "utt0: slot z does not occur in the training texts" in str(raised.value)


@pytest.fixture
def command(upstream: Path, tmp_path: Path):
    """A function: further options -> the parsed command line of superb-train, task pr."""
    sets = [make_texts(tmp_path / name, TEXTS["pr"][:count]) for name, count in (("train", 5), ("dev", 3))]
    given = ["--task", "pr", "--upstream", "hf_hubert_custom", "--upstream-ckpt", str(upstream)]
    given += ["--train-dir", str(sets[0]), "--valid-dir", str(sets[1]), "--max-updates", "4", "--valid-interval", "2"]
    given += ["--batch-size", "2", "--accum-grad", "1", "--amp-dtype", "float32"]
    return lambda *more: read_options([*given, "--output-dir", str(tmp_path / "exp"), *more])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-seconds", "3"], "a cropped utterance would not hold all of its text"),
        (["--classes", "x.txt"], "the units of pr come from the texts"),
        (["--batch-size", "1"], "--batch-size must be 2 or more"),
        (["--head-conf", '{"width": 3}'], "--head-conf: unknown width; known: hidden_size"),
        (["--head-conf", "3"], "--head-conf: 3 is not an object of arguments; known: hidden_size"),
    ],
)
def test_options_that_do_not_fit_are_refused(command, more, message):
    with pytest.raises(ConfigError, match=message):
        complete(command(*more))


def test_from_training_to_the_table(command, tmp_path):
    run = train(command("--method", "router", "--head-conf", '{"hidden_size": 8}'))
    assert run.task.model.downstream.final_proj.in_features == 8
    assert run.best["per"] > 0
    exp = tmp_path / "exp"
    result = predict(TaskExperiment(exp), tmp_path / "dev", exp / "predict_dev")
    assert result["per"] == pytest.approx(run.best["per"])
    assert described(result) == f"PER {100 * result['per']:.2f} % of 3"
    lines = (exp / "predict_dev/pr_public/predict.ark").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["utt0", "utt1", "utt2"]
    assert "| PER % |" in table([exp])[0]
    best, _ = select([exp])
    assert best.validated["per"] == run.best["per"]
    with pytest.raises(ConfigError, match="task pr: packs hold heads of utterance classification"):
        TaskExperiment(exp).parts()


def test_of_two_runs_the_one_with_fewer_errors_is_taken(tmp_path):
    for name, per in (("a", 0.4), ("b", 0.3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.json").write_text(json.dumps({"per": per, "loss": 1.0, "update": 2}))
        options = {"task": "pr", "lr": 1e-3, "upstream_lr": None}
        config = {"options": options, "settings": {}, "classes": [], "fingerprint": ""}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    assert select([tmp_path / "a", tmp_path / "b"])[0].path.name == "b"


@pytest.mark.parametrize("name", ["pr", "asr"])
def test_batches_go_on_where_they_were(name, tmp_path):
    kind = TASKS[name]
    labelled = kind.read(make_texts(tmp_path / "set", TEXTS[name]))
    clips = kind.clips(labelled, kind.encoder(kind.inventory(labelled)), kind.settings())

    def ids(start: int, count: int) -> list[list[str]]:
        sampler = kind.sampler(clips, 4, replace(kind.settings(), halve_above=9000), 1)
        stream = TrainingBatches(clips, sampler).starting_at(start)
        return [list(next(stream)[0]["unique_name"]) for _ in range(count)]

    whole = ids(0, 9)
    assert {utt for batch in whole for utt in batch} == {f"utt{i}" for i in range(5)}
    assert ids(4, 5) == whole[4:]
    assert max(map(len, whole)) <= 4


def test_submissions_have_single_spaces_and_bare_ids():
    assert submission_lines({"b": " A  B ", "a": ""}) == ["a", "b A B"]


def test_what_s3prls_decoding_leaves_is_a_submission():
    """Marks that touch letters come of training that is not far yet; the benchmark scores them."""
    from s3router.submission.formats import slots

    assert slots("a PLAY B-timeRange NOW E-timeRange").remark is None
    for text in ("KB-city WB-city E-artistLSO", "E-timeRangeKEOKB-city K", "R&B 90'S"):
        found = slots(f"a {text}")
        assert found.problem is None, text
        assert "marks that touch letters" in found.remark
