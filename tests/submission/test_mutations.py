"""Submissions as the project's own stages write them: 200 random good ones pass, and each of many faults is named."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from s3router.data.audio import write_audio
from s3router.files import write_lines
from s3router.submission.build import build, find_sources
from s3router.submission.check import check_submission
from s3router.submission.expected import Expected, read_lists
from s3router.submission.formats import EMOTIONS, INTENTS, KEYWORDS, PARTS, PHONES, SLOTS
from s3router.superb.classification import LabelPredictions
from s3router.superb.diarization import Activities
from s3router.superb.qbe.search import stdlist
from s3router.superb.sequences import TextPredictions
from s3router.superb.tasks import task
from s3router.superb.verification import Trial, TrialScores

STRIDE = 320
Files = dict[str, bytes]


class Maker:
    """Writes random predictions of tasks into experiments, as `superb-predict` does, with their lists beside them."""

    def __init__(self, top: Path, seed: int):
        self.top, self.random, self.made = top, np.random.default_rng(seed), {}

    def pick(self, items, most: int = 6) -> list[str]:
        return [str(item) for item in self.random.choice(sorted(items), self.random.integers(0, most))]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def finish(self, name: str, ids: list[str], fold: int = 0, **more: str) -> Path:
        """The folder ``predict_test`` of an experiment, with its result and the list of its test set."""
        folder = self.top / f"{name}{fold or ''}/exp/one/predict_test"
        data = self.top / f"{name}{fold or ''}/data/test"
        if not (data / "wav.scp").exists():
            write_lines(data / "wav.scp", (f"{utt} x.wav" for utt in ids))
        record = {"method": "frozen", "track": "constrained", "upstream": "tiny", "data_dir": "data/test", **more}
        write_lines(folder / "result.json", [json.dumps(record)])
        self.made.setdefault(name, []).append(folder.parent)
        return folder

    def texts(self, name: str, draw: Callable[[], str]) -> None:
        ids = [f"{61 + n}-70968-{n:04d}" if name != "sf" else f"Brian-snips-test-{n}" for n in range(5)]
        predicted = {utt: draw() for utt in ids}
        task(name).write(TextPredictions(predicted, predicted), self.finish(name, ids))

    def labels(self, name: str, ids: list[str], draw: Callable[[], tuple[str, ...]], fold: int = 0) -> None:
        predicted = {utt: draw() for utt in ids}
        task(name).write(LabelPredictions(predicted, predicted), self.finish(name, ids, fold), fold or None)

    def word(self) -> str:
        return self.random.choice(["PLAY", "IT'S", "A", "SIX", "<unk>", "HEL<unk>O"])

    def slot(self) -> str:
        name = self.random.choice(sorted(SLOTS))
        form = self.random.choice(
            ["B-{0} X E-{0}", "B-{0} X Y", "X E-{0}", "AB-{0} X E-{0}", "B-{0} X  E-{0}X", "B-{0} "]
        )
        return form.format(name)

    def pr(self) -> None:
        self.texts("pr", lambda: " ".join(self.pick(PHONES)))

    def asr(self) -> None:
        self.texts("asr", lambda: " ".join(self.word() for _ in range(self.random.integers(0, 5))))

    def sf(self) -> None:
        self.texts("sf", lambda: " ".join(self.word() if self.chance(0.5) else self.slot() for _ in range(4)))

    def ks(self) -> None:
        ids = [f"{word}-{n:08x}_nohash_{n}.wav" for n, word in enumerate(["yes", "_unknown_", "_silence_", "go"])]
        self.labels("ks", ids, lambda: (str(self.random.choice(KEYWORDS)),))

    def ic(self) -> None:
        ids = [f"{n:02x}d5e9f0-44b3-11e9" for n in range(5)]
        self.labels("ic", ids, lambda: tuple(str(self.random.choice(names)) for names in INTENTS.values()))

    def sid(self) -> None:
        ids = [f"id1{n:04d}-a_b-{n:05d}" for n in range(1, 6)]
        self.labels("sid", ids, lambda: (f"id1{self.random.integers(1, 1252):04d}",))

    def er(self) -> None:
        for fold in range(1, 6):
            ids = [f"Ses0{fold}F_impro01_F{n:03d}" for n in range(4)]
            self.labels("er", ids, lambda: (str(self.random.choice(EMOTIONS)),), fold)

    def sv(self) -> None:
        """Ten utterances of each of four speakers, and scores that are anything from useless to good."""
        utts = [f"id102{70 + n % 4}-_v-{n % 3}-{n:05d}" for n in range(40)]
        pairs = [(a, b) for number, a in enumerate(utts) for b in utts[:number:3]]
        trials = tuple(Trial(a[:7] == b[:7], a, b) for a, b in pairs)
        trials += trials[:2] if self.chance(0.3) else ()
        gap, known = self.random.choice([0.0, 0.5, 2.0]), {}
        for trial in trials:
            known.setdefault(trial, float(np.tanh(self.random.normal(gap * trial.same, 0.5))))
        folder = self.finish("sv", utts)
        write_lines(self.top / "sv/data/test/trials", (f"{int(t.same)} {t.enrolled} {t.tested}" for t in trials))
        task("sv").write(TrialScores(trials, tuple(known[trial] for trial in trials)), folder)

    def sd(self) -> None:
        """Recordings of real lengths, of which a model may well lack or add a few frames."""
        stride, data, predicted = int(self.random.choice([160, STRIDE])), self.top / "sd/data/test", {}
        for number in range(2):
            samples = int(self.random.integers(16_000, 60_000))
            name = f"61-1-000{number}_121-1-000{number}"
            path = data / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, np.zeros(samples), 16_000)
            frames = samples // stride + int(self.random.integers(-3, 2))
            predicted[name] = self.random.random((frames, 2)).astype(np.float32)
        write_lines(data / "wav.scp", (f"{name} {data / name}.wav" for name in predicted))
        task("sd").write(Activities(stride, predicted, {}), self.finish("sd", list(predicted)))

    def qbe(self) -> None:
        documents, scores = [f"quesst14_{n:05d}" for n in range(30)], {}
        for query in (f"quesst14_eval_000{n}" for n in range(3)):
            values = np.zeros(30) if self.chance(0.1) else self.random.standard_normal(30)
            values = (values - values.mean()) / max(values.std(), 1e-9)
            scores[query] = dict(zip(documents, values.round(4).tolist(), strict=True))
        write_lines(self.top / "qbe/data/documents/wav.scp", (f"{name} x.wav" for name in documents))
        folder = self.finish("qbe", list(scores), documents_dir="data/documents")
        write_lines(folder / "qbe_public/benchmark.stdlist.xml", stdlist(scores))


TASKS = ("pr", "asr", "sf", "ks", "ic", "sid", "er", "sv", "sd", "qbe")


def submitted(top: Path, seed: int, names=TASKS) -> tuple[Path, list[str]]:
    """(the archive, problems) of random predictions for these tasks."""
    maker = Maker(top, seed)
    for name in names:
        getattr(maker, name)()
    path, verdict, _ = build(find_sources(maker.made), top / "out", {})
    assert all(part.listed for part in verdict.parts.values())
    return path, verdict.all_problems


@pytest.mark.parametrize("block", range(10))
def test_good_submissions_pass(tmp_path, block):
    for seed in range(20 * block, 20 * block + 20):
        names = np.random.default_rng(seed).choice(TASKS, 3, replace=False)
        path, problems = submitted(tmp_path / str(seed), seed, names)
        assert problems == [], (seed, names)
        assert check_submission(path, read_lists(path.parent / "lists")).all_problems == []


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Files, dict[str, Expected]]:
    """A submission of all tasks, with scores of verification that tell speakers apart, and its lists."""
    for seed in range(1000, 1010):
        path, problems = submitted(tmp_path_factory.mktemp("good"), seed)
        assert problems == []
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        scores = [line.split() for line in files["predict/sv_public/predict.txt"].decode().splitlines()]
        same = [float(score) for name, score in scores if len(set(re.findall(r"id\d+(?=-_)", name))) == 1]
        if np.mean(same) > 0.5 and files["predict/sd_public/frame_shift"] == b"320\n":
            return files, read_lists(path.parent / "lists")
    raise AssertionError("no seed gives what the faults below need")


def main_file(folder: str) -> str:
    return f"predict/{folder}/{PARTS[folder].file}"


def on_lines(folder: str, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Files], None]:
    """A change of the lines of a part's file."""

    def apply(files: Files) -> None:
        path = main_file(folder)
        files[path] = b"".join(line + b"\n" for line in change(files[path].splitlines()))

    return apply


