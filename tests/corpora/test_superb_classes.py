"""The preparation of SUPERB's corpora on miniatures, against s3prl's own readers; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from s3router.cli.prepare_mini import SUPERB
from s3router.corpora import fluent_speech_commands, iemocap, speech_commands, voxceleb1
from s3router.errors import DataError
from s3router.superb.labels import LabelledDir, read_classes, read_labels
from s3router.upstreams.s3prl_engine import load

ROOT = Path(__file__).parents[2]
PREPARE = {
    "ks": speech_commands.prepare,
    "ic": fluent_speech_commands.prepare,
    "sid": voxceleb1.prepare,
    "er": iemocap.prepare,
}


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("mini")
    for task in PREPARE:
        SUPERB[task][0](top / task)
    return top


def prepare(task: str, corpus: Path, out: Path, **options) -> dict[str, LabelledDir]:
    done = PREPARE[task](corpus, out, **options)
    assert done.sets == {name: out / name for name in ("test", "dev", "train")}
    slots = 3 if task == "ic" else 1
    return {name: read_labels(out / name, slots) for name in ("train", "dev", "test")}


def test_keywords_are_split_as_s3prl_does(miniatures, tmp_path):
    from s3prl.dataio.corpus.speech_commands import SpeechCommandsV1

    top = miniatures / "ks"
    found = prepare("ks", top, tmp_path)
    theirs = SpeechCommandsV1(str(top / "speech_commands_v0.01"), str(top / "speech_commands_test_set_v0.01"))
    for name, ids in zip(("train", "dev", "test"), theirs.data_split_ids, strict=True):
        wanted = {i.replace("/", "-"): theirs.all_data[i]["class_name"] for i in ids if "_background_noise_" not in i}
        ours = {utt: label for utt, (label,) in found[name].labels.items() if "_background_noise_" not in utt}
        assert ours == wanted
    noises = [u.duration for u in found["dev"].data.with_durations().utts if "_background_noise_" in u.utt]
    assert noises == [1.0, 1.0, 1.0, 0.5]
    listed = read_classes(ROOT / "egs/superb/ks1/conf/classes.txt")[0]
    assert listed == sorted({label for (label,) in found["test"].labels.values()})


def test_intents_are_those_that_s3prl_reads(miniatures, tmp_path, monkeypatch):
    import pandas
    from s3prl.dataio.corpus.fluent_speech_commands import FluentSpeechCommands

    monkeypatch.setattr(pandas.Series, "iteritems", pandas.Series.items, raising=False)  # its name before pandas 2
    found = prepare("ic", miniatures / "ic", tmp_path)
    theirs = FluentSpeechCommands(str(miniatures / "ic/fluent_speech_commands_dataset"))
    for name, part in zip(("train", "dev", "test"), theirs.data_split, strict=True):
        wanted = {utt: (item["action"], item["object"], item["location"]) for utt, item in part.items()}
        assert found[name].labels == wanted


def test_speakers_are_split_as_s3prl_does(miniatures, tmp_path):
    from s3prl.dataio.corpus.voxceleb1sid import VoxCeleb1SID

    found = prepare("sid", miniatures / "sid", tmp_path)
    theirs = VoxCeleb1SID(str(miniatures / "sid"), n_jobs=1, cache_root=str(miniatures / "sid"))
    for name, part in zip(("train", "dev", "test"), theirs.data_split, strict=True):
        sources = {u.utt: u.source for u in found[name].data.utts}
        assert sources == {utt: str(item["wav_path"]) for utt, item in part.items()}
        assert {utt: f"speaker_{int(label[2:]) - 10001}" for utt, (label,) in found[name].labels.items()} == {
            utt: item["label"] for utt, item in part.items()
        }


def test_emotions_are_those_that_s3prl_reads(miniatures, tmp_path):
    from s3prl.dataio.corpus.iemocap import IEMOCAP

    found = prepare("er", miniatures / "er", tmp_path, fold=2)
    theirs = IEMOCAP(str(miniatures / "er/IEMOCAP_full_release")).all_data
    merged = {"exc": "hap"}
    ours = {utt: label for part in found.values() for utt, (label,) in part.labels.items()}
    wanted = {utt: merged.get(item["emotion"], item["emotion"]) for utt, item in theirs.items()}
    assert ours == {utt: label for utt, label in wanted.items() if label != "xxx"}
    assert {utt[:5] for utt in found["test"].labels} == {"Ses02"}
    assert not any(utt.startswith("Ses02") for name in ("train", "dev") for utt in found[name].labels)


@pytest.mark.parametrize("fold", [1, 4])
def test_folds_are_those_of_s3prl_with_the_official_lists(miniatures, tmp_path, fold):
    """s3prl's unmodified preparation, with the lists in its cache."""
    import pandas

    iemocap_for_superb = load("s3prl.problem.common.superb_er").iemocap_for_superb
    top, cache = miniatures / "er", tmp_path / "cache"
    for part in ("train", "test"):
        cached = cache / f"test_session{fold}_{part}_metadata.json"
        cached.parent.mkdir(exist_ok=True)
        shutil.copyfile(top / f"iemocap_split/Session{fold}/{part}_meta_data.json", cached)
    (tmp_path / "theirs").mkdir()
    train, dev, (test,) = iemocap_for_superb(tmp_path / "theirs", cache, str(top / "IEMOCAP_full_release"), fold - 1)
    found = prepare("er", top, tmp_path / "out", fold=fold)
    for name, path in (("train", train), ("dev", dev), ("test", test)):
        rows = pandas.read_csv(path)
        assert found[name].labels == {utt: (label,) for utt, label in zip(rows["id"], rows["label"], strict=True)}
        assert {u.source for u in found[name].data.utts} == set(rows["wav_path"])
    own = prepare("er", top, tmp_path / "own", fold=fold, lists="own")
    assert own["test"].labels == found["test"].labels
    assert own["dev"].labels != found["dev"].labels


