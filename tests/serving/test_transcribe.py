"""Transcription by packs: the commands, and how a language is found."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from s3router.cli import main
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"
AUDIO = sorted((FIVE / "audio").iterdir())

pytestmark = pytest.mark.usefixtures("upstream_in_place")


@pytest.fixture(scope="module")
def expected(route_experiments) -> dict[str, dict[str, str]]:
    """Route -> id -> text, as the trained model itself decodes."""
    from s3router.asr.ctc_decode import BatchOptions, GreedySearch
    from s3router.asr.decode import decode
    from s3router.asr.experiment import ASRExperiment

    found = {}
    for route, folder in route_experiments.items():
        exp = ASRExperiment(folder)
        texts = decode(exp.model(), exp.tokens, DataDir.read(FIVE), GreedySearch(), BatchOptions(batch_seconds=0))
        found[route] = texts.texts
    assert len({tuple(texts.values()) for texts in found.values()}) > 1
    return found


@pytest.fixture
def packs(route_packs, tmp_path) -> list[str]:
    """Copies, which a test may change."""
    return [str(shutil.copy(path, tmp_path)) for path in route_packs]


def run(capsys, *arguments) -> tuple[int, list[str], str]:
    capsys.readouterr()
    status = main(["transcribe", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


def test_given_languages(packs, expected, capsys):
    for route in ("it", "fr.CA"):
        status, lines, _ = run(capsys, FIVE, "--routes", *packs, "--lang", route, "--kaldi")
        assert status == 0
        assert lines == [f"{utt} {text}".rstrip() for utt, text in expected[route].items()]
    status, lines, _ = run(capsys, "--routes", *packs, "--lang", "it", "--backbone", "tiny", "--", AUDIO[3], AUDIO[1])
    assert lines == [f"{path}\t{expected['it'][path.stem]}" for path in (AUDIO[3], AUDIO[1])]
    status, lines, _ = run(capsys, AUDIO[0], "--routes", packs[2])  # a single pack needs no --lang
    assert lines == [f"{AUDIO[0]}\t{expected['it'][AUDIO[0].stem]}"]


def test_json_and_output_file(packs, expected, capsys, tmp_path):
    output = tmp_path / "out" / "texts.json"
    options = ("--routes", *packs, "--lang", "auto", "--json", "--output", output)
    status, lines, err = run(capsys, FIVE / "audio", *options)
    assert (status, lines) == (0, [])
    assert "warning: not all packs say how sure" in err
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [Path(item["id"]) for item in found] == AUDIO
    for item in found:
        assert item["text"] == expected[item["lang"]][Path(item["source"]).stem]
        scores = [-math.inf if value is None else value for value in item["scores"].values()]
        assert set(item["scores"]) == {"es", "fr.CA", "it", "ru"}
        assert scores == sorted(scores, reverse=True)
        assert next(iter(item["scores"])) == item["lang"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lang", "frCA"], "unknown route 'frCA'; did you mean fr.CA? known: es, fr.CA, it, ru"),
        (["--lang", ""], "unknown route ''"),
        ([], "--lang is missing; known: es, fr.CA, it, ru, or auto"),
        (["--lang", "es", "--among", "it"], "--among names the candidates"),
        (["--lang", "auto", "--among", "it", "xx"], "unknown route 'xx'"),
        (["--lang", "es", "--score", "es=x"], "name recordings to transcribe, or --score"),
        (["--lang", "es", "--max-seconds", "0"], "max seconds"),
    ],
)
def test_wrong_options(packs, capsys, options, message, tmp_path):
    status, lines, err = run(capsys, AUDIO[0], "--output", tmp_path / "out.txt", "--routes", *packs, *options)
    assert (status, lines) == (1, [])
    assert message in err
    assert not (tmp_path / "out.txt").exists()


def test_wrong_files(packs, capsys, tmp_path):
    _, lines, err = run(capsys, tmp_path / "none.wav", "--routes", *packs, "--lang", "es")
    assert "none.wav: no such file" in err
    assert lines == []
    assert run(capsys, AUDIO[0], "--routes", packs[0], packs[0])[2].count("is there already") == 1
    Path(packs[1]).write_bytes(b"no pack")
    assert "fr.CA.pack" in run(capsys, AUDIO[0], "--routes", *packs, "--lang", "es")[2]


def test_scored_data_directories(packs, expected, capsys, tmp_path):
    out = tmp_path / "routed"
    sets = [f"it={FIVE}", f"ru={FIVE}"]
    status, lines, _ = run(capsys, "--routes", *packs, "--score", *sets, "--output-dir", out)
    assert status == 0
    assert [line.split(":")[0] for line in lines] == ["it", "ru"]
    for route in ("it", "ru"):
        assert json.loads((out / f"decode_{route}" / "result.json").read_text())["n_utts"] == 5
        text = dict(line.partition(" ")[::2] for line in (out / f"decode_{route}" / "text").read_text().splitlines())
        assert text == expected[route]
    assert "needs --output-dir" in run(capsys, "--routes", *packs, "--score", *sets)[2]


def test_long_recordings_go_in_chunks(packs, capsys):
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.data.recordings import find_recordings
    from s3router.serving.loading import load_routes
    from s3router.serving.transcribe import transcribe

    model, recordings = load_routes(packs), find_recordings([FIVE])
    whole = dict(transcribe(model, recordings, ["it", "ru"]))
    options = BatchOptions(max_seconds=0.8, overlap_seconds=0.2)
    parts = dict(transcribe(model, recordings, ["it", "ru"], options))
    assert whole.keys() == parts.keys() == set(range(5))
    for index, found in parts.items():
        assert found.scores.keys() == whole[index].scores.keys()
    with pytest.raises(ConfigError, match="no route to transcribe by"):
        next(transcribe(model, recordings, []))


def test_recordings_that_are_too_short_are_named_before_anything_is_decoded():
    from s3router.data.kaldi import Utterance
    from s3router.serving.transcribe import hear

    model = SimpleNamespace(ctc_head=lambda route: None, routes=("es",), receptive_field=400)
    lengths = {"a": 2.0, "b": 0.01, "c": 0.02}
    utts = [Utterance(f"{name}.wav", f"{name}.wav", duration=seconds) for name, seconds in lengths.items()]
    with pytest.raises(DataError, match=r"2 problems:\n  b\.wav: 10 ms, shorter than 25 ms.*\n  c\.wav: 20 ms"):
        next(hear(model, utts, ["es"]))


def test_confidence_is_of_the_best_path_per_token():
    from s3router.asr.ctc_decode import best_path, best_tokens
    from s3router.serving.transcribe import Hypothesis, Ranking

    ids, values = torch.tensor([0, 3, 3, 0, 3, 5, 0]), torch.tensor([-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7])
    log_probs = torch.full((7, 6), -9.0).scatter(1, ids[:, None], values[:, None])
    found = Hypothesis(*best_path(best_tokens(log_probs)))
    assert found.tokens == [3, 3, 5]
    assert found.confidence == pytest.approx(-2.8 / 3)
    nothing = Hypothesis(*best_path(torch.stack((torch.zeros(4), torch.full((4,), -0.01)), -1)))
    assert nothing.confidence == -math.inf
    assert list(Ranking().scores({"a": nothing, "b": found})) == ["b", "a"]
    other = Hypothesis([3, 3, 5], found.confidence - 0.1)
    assert list(Ranking().scores({"a": found, "b": other})) == ["a", "b"]
    assert list(Ranking({"a": -0.5, "b": -1.0}).scores({"a": found, "b": other})) == ["b", "a"]
    weak = Ranking(weak={"a": 0.8})
    assert list(weak.scores({"a": found, "b": other})) == ["b", "a"]
    assert list(weak.scores({"a": found, "b": nothing})) == ["a", "b"]  # better than a route that heard nothing


def test_language_identification(packs, expected, capsys, tmp_path):
    dev = [f"{route}={FIVE}" for route in ("es", "fr.CA", "it", "ru")]
    assert main(["langid", "--routes", *packs, "--test", dev[0]]) == 1
    assert "usual confidence of es, fr.CA, it, ru is not known" in capsys.readouterr().err
    assert main(["langid", "--routes", *packs]) == 1
    writing = [route for route, texts in expected.items() if any(texts.values())]
    kept = [path for path in packs if Path(path).stem in writing]
    sets = [f"{route}={FIVE}" for route in sorted(writing)]
    assert len(writing) >= 2
    output = tmp_path / "langid.json"
    assert main(["langid", "--routes", *kept, "--dev", *sets, "--store"]) == 0
    assert capsys.readouterr().out.count("stored in") == len(writing)
    assert main(["langid", "--routes", *kept, "--test", *sets[:2], "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert f"{len(writing)} passes through the transformer" in out
    found = json.loads(output.read_text())
    assert found["usual_confidence"].keys() == set(writing)
    for counts in found["counts"].values():
        assert all(sum(row.values()) == 5 for row in counts.values())
        # the two sets hold the same audio: each utterance is guessed the same in both, so half of the guesses
        # at most can be right
        first, second = counts.values()
        assert first == second
    assert found["accuracy"]["compared with usual"] <= 0.5
    status, lines, err = run(capsys, AUDIO[0], "--routes", *kept, "--lang", "auto", "--json")
    assert (status, err) == (0, "")
    [line] = [json.loads(line) for line in lines]
    assert line["scores"].keys() == set(writing)


def test_a_route_that_hears_nothing_has_no_usual_confidence(packs):
    from s3router.data.recordings import find_recordings
    from s3router.serving.langid import usual_confidence
    from s3router.serving.loading import load_routes

    model = load_routes(packs)
    with torch.no_grad():
        model.head("it").bias[0] = 1e4  # blanks only
    with pytest.raises(DataError, match="it: writes nothing"):
        usual_confidence(model, "it", find_recordings([FIVE]))