def first(change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    """A change of the second line."""
    return lambda lines: [lines[0], change(lines[1]), *lines[2:]]


def utt_of(line: bytes) -> bytes:
    return re.split(rb"[ ,]", line)[0]


OF_ANY_LINES = [
    ("lacking", lambda lines: lines[1:], "of the test set are not predicted"),
    ("empty line", first(lambda line: b""), ":2: empty"),
    ("tab", first(lambda line: utt_of(line) + b"\t" + line), ":2: holds a tab"),
    ("return", first(lambda line: line + b"\r"), ":2: ends with a carriage return"),
    ("latin1", first(lambda line: line + b"\xe9"), ":2: not UTF-8"),
    ("bell", first(lambda line: line + b"\x07"), ":2: holds the control character"),
    ("mark", lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]], ":1: begins with a byte order mark"),
    ("strange id", first(lambda line: b"other" + line), "is not in the list of the test set"),
    ("another twice", lambda lines: [*lines, lines[1].replace(b"0.", b"0.1")], "appears twice"),
]
LINES = ("pr_public", "asr_public", "sf_public", "ks_public", "ic_public", "sid_public", "sv_public", "er_fold2_public")
FAULTS: list[tuple[str, str, Callable[[Files], None], str]] = [
    (folder, name, on_lines(folder, change), message)
    for folder in LINES
    for name, change, message in OF_ANY_LINES
    if (folder, name) != ("sv_public", "another twice")
]