def lists_of(miniatures: Path, folder: Path, fold: int, part: str, change) -> Path:
    """A copy of the miniature's lists, one of them with other entries."""
    top = shutil.copytree(miniatures / "er/iemocap_split", folder / "lists")
    path = top / f"Session{fold}/{part}_meta_data.json"
    content = json.loads(path.read_text())
    change(content["meta_data"])
    path.write_text(json.dumps(content))
    return top


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "train",
            lambda items: items[0].update(path="Session1/x/Ses01F_impro09_F000.wav"),
            "F000 is not in the corpus",
        ),
        ("train", lambda items: items.append(items[0]), "is listed 2 times"),
        ("test", lambda items: items[0].update(path="Ses01F_impro01_F000.wav"), "F000 of the test set is not of Ses02"),
        ("train", lambda items: items[0].update(path="Ses02F_impro01_F000.wav"), "F000 is of Ses02, the test set's"),
        ("test", lambda items: items.clear(), "an empty list"),
        ("train", lambda items: items[0].pop("path"), "is not one of SUPERB's lists"),
    ],
)
def test_lists_of_another_fold_or_corpus_are_refused(miniatures, tmp_path, part, change, message):
    lists = lists_of(miniatures, tmp_path, 2, part, change)
    with pytest.raises(DataError, match=message):
        prepare("er", miniatures / "er", tmp_path / "out", fold=2, lists=lists)
    assert not (tmp_path / "out").exists()


def test_without_lists_it_is_said_where_they_are(miniatures, tmp_path):
    top = miniatures / "er/IEMOCAP_full_release"
    message = (
        r"Session3/train_meta_data.json is missing: .*https://\S+/iemocap_split\. Put .* --lists DIR \(--lists own "
    )
    with pytest.raises(DataError, match=message):
        prepare("er", top, tmp_path / "out", fold=3)
    assert not (tmp_path / "out").exists()


def copy_of(miniatures: Path, task: str, folder: Path) -> Path:
    shutil.copytree(miniatures / task, folder / task)
    return folder / task


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("ks", lambda c: (c / "speech_commands_v0.01/visual").mkdir(), "is version 2"),
        ("ks", lambda c: shutil.rmtree(c / "speech_commands_v0.01/yes"), r"speech_commands_v0.01/yes is missing"),
        ("ks", lambda c: shutil.rmtree(c / "speech_commands_test_set_v0.01"), "test_set_v0.01 is missing"),
        ("ic", lambda c: next(c.rglob("*.wav")).unlink(), "is missing"),
        (
            "ic",
            lambda c: next(c.rglob("test_data.csv")).unlink(),
            "data/test_data.csv missing; Fluent",
        ),
        ("ic", lambda c: next(c.rglob("test_data.csv")).write_text("a,b\n1,2\n"), "no column path, speakerId, action"),
        ("sid", lambda c: (c / "iden_split.txt").unlink(), "the official split for identification"),
        ("sid", lambda c: (c / "iden_split.txt").write_text("4 x\n"), "line 1 is not"),
        ("sid", lambda c: next(c.rglob("*.wav")).unlink(), "00001.wav is missing"),
        ("er", lambda c: shutil.rmtree(next(c.rglob("Session3"))), "Session3 missing; IEMOCAP has it"),
        ("er", lambda c: next(c.rglob("Ses02*.txt")).unlink(), "holds no label of"),
    ],
)
def test_incomplete_and_wrong_corpora_are_refused(miniatures, tmp_path, task, change, message):
    corpus = copy_of(miniatures, task, tmp_path)
    change(corpus)
    with pytest.raises(DataError, match=message):
        prepare(task, corpus, tmp_path / "out", **({"fold": 2} if task == "er" else {}))
    assert not (tmp_path / "out").exists()
