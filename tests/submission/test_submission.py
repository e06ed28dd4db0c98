"""Submissions: a good one of all tasks passes; each kind of wrong line is named by file and line."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from s3router.cli import main
from s3router.cli.superb_check import given_lists
from s3router.errors import ConfigError, DataError, S3RouterError
from s3router.submission.build import build, find_sources
from s3router.submission.check import check_submission
from s3router.submission.check_files import MOST_PROBLEMS
from s3router.submission.expected import Expected, read_list, read_lists, write_list
from s3router.submission.formats import PARTS
from s3router.submission.report import lines, track_of
from s3router.submission.tracks import loosest, track

XML = """<stdlist system_id="benchmark">
<detected_termlist termid="q1" term_search_time="1.0">
<term file="d1" channel="1" score="1.0000" decision="NO"/>
<term file="d2" channel="1" score="-1.0000" decision="NO"/>
</detected_termlist>
<detected_termlist termid="q2" term_search_time="1.0">
<term file="d1" channel="1" score="-1.0000" decision="NO"/>
<term file="d2" channel="1" score="1.0000" decision="YES"/>
</detected_termlist>
</stdlist>
"""
GOOD = {
    "pr_public": ["61-1-0000 HH AH0 L OW1", "61-1-0001 SIL", "61-1-0002"],
    "asr_public": ["61-1-0000 HELLO IT'S ME", "61-1-0001", "61-1-0002 A"],
    "asr_lm_public": ["61-1-0000 HELLO", "61-1-0001 ", "61-1-0002 A"],
    "ks_public": ["yes-00f_nohash_0.wav yes", "_silence_-1.wav _silence_", "bed-b.wav _unknown_"],
    "ic_public": ["a-1,change language,none,none", "a-2,increase,volume,none", "a-3,activate,lights,kitchen"],
    "sid_public": ["id10003-a-b_C-00001 id10003", "id10004-x-00001 id11251", "id10004-x-00002 id10001"],
    "sf_public": [
        "s-1 PLAY B-artist EMINEM E-artist",
        "s-2 B-music_item SONG",
        "s-3 RATE B-object_part_of_series_type  E-object_part_of_series_type",  # two blanks, as s3prl writes them
    ],
    "sv_public": ["id1-a_b-1_id2-c-1 0.25", "id1-a_b-1_id1-c-2 -1e-3", "id2-d-1_id1-c-2 1"],
    **{
        f"er_fold{k}_public": [f"Ses0{k}F_impro01_F00{n} {e}" for n, e in enumerate(("neu", "sad", "hap"))]
        for k in range(1, 6)
    },
}


def activities(values=None, name: str = "T_hat") -> bytes:
    """An HDF5 file."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file[name] = np.full((5, 2), 0.5, np.float32) if values is None else values
    return content.getvalue()


def files() -> dict[str, bytes]:
    """A good submission of all tasks: path -> content."""
    found = {f"predict/{f}/{PARTS[f].file}": "".join(f"{row}\n" for row in rows).encode() for f, rows in GOOD.items()}
    found["predict/qbe_public/benchmark.stdlist.xml"] = XML.encode()
    found["predict/sd_public/frame_shift"] = b"320\n"
    for name in ("mix1", "mix2"):
        found[f"predict/sd_public/scoring/predictions/{name}.h5"] = activities()
    return found


@pytest.fixture(scope="module")
def lists() -> dict[str, Expected]:
    """Of the same."""
    known = {
        folder: Expected(tuple(row.split("," if folder == "ic_public" else " ")[0] for row in rows))
        for folder, rows in GOOD.items()
    }
    return {**known, "qbe_public": Expected(("q1", "q2"), ("d1", "d2")), "sd_public": Expected(("mix1", "mix2"))}


