"""Speaker diarisation: equal to s3prl, its frames, decoding, what is refused, the preparation of the corpus."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from s3router.corpora import librimix as librimix_corpus
from s3router.data.audio import write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import DataError
from s3router.miniatures import superb_pairs
from s3router.superb.batches import Stretches, collate, in_order
from s3router.superb.diarization import MEDIANS, THRESHOLDS, Activities, Turn, decode, error_rate
from s3router.superb.evaluate import evaluate
from s3router.superb.experiment import TaskExperiment
from s3router.superb.labels import LabelledDir
from s3router.superb.model import build_task
from s3router.superb.predict import predict
from s3router.superb.tasks import task
from s3router.upstreams import hub
from s3router.upstreams.s3prl_engine import load, problem
from tests.superb.conftest import train

TURNS = {
    "r0": [("a", 0.0, 0.4), ("b", 0.3, 0.9)],
    "r1": [("b", 0.1, 0.5), ("c", 0.2, 0.7), ("b", 0.8, 1.1)],
    "r2": [("d", 0.0, 0.64)],
}


def make_recordings(folder: Path, turns: dict = TURNS) -> Path:
    """Noise where somebody speaks, and ``rttm``."""
    random, utts, lines = np.random.default_rng(3), [], []
    (folder / "wav").mkdir(parents=True)
    for number, (name, spoken) in enumerate(turns.items()):
        samples = np.zeros(16000 + 1234 * number)
        for _, start, end in spoken:
            span = slice(round(16000 * start), round(16000 * end))
            samples[span] += 0.1 * random.standard_normal(len(samples[span]))
        path = folder / "wav" / f"{name}.wav"
        write_audio(path, samples, 16000)
        utts.append(Utterance(name, str(path)))
        lines += [f"SPEAKER {name} 1 {s} {e - s:.2f} <NA> <NA> {who} <NA> <NA>" for who, s, e in spoken]
    DataDir(folder, utts).write(folder)
    (folder / "rttm").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture
def built(upstream: Path):
    """(their task, ours with the same head)."""
    hub.register()
    their, extra = problem("SuperbSD"), {"upstream": "hf_hubert_custom"}
    conf = their.default_config()
    model = their.build_model(
        *(conf["build_model"], 2),
        {"name": "s3router", "path_or_url": str(upstream), "extra_conf": extra},
        *(conf["build_featurizer"], conf["build_downstream"]),
    )
    one, kind = their.build_task({}, model), task("sd")
    other = build_task(kind, kind.settings(), [["speaker 1", "speaker 2"]], "frozen", extra, str(upstream))
    other.model.downstream.load_state_dict(model.downstream.state_dict())
    for each in (one, other):
        each.model.featurizer.weights.data.copy_(torch.linspace(-1, 1, len(model.featurizer.weights)))
    return one.eval(), other.eval()


def test_loss_gradient_and_predictions_are_those_of_s3prl(built, tmp_path):
    one, other = built
    kind = task("sd")
    labelled = kind.read(make_recordings(tmp_path / "a"))
    clips = kind.clips(labelled, other.encoder, kind.settings(), 40.0)
    batch = collate([clips[0, i] for i in range(len(clips))])
    theirs = {name: value for name, value in batch.items() if name != "unique_name"}
    (loss_a, cached), (loss_b, ours) = one("train", **theirs), other("train", **batch)
    torch.testing.assert_close(loss_b, loss_a, rtol=1e-5, atol=1e-6)
    assert {name: ours[name] for name in ("accuracy", "der")} == {name: cached[name] for name in ("accuracy", "der")}
    loss_a.backward()
    loss_b.backward()
    for a, b in zip(one.model.downstream.parameters(), other.model.downstream.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6)

    found = evaluate(kind, other, in_order(clips, 2), labelled, "cpu").predictions
    assert found.stride == 320
    for recording, activity in found.predicted.items():  # s3prl's own files, one recording at a time
        index = next(i for i, u in enumerate(clips.utts) if u.utt == recording)
        alone = collate([clips[0, index]])
        alone.pop("unique_name")
        with torch.no_grad():
            one("test", **alone, _dump_dir=tmp_path)
        dumped = torch.load(tmp_path / "prediction" / f"{recording}.pt").numpy()
        np.testing.assert_allclose(activity, dumped, atol=1e-4)


def test_settings_are_the_benchmarks():
    s = task("sd").settings()
    assert (s.batch_size, s.accum_grad, s.head_lr, s.max_updates, s.grad_clip) == (8, 4, 1e-4, 30_000, 1.0)
    conf = problem("SuperbSD").default_config()
    assert s.max_seconds * 16000 / 320 == conf["build_dataset"]["chunk_size"]
    assert tuple(map(tuple, conf["scoring"].values())) == (THRESHOLDS, MEDIANS)


def test_frames_are_those_of_s3prl(tmp_path):
    """Against s3prl's own reader of Kaldi directories, whole and in stretches of 20 frames."""
    kind = task("sd")
    labelled = kind.read(make_recordings(tmp_path / "a", {name: TURNS[name] for name in ("r0", "r1")}))
    kaldi = tmp_path / "kaldi"
    kaldi.mkdir()
    (kaldi / "wav.scp").write_text("".join(f"{u.utt} {u.source}\n" for u in labelled.data.utts))
    (kaldi / "reco2dur").write_text("".join(f"{u.utt} {u.duration}\n" for u in labelled.data.utts))
    named = [(f"{r}-{n}", r, *t) for r in ("r0", "r1") for n, t in enumerate(TURNS[r])]
    (kaldi / "segments").write_text("".join(f"{u} {r} {s} {e}\n" for u, r, _, s, e in named))
    (kaldi / "utt2spk").write_text("".join(f"{u} {who}\n" for u, _, who, *_ in named))
    dataset = load("s3prl.dataio.dataset").DiarizationDataset
    for frames in (2000, 20):
        theirs = dataset("train", str(kaldi), chunk_size=frames, frame_shift=320, num_speakers=2)
        ours = kind.clips(labelled, kind.encoder([]), kind.settings(), frames / 50)
        assert len(ours) == len(theirs)
        for index in range(len(ours)):
            a, b = ours[0, index], theirs[index]
            assert (a["record_id"], a["chunk_id"], a["label_len"]) == (b["record_id"], b["chunk_id"], b["label_len"])
            np.testing.assert_allclose(a["x"].numpy(), b["x"], atol=1e-6)
            # s3prl leaves a turn out that goes on through a whole stretch; the middle one of b in r0 is such a turn
            if (a["record_id"], a["chunk_id"], frames) != ("r0", 1, 20):
                np.testing.assert_array_equal(a["label"].numpy(), b["label"])