def line_fault(folder: str, name: str, change: Callable[[bytes], bytes], message: str) -> None:
    FAULTS.append((folder, name, on_lines(folder, first(change)), message))


line_fault(
    "pr_public", "no stress", lambda line: utt_of(line) + b" HH AH L OW", "'AH' is not a phone of the benchmark's 71"
)
line_fault("pr_public", "phone", lambda line: utt_of(line) + b" QQ", "'QQ' is not a phone")
line_fault("pr_public", "small", lambda line: utt_of(line) + b" ah0", "'ah0' is not a phone")
line_fault("pr_public", "blanks", lambda line: utt_of(line) + b" B  B", "two spaces beside each other")
line_fault("asr_public", "small", lambda line: utt_of(line) + b" hello", "'hello' is not a word")
line_fault("asr_public", "comma", lambda line: utt_of(line) + b" HELLO,", "'HELLO,' is not a word")
line_fault("asr_public", "digit", lambda line: utt_of(line) + b" 6", "'6' is not a word")
line_fault("sf_public", "slot", lambda line: utt_of(line) + b" B-singer X E-singer", "singer is not a slot of SNIPS")
line_fault("sf_public", "small", lambda line: utt_of(line) + b" play", "'play' is not a word")
line_fault("sf_public", "tag", lambda line: utt_of(line) + b" I-artist", "'I-artist' is not a word")
line_fault("ks_public", "label", lambda line: utt_of(line) + b" silence", "'silence' is not one of _silence_")
line_fault("ks_public", "columns", lambda line: line + b" x", "3 columns, expected 2")
line_fault("ks_public", "suffix", lambda line: line.replace(b".wav", b""), "not of the form <folder>-<file>.wav")
line_fault("ic_public", "header", lambda line: b"path,action,object,location", "a header")
line_fault("ic_public", "columns", lambda line: line.rsplit(b",", 1)[0], "3 columns, expected 4")
line_fault("ic_public", "blank", lambda line: line.replace(b",", b", ", 1), "is not one of activate")
line_fault("sid_public", "speaker", lambda line: utt_of(line) + b" id11252", "not of the form id10001")
line_fault("sid_public", "number", lambda line: utt_of(line) + b" 17", "'17' is not of the form id10001")
line_fault("er_fold2_public", "label", lambda line: utt_of(line) + b" exc", "'exc' is not one of ang")
line_fault("er_fold2_public", "session", lambda line: line.replace(b"Ses02", b"Ses03"), "fold 2 is tested on session 2")
line_fault("sv_public", "nan", lambda line: utt_of(line) + b" nan", "not a finite number")
line_fault("sv_public", "word", lambda line: utt_of(line) + b" same", "'same' is not a number")


