"""Transcription by packs: the commands, and how a language is found."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from s3router.cli import main, route_options
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError
from s3router.serving.opening import KINDS

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
        (["--lang", "es", "--device", "gpu"], "--device gpu: no such device; known: cpu, cuda"),
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
    status, _, err = run(capsys, "--routes", *packs, "--score", *sets, "--output-dir", out, "--json", "--best", "3")
    assert status == 1
    assert "--best, --json: for recordings, not for --score" in err


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

    model = SimpleNamespace(text_head=lambda route: None, routes=("es",), receptive_field=400)
    lengths = {"a": 2.0, "b": 0.01, "c": 0.02}
    utts = [Utterance(f"{name}.wav", f"{name}.wav", duration=seconds) for name, seconds in lengths.items()]
    with pytest.raises(DataError, match=r"2 problems:\n  b\.wav: 10 ms, shorter than the 25 ms.*\n  c\.wav: 20 ms"):
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


def odd_files(folder: Path) -> dict[str, Path]:
    """Recordings with names, and one with contents, that tables and commands stumble over."""
    names = {"dash": "-dash.flac", "tab": "a\tb.flac", "line": "a\nb.flac", "back": "a\\b\tc.flac", "blank": "a b.flac"}
    return {key: Path(shutil.copy(AUDIO[0], folder / name)) for key, name in names.items()}


def test_what_follows_two_dashes_is_a_recording(packs, expected, capsys, tmp_path, monkeypatch):
    odd_files(tmp_path)
    route = packs[2]
    monkeypatch.chdir(tmp_path)
    status, lines, err = run(capsys, "--routes", route, "--", "-dash.flac")
    assert (status, lines) == (0, [f"-dash.flac\t{expected['it'][AUDIO[0].stem]}"]), err


def test_routes_do_not_swallow_recordings(packs, expected, capsys, tmp_path):
    text = expected["it"][AUDIO[0].stem]
    status, lines, _ = run(capsys, "--routes", packs[2], AUDIO[0])
    assert (status, lines) == (0, [f"{AUDIO[0]}\t{text}"])
    renamed = shutil.copy(packs[2], tmp_path / "it.model")  # a pack is known by its content
    status, lines, _ = run(capsys, "--routes", renamed, AUDIO[0])
    assert (status, lines) == (0, [f"{AUDIO[0]}\t{text}"])
    status, _, err = run(capsys, "--routes", AUDIO[0])
    assert (status, f"--routes {AUDIO[0]}: neither a mask pack" in err) == (1, True)
    status, _, err = run(capsys, AUDIO[0], "--routes", tmp_path / "none.pack")
    assert (status, "none.pack" in err) == (1, True)


def test_names_cannot_break_the_table(packs, expected, capsys, tmp_path):
    files = odd_files(tmp_path)
    text = expected["it"][AUDIO[0].stem]
    status, lines, _ = run(capsys, files["tab"], files["line"], files["back"], "--routes", packs[2])
    assert status == 0
    names = [r"a\tb.flac", r"a\nb.flac", r"a\\b\tc.flac"]
    assert lines == [f"{tmp_path}/{name}\t{text}" for name in names]
    status, lines, err = run(capsys, files["blank"], "--routes", packs[2], "--kaldi")
    assert (status, lines) == (1, [])
    assert "cannot be an id" in err
    status, lines, _ = run(capsys, files["blank"], "--routes", packs[2])
    assert (status, lines) == (0, [f"{files['blank']}\t{text}"])


def test_bad_recordings_can_be_left_out(packs, expected, capsys, tmp_path):
    import numpy as np
    import soundfile

    folder = tmp_path / "mixed"
    folder.mkdir()
    good = [Path(shutil.copy(AUDIO[k], folder / f"{k}.flac")) for k in (0, 1)]
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "short.wav", np.zeros(300, np.float32), 16000)
    (folder / "broken.wav").write_bytes(b"no audio")
    assert run(capsys, folder, "--routes", packs[2])[0] == 1
    status, lines, err = run(capsys, folder, "--routes", packs[2], "--skip-bad")
    assert status == 1
    assert lines == [f"{path}\t{expected['it'][AUDIO[int(path.stem)].stem]}" for path in good]
    reported = [line for line in err.splitlines() if line.startswith("left out: ")]
    assert len(reported) == 3
    for name in ("nan", "short", "broken"):
        assert sum(f"{name}.wav" in line for line in reported) == 1
    status, lines, err = run(capsys, *good, "--routes", packs[2], "--skip-bad")
    assert (status, len(lines), err) == (0, 2, "")


def with_metrics(path: str, **metrics: float) -> None:
    """Write metrics on the development set into a pack."""
    import dataclasses

    from s3router.packs import read_pack, write_pack

    pack = read_pack(path)
    write_pack(path, dataclasses.replace(pack, meta=dataclasses.replace(pack.meta, metrics={"dev": metrics})))


def test_a_route_that_is_mostly_wrong_is_guessed_last(packs, expected, capsys):
    writing = [path for path in packs if any(expected[Path(path).stem].values())]
    surest = json.loads(run(capsys, AUDIO[0], "--routes", *writing, "--lang", "auto", "--json")[1][0])["lang"]
    for path in writing:
        with_metrics(path, cer=0.8 if Path(path).stem == surest else 0.3)
    status, [line], err = run(capsys, AUDIO[0], "--routes", *writing, "--lang", "auto", "--json")
    scores = json.loads(line)["scores"]
    heard = [route for route, score in scores.items() if score is not None]
    assert (status, heard[-1]) == (0, surest)
    assert f"route {surest} has 80 % errors on its development set, and is taken only where" in err
    assert "their error rates are used instead" in err
    own = next(path for path in writing if Path(path).stem == surest)
    _, _, err = run(capsys, AUDIO[0], "--routes", own)  # where it is asked for, too
    assert err == f"warning: route {surest} has 80 % errors on its development set; train it longer\n"
    for path in writing:  # the smaller error rates count
        with_metrics(path, cer=0.0 if Path(path).stem == heard[0] else 0.59)
    first = json.loads(run(capsys, AUDIO[0], "--routes", *writing, "--lang", "auto", "--json")[1][0])["scores"]
    assert first[surest] == pytest.approx(scores[surest] + math.log(0.41) - math.log(0.2), abs=1e-3)


def test_langid_writes_what_it_measured_without_a_test_set(packs, expected, capsys, tmp_path):
    route = next(route for route, texts in expected.items() if any(texts.values()))
    path = next(path for path in packs if Path(path).stem == route)
    output = tmp_path / "usual.json"
    assert main(["langid", "--routes", path, "--dev", f"{route}={FIVE}", "--output", str(output)]) == 0
    found = json.loads(output.read_text())["usual_confidence"]
    assert capsys.readouterr().out == f"{route}: usual confidence {found[route]:.3f} (5 recordings)\n"


def test_transcribing_and_classifying_import_neither_engine(packs):
    import subprocess
    import sys

    code = "import sys; from s3router import cli; import importlib, pkgutil, s3router.serving as rooms"
    code += "; [importlib.import_module(f'{rooms.__name__}.{m.name}') for m in pkgutil.iter_modules(rooms.__path__)]"
    code += f"; status = cli.main(['transcribe', {str(AUDIO[0])!r}, '--routes', {packs[2]!r}])"
    code += "; sys.exit(status or bool({name.split('.')[0] for name in sys.modules} & {'espnet2', 's3prl'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_decoding_the_validation_set_measures_what_langid_would(route_experiments, capsys, tmp_path):
    """So that packs of the recipe's models carry their usual confidence."""
    from s3router.packs import read_pack
    from s3router.serving.langid import usual_confidence
    from s3router.serving.loading import load_routes

    exp = shutil.copytree(route_experiments["it"], tmp_path / "it", symlinks=True)
    decode = ["decode", "--exp-dir", str(exp), "--data-dir", str(FIVE), "--output-dir", str(exp / "decode_five")]
    assert main(decode) == 0
    assert main(["pack", str(exp), "-o", str(tmp_path / "it.pack")]) == 0
    pack = read_pack(tmp_path / "it.pack")
    assert pack.meta.training["valid_set"] == "five"
    model = load_routes([tmp_path / "it.pack"])
    from s3router.data.recordings import find_recordings

    measured = usual_confidence(model, "it", find_recordings([FIVE]))
    assert pack.meta.metrics["five"]["confidence"] == pytest.approx(measured, abs=1e-4)
    assert model.ctc_head("it").usual_confidence == pack.meta.metrics["five"]["confidence"]
    folders = [str(exp), str(route_experiments["ru"])]  # experiments serve, too
    capsys.readouterr()
    status, lines, _ = run(capsys, AUDIO[0], "--routes", *folders, "--lang", "it")
    assert (status, lines) == (
        0,
        [f"{AUDIO[0]}\t{(exp / 'decode_five' / 'text').read_text().splitlines()[0].partition(' ')[2]}"],
    )
    assert main(["langid", "--routes", *folders, "--dev", f"it={FIVE}", "--store"]) == 1
    assert "--store writes into packs" in capsys.readouterr().err


def test_experiments_of_every_kind_are_routes(tmp_path):
    for kind in KINDS:
        exp = tmp_path / kind.__name__
        exp.mkdir()
        (exp / kind.CONFIG).touch()
        assert kind.is_in(exp)
        parser = argparse.ArgumentParser()
        route_options.add_inputs(parser)
        route_options.add_model(parser)
        args = route_options.parse(parser, ["--routes", str(exp), "a.wav"])
        assert (args.routes, args.inputs) == ([exp], ["a.wav"])