def test_decoding_is_a_threshold_and_a_median():
    random = np.random.default_rng(0)
    activity = random.random((40, 2)).astype(np.float32)
    np.testing.assert_array_equal(decode(activity, 0.6, 1), activity > 0.6)
    padded = np.pad(activity > 0.6, ((5, 5), (0, 0)))
    slow = np.array([np.median(padded[t : t + 11], axis=0) for t in range(40)]) > 0
    np.testing.assert_array_equal(decode(activity, 0.6, 11), slow)


def test_settings_of_the_validation_set_decode_the_test_set():
    kind = task("sd")

    def activities(found: np.ndarray) -> Activities:
        return Activities(320, {"r": found}, {"r": (Turn("a", 0.0, 0.4),)})

    quiet = np.full((50, 2), 0.1, dtype=np.float32)
    quiet[:20, 0] = 0.45  # found with 0.3 and 0.4 alone
    loud = np.where(quiet > 0.4, 0.65, 0.55).astype(np.float32)
    best = kind.metrics(activities(quiet))
    assert (best["der"], best["threshold"], best["median"]) == (0.0, 0.4, 1.0)
    found = kind.tuned(activities(loud), best)
    assert found["der"] == pytest.approx((50 * 2 - 20) / 20)  # all speak all the time
    assert found["der_best_setting_for_this_set"] == 0.0
    slow = min(error_rate(activities(quiet), t, m) for t, m in itertools.product(THRESHOLDS, MEDIANS))
    assert best["der"] == slow


def test_training_and_the_files_of_the_submission(options, tmp_path):
    import h5py

    top = make_recordings(tmp_path / "set")
    args = options("--task", "sd", "--valid-dir", str(top), "--train-dir", str(top), "--accum-grad", "1")
    run = train(args)
    result = predict(TaskExperiment(args.output_dir), top, tmp_path / "out")
    assert result["der"] == pytest.approx(run.best["der"], abs=1e-6)
    files = sorted(p.stem for p in (tmp_path / "out/sd_public/scoring/predictions").iterdir())
    assert files == ["r0", "r1", "r2"]
    assert (tmp_path / "out/sd_public/frame_shift").read_text() == "320\n"
    with h5py.File(tmp_path / "out/sd_public/scoring/predictions/r1.h5") as file:
        assert file["T_hat"].shape == ((16000 + 1234) // 320, 2)
        assert 0 <= file["T_hat"][()].min() <= file["T_hat"][()].max() <= 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["SPEAKER r0 1 0.0"], "line 1 is not 'SPEAKER RECORDING"),
        (["SPEAKER r0 1 0.5 -0.1 <NA> <NA> a <NA> <NA>"], "line 1 has a turn that begins before 0 or has no length"),
        (["", "SPEAKER r0 1 0.5 0.0 <NA> <NA> a <NA> <NA>"], "line 2 has a turn that begins before 0 or has no length"),
        (["SPEAKER r9 1 0.5 0.1 <NA> <NA> a <NA> <NA>"], "line 1: r9 is not in wav.scp"),
        (["SPEAKER r0 1 0.5 0.1 <NA> <NA> a <NA> <NA>"], "r1: nobody speaks in it"),
        ([f"SPEAKER r0 1 0.5 0.1 <NA> <NA> {who} <NA> <NA>" for who in "abc"], "r0: 3 speakers, the task has 2"),
    ],
)
def test_strange_turns_are_refused(tmp_path, lines, message):
    folder = make_recordings(tmp_path / "a")
    (folder / "rttm").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DataError, match=message):
        task("sd").read(folder)