def scores(change: Callable[[float], float]) -> Callable[[Files], None]:
    """Other scores of all trials."""
    return on_lines(
        "sv_public", lambda lines: [utt_of(line) + b" %f" % change(float(line.split()[1])) for line in lines]
    )


def another_score(lines: list[bytes]) -> list[bytes]:
    return [*lines, utt_of(lines[0]) + b" 7"]


FAULTS += [
    ("sv_public", "turned", scores(lambda score: -score), "the sign is turned"),
    ("sv_public", "distance", scores(lambda score: 1 - score), "the sign is turned"),
    ("sv_public", "two scores", on_lines("sv_public", another_score), "appears twice"),
]

H5 = "predict/sd_public/scoring/predictions/61-1-0001_121-1-0001.h5"
SHIFT = "predict/sd_public/frame_shift"


def activity(change: Callable[[np.ndarray], np.ndarray], name: str = "T_hat") -> Callable[[Files], None]:
    """Another array in a file of speaker activity."""

    def apply(files: Files) -> None:
        with h5py.File(io.BytesIO(files[H5])) as file:
            values = change(file["T_hat"][()])
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file[name] = values
        files[H5] = content.getvalue()

    return apply


def with_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(values))[:, None] == 3, np.nan, values)


FAULTS += [
    ("sd_public", "three frames", activity(lambda t: t[:3]), "T_hat has 3 frames, 0.06 s at the 320 samples"),
    ("sd_public", "half the frames", activity(lambda t: t[::2]), "; the recording takes"),
    ("sd_public", "twice the frames", activity(lambda t: t.repeat(2, 0)), "; the recording takes"),
    ("sd_public", "twenty frames short", activity(lambda t: t[:-20]), "; the recording takes"),
    ("sd_public", "three speakers", activity(lambda t: np.c_[t, t[:, 0]]), "expected (frames, 2)"),
    ("sd_public", "transposed", activity(lambda t: t.T), "expected (frames, 2)"),
    ("sd_public", "decisions", activity(lambda t: (t > 0.5).astype(int)), "expected floating-point probabilities"),
    ("sd_public", "logits", activity(lambda t: 8 * t - 4), "probabilities lie from 0 to 1"),
    ("sd_public", "nan", activity(with_nan), "T_hat[3, 0] is nan"),
    ("sd_public", "name", activity(lambda t: t, "that"), "no dataset T_hat; it holds that"),
    ("sd_public", "no HDF5", lambda files: files.update({H5: b"x"}), "not a readable HDF5 file"),
    ("sd_public", "lacking", lambda files: files.pop(H5), "1 recordings of the test set are not predicted"),
    ("sd_public", "strange", lambda files: files.update({H5.replace("61-", "9-", 1): files[H5]}), "is not in the list"),
    ("sd_public", "no shift", lambda files: files.pop(SHIFT), "frame_shift: is missing"),
    ("sd_public", "seconds", lambda files: files.update({SHIFT: b"0.02\n"}), "not a whole number of samples"),
    ("sd_public", "none", lambda files: files.update({SHIFT: b"0\n"}), "not a whole number of samples"),
    ("sd_public", "half the shift", lambda files: files.update({SHIFT: b"160\n"}), "at the 160 samples of frame_shift"),
    (
        "sd_public",
        "twice the shift",
        lambda files: files.update({SHIFT: b"640\n"}),
        "at the 640 samples of frame_shift",
    ),
    (
        "sd_public",
        "elsewhere",
        lambda files: files.update({H5.replace("scoring/", ""): files[H5]}),
        "does not belong here",
    ),
]

