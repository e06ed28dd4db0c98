"""Speaker verification: equal to s3prl, trials that are refused, silence, the preparation of the corpus."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from s3router.corpora import voxceleb1
from s3router.data.audio import read_audio, write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.silence import without_silence
from s3router.errors import ConfigError, DataError
from s3router.miniatures import superb_pairs
from s3router.superb.batches import collate, in_order
from s3router.superb.evaluate import evaluate
from s3router.superb.experiment import TaskExperiment
from s3router.superb.model import build_task
from s3router.superb.predict import predict
from s3router.superb.tasks import task
from s3router.superb.verification import Trial, TrialScores, trimmed
from s3router.training.parameters import trained_state
from s3router.upstreams import hub
from s3router.upstreams.s3prl_engine import problem
from tests.superb.conftest import make_set, train

TRIALS = ["1 t0 t2", "0 t0 t1", "1 t1 t3", "0 t2 t3"]


def make_trials(folder: Path, lines: list[str] = TRIALS, seconds: float = 0.5) -> Path:
    """Utterances t0 to t3 of noise, and trials of them."""
    random, utts = np.random.default_rng(5), []
    (folder / "wav").mkdir(parents=True)
    for index in range(4):
        path = folder / "wav" / f"t{index}.wav"
        write_audio(path, 0.1 * random.standard_normal(round(16000 * (seconds + 0.03 * index))), 16000)
        utts.append(Utterance(path.stem, str(path)))
    DataDir(folder, utts).write(folder)
    (folder / "trials").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture
def built(upstream: Path):
    """(their task, ours with the same head and loss weights), of two speakers."""
    hub.register()
    their, extra, kind = problem("SuperbASV"), {"upstream": "hf_hubert_custom"}, task("sv")
    conf = their.default_config()
    encoder = kind.encoder([["hiss", "rumble"]])
    model = their.build_model(
        *(conf["build_model"], len(encoder)),
        {"name": "s3router", "path_or_url": str(upstream), "extra_conf": extra},
        *(conf["build_featurizer"], {}),
    )
    one = their.build_task(conf["build_task"], model, encoder, [(int(t[0]), *t[2:].split()) for t in TRIALS])
    other = build_task(kind, kind.settings(), [["hiss", "rumble"]], "frozen", extra, str(upstream))
    other.model.downstream.load_state_dict(model.downstream.state_dict())
    other.loss.load_state_dict(one.loss.state_dict())
    for each in (one, other):
        each.model.featurizer.weights.data.copy_(torch.linspace(-1, 1, len(model.featurizer.weights)))
    return one.eval(), other.eval()


def test_loss_gradient_and_metric_are_those_of_s3prl(built, tmp_path):
    one, other = built
    kind = task("sv")
    labelled = kind.read(make_set(tmp_path / "train", 6, seconds=0.5))
    clips = kind.clips(labelled, other.encoder, kind.settings())
    batch = collate([clips[0, i] for i in range(len(clips))])
    (loss_a, cached), (loss_b, ours) = one("train", **batch), other("train", **batch)
    torch.testing.assert_close(loss_b, loss_a, rtol=1e-5, atol=1e-6)
    assert cached["prediction"] == ours["prediction"]
    loss_a.backward()
    loss_b.backward()
    torch.testing.assert_close(other.loss.W.grad, one.loss.W.grad, rtol=1e-4, atol=1e-6)
    for a, b in zip(one.model.downstream.parameters(), other.model.downstream.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6)

    trials = kind.read(make_trials(tmp_path / "test"))
    compared = kind.clips(trials, other.encoder, kind.settings())
    with torch.no_grad():  # s3prl tests one utterance at a time; ours in a batch
        theirs = [one("test", **collate([compared[0, i]]), _dump_dir=None)[1] for i in range(len(compared))]
    found = evaluate(kind, other, in_order(compared, 4), trials, "cpu")
    metric = one.reduction("test", theirs, _dump_dir=None)
    assert found.metrics["eer"] == pytest.approx(metric["EER"], abs=1e-6)
    embeddings = {str(t["unique_name"][0]): t["spk_embedding"][0] for t in theirs}
    for trial, value in zip(found.predictions.trials, found.predictions.scores, strict=True):
        cosine = torch.nn.functional.cosine_similarity(embeddings[trial.enrolled], embeddings[trial.tested], dim=0)
        assert value == pytest.approx(float(cosine), abs=1e-4)


def test_settings_are_the_benchmarks():
    s = task("sv").settings()
    assert (s.batch_size, s.accum_grad, s.head_lr, s.max_updates, s.max_seconds) == (10, 5, 1e-4, 200_000, 8.0)
    assert (s.optimizer, s.grad_clip, s.valid_interval) == ("AdamW", 1000.0, 10_000)


def test_training_saves_the_vectors_of_speakers_and_predicts_scores(options, tmp_path):
    valid = make_trials(tmp_path / "valid")
    long = make_set(tmp_path / "train", 6, seconds=0.5)
    args = options("--task", "sv", "--valid-dir", str(valid), "--train-dir", str(long), "--accum-grad", "1")
    run = train(args)
    assert trained_state(run.task.model)["objective.W"].shape == (512, 2)
    assert 0 <= run.best["eer"] <= 1
    result = predict(TaskExperiment(args.output_dir), valid, tmp_path / "out")
    assert result["eer"] == pytest.approx(run.best["eer"])
    assert "raw" not in result
    raw = predict(TaskExperiment(args.output_dir), valid, tmp_path / "raw", raw=True)
    assert raw["raw"] is True
    lines = (tmp_path / "out/sv_public/predict.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["t0_t2", "t0_t1", "t1_t3", "t2_t3"]
    assert all(-1 <= float(line.split()[1]) <= 1 for line in lines)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1 t0 t1", "0 t1"], "line 2 is not '<1|0> UTTERANCE UTTERANCE'"),
        ([*TRIALS, "0 t0 t9"], "line 5: t9 is not in wav.scp"),
        ([*TRIALS, "0 t0 t2"], "line 5: t0 and t2 were another kind of trial before"),
        (["1 t0 t1", "0 t0 t2"], "t3 is in wav.scp, but in no trial"),
        (["1 t0 t2", "1 t1 t3"], "all trials are of one kind"),
    ],
)
def test_strange_trials_are_refused(tmp_path, lines, message):
    with pytest.raises(DataError, match=message.replace("|", r"\|")):
        task("sv").read(make_trials(tmp_path / "x", lines))


def test_trials_that_are_no_text(tmp_path):
    folder = make_trials(tmp_path / "x", TRIALS)
    (folder / "trials").write_bytes("1 t0 t\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="trials: line 1 is not UTF-8"):
        task("sv").read(folder)


def test_a_trial_may_come_twice(tmp_path):
    kind = task("sv")
    labelled = kind.read(make_trials(tmp_path / "x", [*TRIALS, "1 t0 t2"]))
    found = kind.predictions(dict(zip(labelled.labels, np.eye(4).tolist(), strict=True)), labelled)
    assert found == TrialScores(labelled.trials, (0.0,) * 5)
    assert labelled.trials[-1] == Trial(True, "t0", "t2")


def test_sets_of_the_wrong_kind_and_clips_too_short_for_the_head_are_refused(tmp_path):
    kind = task("sv")
    trials, speakers = (kind.read(f) for f in (make_trials(tmp_path / "a"), make_set(tmp_path / "b", 4)))
    with pytest.raises(DataError, match="training needs speakers"):
        kind.inventory(trials)
    with pytest.raises(DataError, match="no trials here"):
        kind.check(None, [speakers], [["hiss", "rumble"]])
    short = kind.read(make_trials(tmp_path / "c", seconds=0.25))
    kind.check(None, [short], [["hiss", "rumble"]])
    with pytest.raises(DataError, match="t0: 250 ms, shorter than the 305 ms"):
        kind.check(None, [short], [["hiss", "rumble"]], receptive_field=400)


def test_waveforms_are_levelled_and_without_silence_unless_raw(tmp_path):
    """As the leaderboard's code has them, in trials and in training; raw trials are as s3prl's problem has them."""
    random = np.random.default_rng(0)
    loud, quiet = 0.1 * random.standard_normal(2 * 24000), np.zeros(8000)
    for folder, name in ((make_trials(tmp_path / "test"), "t0"), (make_set(tmp_path / "train", 4), None)):
        path = next(folder.rglob(f"{name}.wav" if name else "*.wav"))
        write_audio(path, np.concatenate([quiet, loud, quiet]), 16000)
    kind, sets = task("sv"), [task("sv").read(tmp_path / name) for name in ("test", "train")]
    gain = np.float32(10 ** (-3 / 20))
    for each, labelled, changed in ((kind, sets[0], True), (kind.on_raw_waveforms(), sets[0], False)):
        clips = each.clips(labelled, each.encoder([["hiss", "rumble"]]), each.settings())
        whole = read_audio(labelled.data.utts[0].source, 16000)
        wanted = without_silence(whole * gain) if changed else whole
        np.testing.assert_array_equal(clips[0, 0]["x"].numpy(), wanted)
        assert (len(wanted) < 50_000) == changed
        other = read_audio(labelled.data.utts[1].source, 16000)
        np.testing.assert_array_equal(clips[0, 1]["x"].numpy(), other * gain if changed else other)
    np.testing.assert_array_equal(trimmed(np.float32([0.0] * 9000), least=0.5), np.zeros(9000, np.float32))
    with pytest.raises(ConfigError, match="--raw is for sv"):
        task("ks").on_raw_waveforms()


@pytest.fixture(scope="session")
def voxceleb(tmp_path_factory) -> Path:
    """A miniature of VoxCeleb1."""
    top = tmp_path_factory.mktemp("voxceleb")
    superb_pairs.voxceleb(top)
    return top


def test_preparation_takes_what_s3prl_takes(voxceleb, tmp_path, monkeypatch):
    from s3prl.dataio.corpus import voxceleb1sv

    voxceleb1.prepare_verification(voxceleb, tmp_path)
    monkeypatch.setattr(voxceleb1sv, "_download", lambda *_, **__: None)  # its lists lie in its cache
    theirs = voxceleb1sv.VoxCeleb1SV(str(voxceleb), str(voxceleb), force_download=False)
    train_set, dev, test = (task("sv").read(tmp_path / name) for name in ("train", "dev", "test"))
    known = {u.source for part in (train_set, dev) for u in part.data.utts}
    assert known == {str(item["wav_path"]) for item in (*theirs.train_data.values(), *theirs.valid_data.values())}
    assert {u.source for u in test.data.utts} == {str(item["wav_path"]) for item in theirs.test_data.values()}
    wanted = {(kind, a.removesuffix(".wav"), b.removesuffix(".wav")) for kind, a, b in theirs.test_trials}
    lines = [line.split() for line in (tmp_path / "test/trials").read_text().splitlines()]
    assert {(int(kind), a, b) for kind, a, b in lines} == wanted
    speakers = {u.speaker for u in dev.data.utts}
    assert len(speakers) == 2
    assert speakers.isdisjoint(u.speaker for u in train_set.data.utts)
    for kind, a, b in (line.split() for line in (tmp_path / "dev/trials").read_text().splitlines()):
        assert (a[:7] == b[:7]) == (kind == "1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: (c / "iden_split.txt").unlink(), "iden_split.txt is missing"),
        (lambda c: (c / "voxceleb1_test_v2.txt").unlink(), "voxceleb1_test_v2.txt is missing: the trials"),
        (lambda c: (c / "voxceleb1_test_v2.txt").write_text("2 a b\n"), "line 1 is not '<0.1> WAV WAV'"),
        (lambda c: next((c / "test").rglob("*.wav")).unlink(), "00001.wav is missing"),
        (
            lambda c: (c / "voxceleb1_test_v2.txt").write_text("1 id10001/videoA/00001.wav id10001/videoB/00001.wav\n"),
            "id10001 is not a test speaker",
        ),
        (
            lambda c: (c / "iden_split.txt").write_text("1 id10001/videoA/00001.wav\n"),
            "1 speakers outside the test set",
        ),
    ],
)
def test_incomplete_corpora_are_refused(voxceleb, tmp_path, change, message):
    corpus = shutil.copytree(voxceleb, tmp_path / "corpus")
    change(corpus)
    with pytest.raises(DataError, match=message):
        voxceleb1.prepare_verification(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()