def pack(path: Path, content: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    """Zip it."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def problems(tmp_path: Path, content: dict[str, bytes], lists) -> list[str]:
    """What the check says of these files."""
    return check_submission(pack(tmp_path / "predict.zip", content), lists).all_problems


def test_a_good_submission_of_all_tasks_passes(tmp_path, lists):
    verdict = check_submission(pack(tmp_path / "predict.zip", files()), lists)
    assert verdict.all_problems == []
    assert list(verdict.parts) == list(PARTS)
    assert all(part.listed for part in verdict.parts.values())
    assert verdict.parts["sf_public"].remarks["lines with slots that are not closed, or not opened"] == 1
    assert verdict.parts["asr_public"].remarks["empty predictions"] == 1


WRONG_LINES = [
    ("pr_public", "61-1-0001 SIL XX", "'XX' is not a phone"),
    ("pr_public", "61-1-0001 AH3", "'AH3' is not a phone"),
    ("pr_public", "61-1-0001 HH AH L OW", "'AH' is not a phone of the benchmark's 71"),
    ("pr_public", "61-1-0001 SIL  B", "two spaces"),
    ("pr_public", " SIL", "begins with a space"),
    ("asr_public", "61-1-0001 hello", "'hello' is not a word of capital letters"),
    ("asr_public", "61-1-0001 HELLO,", "'HELLO,' is not a word"),
    ("asr_lm_public", "61-1-0001\tHELLO", "holds a tab"),
    ("asr_public", "61-1-0009 HELLO", "61-1-0009 is not in the list"),
    ("ks_public", "_silence_-1.wav silence", "label 'silence' is not one of _silence_"),
    ("ks_public", "_silence_-1.wav", "1 columns, expected 2"),
    ("ks_public", "_silence_-1.wav  yes", "2 columns, expected 2 with one space"),
    ("ks_public", "_silence_-1 yes", "not of the form <folder>-<file>.wav"),
    ("ks_public", "_silence_/1.wav yes", "not of the form <folder>-<file>.wav"),
    ("ks_public", "yes-00f_nohash_0.wav yes", "appears twice (first in line 1)"),
    ("ks_public", "_silence_-1.wav yes\r", "carriage return"),
    ("ks_public", "", "empty"),
    ("ks_public", "_silence_-1.wav\x00 yes", "control character '\\x00'"),
    ("ic_public", "a-2,increase,volume", "3 columns, expected 4"),
    ("ic_public", "a-2,increase, volume,none", "object ' volume' is not one of"),
    ("ic_public", "path,action,object,location", "a header; this file has none"),
    ("ic_public", "a-2.wav,increase,volume,none", "without .wav"),
    ("sid_public", "id10004-x-00001 id11252", "not of the form id10001 … id11251"),
    ("sid_public", "x-00001 id10001", "not of the form id1XXXX-video-number"),
    ("er_fold2_public", "Ses03F_impro01_F001 sad", "fold 2 is tested on session 2"),
    ("er_fold2_public", "Ses02F_impro01_F001 exc", "label 'exc' is not one of ang, hap, neu, sad"),
    ("sf_public", "s-2 play", "'play' is not a word of capital letters"),
    ("sf_public", "s-2 C-artist", "'C-artist' is not a word"),
    ("sf_public", "s-2 B-singer EMINEM E-singer", "'B-singer': singer is not a slot of SNIPS"),
    ("sf_public", "s-2 PLAY ITE-tracks", "'E-tracks': tracks is not a slot of SNIPS"),
    ("sv_public", "id1-a_b-1_id1-c-2 nan", "'nan' is not a finite number"),
    ("sv_public", "id1-a_b-1_id1-c-2 1_0", "'1_0' is not a finite number"),
    ("sv_public", "id1-a_b-1_id1-c-2 high", "'high' is not a number"),
    ("sv_public", "id1-a_b-1_id1-c-2", "1 columns, expected 2"),
    ("sv_public", "id1/a.wav_id2/b.wav 1", "not of the form name1_name2"),
    ("sv_public", "id1-a_b-1_id2-c-1 0.5", "appears twice"),
]


@pytest.mark.parametrize(("folder", "line", "message"), WRONG_LINES)
def test_a_wrong_line_is_named(tmp_path, lists, folder, line, message):
    path = f"predict/{folder}/{PARTS[folder].file}"
    rows = [GOOD[folder][0], line, GOOD[folder][2]]
    content = {**files(), path: "".join(f"{row}\n" for row in rows).encode()}
    found = problems(tmp_path, content, lists)
    assert any(problem.startswith(f"{path}:2: ") and message in problem for problem in found), found
    assert all(problem.startswith(path) for problem in found), "no other file is at fault"


def test_bytes_that_are_no_text(tmp_path, lists):
    path = "predict/ks_public/predict.txt"
    content = {path: b"\xef\xbb\xbfyes-00f_nohash_0.wav yes\n\xffed-b.wav _unknown_\n"}
    found = problems(tmp_path, content, {"ks_public": lists["ks_public"]})
    assert found[0] == f"{path}:1: begins with a byte order mark; write plain UTF-8"
    assert found[1] == f"{path}:2: not UTF-8 (byte 1 of the line is 0xff)"
    assert "3 utterances of the test set are not predicted" in found[2]


def test_a_file_that_is_wrong_throughout_does_not_fill_the_memory(tmp_path):
    content = {"predict/ks_public/predict.txt": b"x\n" * (MOST_PROBLEMS + 5)}
    verdict = check_submission(pack(tmp_path / "predict.zip", content))
    assert (len(verdict.all_problems), verdict.total) == (MOST_PROBLEMS, MOST_PROBLEMS + 6)  # and too few utterances
    said = lines(verdict, Path("predict.zip"), None, most=2)
    assert "… and 10,004 more" in said[4]


def test_what_a_model_may_well_predict_is_a_remark(tmp_path):
    rows = "a HEL<unk>LO\nb <unk>\nc\nd OK\n"
    path = pack(tmp_path / "predict.zip", {"predict/asr_public/predict.ark": rows.encode()})
    verdict = check_submission(path, {"asr_public": Expected(tuple("abcd"))})
    assert verdict.all_problems == []
    remarks = verdict.parts["asr_public"].remarks
    assert (remarks["lines with <unk>"], remarks["empty predictions"]) == (2, 1)


def test_what_lacks_is_counted_and_named(tmp_path, lists):
    content = {"predict/ks_public/predict.txt": b"bed-b.wav yes\n"}
    (found,) = problems(tmp_path, content, lists)
    assert found.endswith("2 utterances of the test set are not predicted: yes-00f_nohash_0.wav, _silence_-1.wav")
    (found,) = problems(tmp_path, content, {})
    assert found.endswith("1 utterances; the benchmark's test set has 3,081 (no list given)")


def test_a_trial_may_come_twice_as_in_the_corpus(tmp_path, lists):
    path = "predict/sv_public/predict.txt"
    content = {path: "".join(f"{row}\n" for row in [*GOOD["sv_public"], GOOD["sv_public"][0]]).encode()}
    verdict = check_submission(pack(tmp_path / "predict.zip", content), {"sv_public": lists["sv_public"]})
    assert verdict.all_problems == []
    assert verdict.parts["sv_public"].remarks["trials that come again with the same score"] == 1
    assert verdict.parts["sv_public"].entries == 4


WRONG_TERMS = [
    ('termid="q2"', 'termid="q1"', 6, "query q1 appears twice (first in line 2)"),
    ('termid="q2"', 'termid="q3"', 6, "query q3 is not in the list"),
    ('termid="q1" ', "", 2, "detected_termlist without a termid"),
    ('file="d2" channel="1" score="1.0000"', 'file="d1" channel="1" score="1.0000"', 8, "document d1 appears twice"),
    ('file="d1" channel="1" score="-1.0000"', 'file="d9" channel="1" score="-1.0000"', 7, "document d9 is not in the"),
    ('score="-1.0000" decision="NO"/>\n</det', 'score="inf" decision="NO"/>\n</det', 4, "'inf' is not a finite number"),
    ('decision="YES"', 'decision="yes"', 8, "decision 'yes' is neither YES nor NO"),
    ('decision="YES"', "", 8, "term without decision"),
    ('score="1.0000" decision="YES"', 'score="3.0000" decision="YES"', 9, "mean 1 and standard deviation 2"),
    ("</stdlist>", "", 11, "not well-formed XML"),
    ("<stdlist", '<!DOCTYPE s [<!ENTITY a "b">]><stdlist', 1, "not well-formed XML"),
    ("<term ", "<item ", 3, "<item> inside of <detected_termlist>"),
    ('<term file="d1" channel="1" score="1', 'hello<term file="d1" channel="1" score="1', 3, "text 'hello'"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), WRONG_TERMS)
def test_a_wrong_term_is_named(tmp_path, lists, old, new, line, message):
    path = "predict/qbe_public/benchmark.stdlist.xml"
    text = XML.replace(old, new, 1)
    assert text != XML
    if new == "<item ":
        text = text.replace("/>", "></item>", 1)
    found = problems(tmp_path, {path: text.encode()}, {"qbe_public": lists["qbe_public"]})
    assert any(problem.startswith(f"{path}:{line}: ") and message in problem for problem in found), found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (activities(np.full((5, 3), 0.5)), "T_hat has the shape [5, 3], expected (frames, 2)"),
        (activities(np.full((0, 2), 0.5)), "T_hat has the shape [0, 2]"),
        (activities(np.ones((5, 2), np.int64)), "T_hat is int64"),
        (activities(np.array([[0.5, 0.5], [0.5, 1.5]])), "T_hat[1, 1] is 1.5"),
        (activities(np.array([[0.5, np.nan]])), "T_hat[0, 1] is nan"),
        (activities(name="other"), "no dataset T_hat; it holds other"),
        (b"PK no such thing", "not a readable HDF5 file"),
    ],
)
def test_a_wrong_activity_is_named(tmp_path, lists, content, message):
    path = "predict/sd_public/scoring/predictions/mix2.h5"
    (found,) = problems(tmp_path, {**files(), path: content}, lists)
    assert found.startswith(f"{path}: ")
    assert message in found


def test_a_missing_frame_shift_is_not_skipped(tmp_path, lists):
    content = files()
    content["predict/sd_public/frame_shift"] = b"0.02\n"
    (found,) = problems(tmp_path, content, lists)
    assert found == "predict/sd_public/frame_shift:1: '0.02' is not a whole number of samples above 0"
    del content["predict/sd_public/frame_shift"]
    assert problems(tmp_path, content, lists) == ["predict/sd_public/frame_shift: is missing"]


def test_activities_lie_where_the_benchmarks_scorer_looks(tmp_path, lists):
    """`s3prl/submit/submit.py` packs, and `downstream/diarization/score.sh` reads, sd_public/scoring/predictions."""
    content = files()
    for name in ("mix1", "mix2"):
        content[f"predict/sd_public/predictions/{name}.h5"] = content.pop(
            f"predict/sd_public/scoring/predictions/{name}.h5"
        )
    *strange, lacking = problems(tmp_path, content, lists)
    assert all("does not belong here; predict/sd_public holds frame_shift and scoring/predic" in s for s in strange)
    assert "2 recordings of the test set are not predicted: mix1, mix2" in lacking


def test_what_does_not_belong_into_the_archive(tmp_path, lists):
    content = {
        **files(),
        "ks_public/predict.txt": b"",
        "predict/ks/predict.txt": b"",
        "predict/ks_public/.DS_Store": b"",
        "predict/../../x": b"",
    }
    del content["predict/er_fold4_public/predict.txt"]
    found = "\n".join(problems(tmp_path, content, lists))
    assert "ks_public/predict.txt: all files lie under predict/" in found
    assert "predict/ks/predict.txt: no task has it" in found
    assert "predict/ks_public/.DS_Store: does not belong here" in found
    assert "'predict/../../x': not a plain path" in found
    assert "scored with all five folds only; missing: er_fold4_public" in found
    assert len(found.splitlines()) == 5
    with pytest.raises(DataError, match="not a readable zip"):
        check_submission(__file__)
    with pytest.raises(DataError, match="no such file"):
        check_submission(tmp_path / "none.zip")
    assert "nothing to score" in problems(tmp_path, {}, {})[0]


@pytest.mark.parametrize("seed", range(40))
def test_changed_lines_are_found_wherever_they_are(tmp_path, lists, seed):
    """Any one of a few changes to any line of any file of lines is reported, with that file, and nothing else is."""
    draw = random.Random(seed)
    folder = draw.choice(list(GOOD))
    rows = list(GOOD[folder])
    at = draw.randrange(len(rows))
    rows[at] = draw.choice(
        [
            lambda row: row.replace(" ", "\t") if " " in row else f"{row}\t",
            lambda row: f"{row}\r",
            lambda row: f"\x07{row}",
            lambda row: f"x{row}",
            lambda row: "",
            lambda row: rows[at - 1],
        ]
    )(rows[at])
    path = f"predict/{folder}/{PARTS[folder].file}"
    found = problems(tmp_path, {**files(), path: "\n".join(rows).encode()}, lists)
    assert found
    assert all(problem.startswith(f"{path}:") for problem in found), (rows, found)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_archives_are_explained(tmp_path, lists, seed):
    """A flipped or lost stretch of bytes gives problems or a DataError, never a traceback."""
    draw = random.Random(seed)
    kind = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)[seed % 3]
    path = pack(tmp_path / "predict.zip", files(), kind)
    content = bytearray(path.read_bytes())
    at = draw.randrange(len(content))
    if draw.random() < 0.3:
        del content[at:]
    else:
        content[at : at + 4] = draw.randbytes(4)
    path.write_bytes(content)
    try:
        verdict = check_submission(path, lists)
    except S3RouterError:
        return
    assert "\n".join(lines(verdict, path, None))


def experiment(top: Path, **more) -> Path:
    """What a task's recipe leaves, as far as it matters here."""
    exp = top / "exp/one"
    (exp / "predict_test/ks_public").mkdir(parents=True)
    result = {"method": "frozen", "track": "constrained", "upstream": "tiny", "data_dir": "data/test", **more}
    (exp / "predict_test/result.json").write_text(json.dumps(result))
    (exp / "predict_test/ks_public/predict.txt").write_text("".join(f"{row}\n" for row in GOOD["ks_public"]))
    (top / "data/test").mkdir(parents=True)
    (top / "data/test/wav.scp").write_text("".join(f"{row.split()[0]} x.wav\n" for row in GOOD["ks_public"]))
    return exp


def test_submit_and_check_by_their_commands(tmp_path, capsys):
    exp = experiment(tmp_path, method="router", track="unconstrained")
    assert main(["superb-submit", "--ks", str(exp), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "track: unconstrained" in said
    assert "against its list" in said
    assert "nothing is wrong" in said
    path = tmp_path / "out/predict.zip"
    first = path.read_bytes()
    assert main(["superb-check", str(path)]) == 0
    assert capsys.readouterr().out == said
    assert main(["superb-submit", "--ks", str(exp), "-o", str(tmp_path / "out")]) == 0
    assert path.read_bytes() == first, "the same predictions give the same archive"
    with path.open("ab") as file:
        file.write(b"\n")
    assert track_of(path)[0] is None
    assert main(["superb-check", str(path)]) == 0
    assert "report.json is of another archive, or this one was changed since" in capsys.readouterr().out


def test_results_and_reports_that_say_mode_are_read(tmp_path, capsys):
    """Earlier versions wrote "mode" for what is now "method"."""
    exp = experiment(tmp_path, mode="router", track="unconstrained")
    result = json.loads((exp / "predict_test/result.json").read_text())
    del result["method"]
    (exp / "predict_test/result.json").write_text(json.dumps(result))
    _, _, record = build(find_sources({"ks": [exp]}), tmp_path / "out", {})
    assert record["parts"]["ks_public"]["method"] == "router"
    old = (tmp_path / "out/report.json").read_text().replace('"method"', '"mode"')
    (tmp_path / "out/report.json").write_text(old)
    assert main(["superb-check", str(tmp_path / "out/predict.zip")]) == 0
    assert "router, unconstrained" in capsys.readouterr().out


def test_a_list_is_of_the_recipe_of_its_experiment(tmp_path, monkeypatch):
    (tmp_path / "other/data/test").mkdir(parents=True)
    (tmp_path / "other/data/test/wav.scp").write_text("another x.wav\n")
    exp = experiment(tmp_path / "ks1")
    monkeypatch.chdir(tmp_path / "other")
    _, verdict, _ = build(find_sources({"ks": [Path("../ks1/exp/one")]}), tmp_path / "out", {})
    assert verdict.total == 0
    assert verdict.parts["ks_public"].listed
    (exp.parents[1] / "data").rename(tmp_path / "moved")
    _, verdict, _ = build(find_sources({"ks": [exp]}), tmp_path / "out", {})
    assert not verdict.parts["ks_public"].listed


def test_with_a_problem_there_is_no_archive(tmp_path, capsys):
    exp = experiment(tmp_path)
    out = tmp_path / "out"
    assert main(["superb-submit", "--ks", str(exp), "-o", str(out)]) == 0
    before = sorted((p.name, p.read_bytes()) for p in out.iterdir() if p.is_file())
    (exp / "predict_test/ks_public/predict.txt").write_text("bed-b.wav yess\n")
    assert main(["superb-submit", "--ks", str(exp), "-o", str(out)]) == 1
    caught = capsys.readouterr()
    assert "predict/ks_public/predict.txt:1: label 'yess'" in caught.out
    assert "was not written" in caught.err
    assert sorted((p.name, p.read_bytes()) for p in out.iterdir() if p.is_file()) == before


def test_the_lists_of_queries_and_documents_come_from_the_search(tmp_path):
    exp = tmp_path / "exp/one/predict_test"
    (exp / "qbe_public").mkdir(parents=True)
    (exp / "qbe_public/benchmark.stdlist.xml").write_text(XML)
    result = {"method": "frozen", "track": "constrained", "upstream": "tiny", "data_dir": "q", "documents_dir": "d"}
    (exp / "result.json").write_text(json.dumps(result))
    for name in ("q", "d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wav.scp").write_text(f"{name}1 x.wav\n{name}2 x.wav\n")
    path, verdict, _ = build(find_sources({"qbe": [exp.parent]}), tmp_path / "out", {})
    assert verdict.all_problems == []
    assert verdict.parts["qbe_public"].listed
    assert check_submission(path, read_lists(tmp_path / "out/lists")).all_problems == []


def test_experiments_that_cannot_be_submitted(tmp_path):
    exp = experiment(tmp_path)
    with pytest.raises(ConfigError, match="name an experiment of at least one task"):
        find_sources({"ks": []})
    with pytest.raises(DataError, match=r"--pr .*there is no predict_\*/pr_public in it"):
        find_sources({"pr": [exp]})
    with pytest.raises(DataError, match="no such folder"):
        find_sources({"ks": [tmp_path / "none"]})
    with pytest.raises(ConfigError, match="takes one experiment, found 2"):
        find_sources({"ks": [exp, exp]})
    (exp / "predict_other/ks_public").mkdir(parents=True)
    with pytest.raises(DataError, match="several sets were predicted; name one of"):
        find_sources({"ks": [exp]})
    (source,) = find_sources({"ks": [exp / "predict_test"]})
    (exp / "predict_test/result.json").write_text("{}")
    with pytest.raises(DataError, match=r"result\.json has no method, track, upstream; predict the test set again"):
        build([source], tmp_path / "out", {})
    for fold in (1, 2):
        folder = tmp_path / f"er{fold}/predict_test/er_fold{fold}_public"
        folder.mkdir(parents=True)
        (folder / "predict.txt").touch()
    with pytest.raises(DataError, match="missing: er_fold3_public, er_fold4_public, er_fold5_public"):
        find_sources({"er": [tmp_path / "er1", tmp_path / "er2"]})
    with pytest.raises(DataError, match=r"er_fold1_public is in .* and in"):
        find_sources({"er": [tmp_path / "er1", tmp_path / "er1"]})


def test_tracks():
    settings = {"batch_size": 32, "max_updates": 100, "valid_interval": 10}
    assert (
        track("frozen", {"batch_size": 32, "max_updates": 100, "valid_interval": 5, "lr": 7.0}, settings)
        == "constrained"
    )
    assert track("frozen", {"batch_size": 32, "max_updates": 99}, settings) == "less constrained"
    assert track("frozen", {"batch_size": 16, "accum_grad": 2}, {"batch_size": 32, "accum_grad": 1}) == "constrained"
    assert track("router", {}, settings) == track("weight", {}, settings) == "unconstrained"
    assert loosest(["constrained", "less constrained", "constrained"]) == "less constrained"


def test_lists_in_their_forms(tmp_path, lists):
    for folder, expected in lists.items():
        write_list(tmp_path / "lists" / f"{folder}.txt", expected)
    assert read_lists(tmp_path / "lists") == lists
    (tmp_path / "veri_test.txt").write_text("1 id1/a_b/1.wav id2/c/1.wav\n0 id1/a_b/1.wav id2/c/1.wav\n")
    assert read_list(tmp_path / "veri_test.txt", PARTS["sv_public"]).ids == ("id1-a_b-1_id2-c-1",)
    for text, message in (("", "the list is empty"), ("a\na\n", "a appears twice")):
        (tmp_path / "list").write_text(text)
        with pytest.raises(DataError, match=message):
            read_list(tmp_path / "list", PARTS["ks_public"])
    (tmp_path / "lists/other.txt").touch()
    with pytest.raises(DataError, match=r"other\.txt is not the list of any part"):
        read_lists(tmp_path / "lists")
    with pytest.raises(ConfigError, match="expected TASK=PATH"):
        given_lists(["kss=x"])


def test_a_list_with_a_byte_order_mark(tmp_path):
    (tmp_path / "list").write_text("\ufeffyes-a.wav\n", encoding="utf-8")
    assert read_list(tmp_path / "list", PARTS["ks_public"]).ids == ("yes-a.wav",)