XML = main_file("qbe_public")
FOUND = {
    "no term": (rb'<term file="quesst14_00003"[^>]*>\s*', b"", "no score for the documents quesst14_00003"),
    "a term twice": (rb"(<term [^>]*>)", rb"\1\1", "appears twice for query"),
    "a strange document": (rb"quesst14_00003", b"quesst14_99999", "is not in the list of documents"),
    "no query": (rb"(?s)<detected_termlist.*?</detected_termlist>\s*", b"", "1 queries of the test set are not"),
    "a query twice": (rb'termid="quesst14_eval_0001"', b'termid="quesst14_eval_0000"', "appears twice (first in"),
    "a strange query": (rb'termid="quesst14_eval_0001"', b'termid="x"', "query x is not in the list"),
    "no number": (rb'score="[^"]*"', b'score="high"', "'high' is not a number"),
    "infinite": (rb'score="[^"]*"', b'score="-inf"', "not a finite number"),
    "decision": (rb'decision="NO"', b'decision="False"', "neither YES nor NO"),
    "no decision": (rb'decision="NO"', b"", "term without decision"),
    "not normalised": (rb'score="[^"]*"', b'score="50.0"', "must be z-normalised per query"),
    "cut off": (rb"</stdlist>", b"", "not well-formed XML"),
    "element": (
        rb"(?s)<detected_termlist(.*?)</detected_termlist>",
        rb"<termlist\1</termlist>",
        "<termlist> inside of",
    ),
}
for name, (old, new, message) in FOUND.items():

    def replaced(files: Files, old: bytes = old, new: bytes = new) -> None:
        files[XML], count = re.subn(old, new, files[XML], count=1)
        assert count

    FAULTS.append(("qbe_public", name, replaced, message))


def moved(files: Files) -> None:
    files["predict/er_fold6_public/predict.txt"] = files.pop(main_file("er_fold5_public"))


FAULTS += [
    ("", "a fold lacks", lambda files: files.pop(main_file("er_fold3_public")), "missing: er_fold3_public"),
    ("", "unknown folder", moved, "predict/er_fold6_public/predict.txt: no task has it"),
    ("", "top", lambda files: files.update({"ks_public/predict.txt": b"x"}), "all files lie under predict/"),
    ("ks_public", "more", lambda files: files.update({"predict/ks_public/.DS_Store": b"x"}), "does not belong here"),
    (
        "ic_public",
        "name",
        lambda files: files.update({"predict/ic_public/p.txt": files.pop(main_file("ic_public"))}),
        "missing",
    ),
]


@pytest.mark.parametrize(
    ("folder", "fault", "change", "message"),
    FAULTS,
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_every_fault_is_named(good, tmp_path, folder, fault, change, message):
    files, lists = good
    changed = dict(files)
    change(changed)
    assert changed != files
    with zipfile.ZipFile(tmp_path / "predict.zip", "w") as archive:
        for name, content in changed.items():
            archive.writestr(name, content)
    problems = check_submission(tmp_path / "predict.zip", lists).all_problems
    assert any(message in problem for problem in problems), problems
    assert all(problem.startswith(f"predict/{folder}") or not folder for problem in problems), "others are not at fault"


def test_there_are_many_faults_of_all_parts():
    assert len({(folder, fault) for folder, fault, *_ in FAULTS}) == len(FAULTS) >= 60
    assert {PARTS[folder].name for folder, *_ in FAULTS if folder} == set(TASKS)


def test_without_a_list_figures_are_those_of_the_benchmark(good, tmp_path):
    """Numbers of recordings, utterances, queries and documents, and mixtures that last a second at least."""
    files = dict(good[0])
    activity(lambda t: t[:3])(files)
    with zipfile.ZipFile(tmp_path / "predict.zip", "w") as archive:
        for name in files:
            if re.search("sd_|qbe_|sf_", name):
                archive.writestr(name, files[name])
    found = "\n".join(check_submission(tmp_path / "predict.zip").all_problems)
    for message in (
        "has 3,000 (no",
        "has 138 (no",
        "has 2,800 (no",
        "2,438 English ones, 12,492 in all",
        "is that short",
    ):
        assert message in found, message