def test_comments_and_blank_lines_of_rttm(tmp_path):
    folder = make_recordings(tmp_path / "a")
    before = task("sd").read(folder).labels
    text = (folder / "rttm").read_text()
    (folder / "rttm").write_text(f"\ufeff;; made by hand\nSPKR-INFO r0 1 <NA> <NA> <NA> unknown a <NA>\n\n{text}")
    assert task("sd").read(folder).labels == before


@pytest.mark.parametrize("samples", [64320, 64960, 128640])
def test_every_whole_frame_counts(tmp_path, samples):
    """Lengths in seconds times the rate may be a little too small."""
    write_audio(tmp_path / "a.wav", np.zeros(samples), 16000)
    data = DataDir(tmp_path, [Utterance("a", str(tmp_path / "a.wav"))]).with_durations()
    clips = Stretches(LabelledDir(data, {"a": ()}), lambda utt, first, last: np.zeros((last - first, 2)), 320)
    assert clips[0, 0]["label_len"] == samples // 320


def test_a_rest_too_short_for_a_frame_belongs_to_the_stretch_before(tmp_path, options):
    turns = {f"r{n}": [("a", 0.0, 1.0), ("b", 0.5, 1.02)] for n in range(2)}
    top = make_recordings(tmp_path / "sd", turns)
    for number in range(2):
        write_audio(top / "wav" / f"r{number}.wav", 0.1 * np.random.default_rng(number).standard_normal(16320), 16000)
    DataDir.read(top, need_text=False)
    where = ["--task", "sd", "--train-dir", str(top), "--valid-dir", str(top), "--max-updates", "1"]
    run = train(options(*where, "--max-seconds", "1", "--batch-size", "1"))
    assert [span[1:] for span in run.batches.clips.spans] == [(0, 51), (0, 51)]


def test_turns_behind_the_end_are_refused(tmp_path):
    kind = task("sd")
    labelled = kind.read(make_recordings(tmp_path / "a", {**TURNS, "r2": [("d", 0.0, 0.64), ("d", 1.5, 1.6)]}))
    with pytest.raises(DataError, match=r"r2: the turn 'd 1.500 1.600' begins after the recording's end"):
        kind.check(labelled, [], [])


@pytest.fixture(scope="session")
def librimix(tmp_path_factory) -> Path:
    """A miniature of LibriMix."""
    top = tmp_path_factory.mktemp("librimix")
    superb_pairs.librimix(top)
    return top


def test_preparation(librimix, tmp_path):
    librimix_corpus.prepare(librimix, tmp_path)
    kind = task("sd")
    found = {name: kind.read(tmp_path / name) for name in ("train", "dev", "test")}
    assert {name: len(part.labels) for name, part in found.items()} == {"train": 4, "dev": 2, "test": 2}
    for part in found.values():
        kind.check(part, [], [])
        for recording, turns in part.labels.items():
            one, other = recording.split("_")
            assert [turn.speaker for turn in turns] == [one.split("-")[0], other.split("-")[0]]


MAX = "Libri2Mix/wav16k/max"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: shutil.rmtree(c / MAX / "metadata"), "expected a table of Libri2Mix at 16 kHz, of the kind 'max'"),
        (lambda c: shutil.rmtree(c / "metadata"), "train_clean_100.rttm is missing"),
        (lambda c: next((c / MAX).rglob("*.wav")).unlink(), ".wav is missing"),
        (lambda c: (c / MAX / "metadata/mixture_dev_mix_both.csv").write_text("a,b\n"), "no column mixture_ID"),
        (lambda c: (c / "metadata/LibriSpeech/dev_clean.rttm").write_text("x\n"), "line 1 is not 'SPEAKER UTT"),
        (
            lambda c: shutil.copy(
                c / "metadata/LibriSpeech/dev_clean.rttm", c / "metadata/LibriSpeech/test_clean.rttm"
            ),
            "no turn of 1006-",
        ),
    ],
)
def test_incomplete_corpora_are_refused(librimix, tmp_path, change, message):
    corpus = shutil.copytree(librimix, tmp_path / "corpus")
    change(corpus)
    with pytest.raises(DataError, match=message):
        librimix_corpus.prepare(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()
