"""Language identification by a classifier on the first layers of the bare backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router.cli import main
from s3router.data.recordings import find_recordings
from s3router.errors import ConfigError, DataError, PackError

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"
AUDIO = sorted((FIVE / "audio").iterdir())
RATE = 16000

pytestmark = pytest.mark.usefixtures("upstream_in_place")


KINDS = {  # "language" -> a recording of so many samples
    "it": lambda count, generator: np.sin(2 * np.pi * generator.uniform(100, 120) / RATE * np.arange(count)),
    "ru": lambda count, generator: generator.standard_normal(count),
    "es": lambda count, generator: (np.arange(count) % 3000 < 5) * generator.uniform(0.9, 1.1, count),
}


def record(folder: Path, lang: str, count: int, seed: int) -> Path:
    """Recordings of different lengths that a random model can tell apart: a hum, noise, clicks."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        wave = KINDS[lang](RATE // 2 + 800 * number, generator)
        soundfile.write(folder / f"{number}.wav", 0.1 * wave / np.abs(wave).max(), RATE)
    return folder


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> dict[str, Path]:
    """Route -> folder of four recordings. They train and test: a random model need not tell others apart."""
    root = tmp_path_factory.mktemp("spoken")
    return {lang: record(root / lang, lang, 4, seed) for seed, lang in enumerate(KINDS)}


def named(sets: dict[str, Path]) -> list[str]:
    return [f"{lang}={folder}" for lang, folder in sets.items()]


@pytest.fixture(scope="module")
def classifier(spoken, tmp_path_factory, small_upstream) -> Path:
    """A classifier of three of the routes, fitted by the command."""
    path = tmp_path_factory.mktemp("langid") / "langid.pack"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("S3ROUTER_TINY", str(small_upstream))
        options = ["--fit", *named(spoken), "--dev", *named(spoken), "-o", str(path)]
        assert main(["langid", "--upstream", "tiny", *options]) == 0
    return path


def routes(route_packs, *names: str) -> list[str]:
    return [str(path) for path in route_packs if path.stem in names]


def test_fitted_and_tested(classifier, spoken, capsys, tmp_path):
    output = tmp_path / "langid.json"
    options = ["--langid", str(classifier), "--test", *named(spoken), "--output", str(output)]
    assert main(["langid", *options]) == 0  # the backbone is the one that the file names
    out = capsys.readouterr().out
    found = json.loads(output.read_text())["classifier"]
    assert found["accuracy"] == 1.0
    assert all(sum(row.values()) == 4 for row in found["counts"].values())
    layers = found["training"]["layers_of_backbone"]
    assert found["passes_by_layers"] == 1 + found["layers"] / layers
    assert f"{found['passes_by_layers']:.2f} passes through the transformer" in out
    assert main(["langid", *options, "--among", "it", "ru"]) == 1
    assert "test sets of es, which is not among the languages it, ru" in capsys.readouterr().err


def test_transcribes_as_the_chosen_route_does(classifier, spoken, route_packs, capsys):
    packs = routes(route_packs, "it", "ru", "es")
    inputs = [str(spoken[lang]) for lang in ("it", "es", "ru")]
    options = ["--routes", *packs, "--lang", "auto", "--langid", str(classifier), "--json", "--batch-seconds", "1.5"]
    assert main(["transcribe", *inputs, *options]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["lang"] for line in found] == ["it"] * 4 + ["es"] * 4 + ["ru"] * 4
    for line in found:
        assert set(line["scores"]) == {"it", "ru", "es"}
        assert next(iter(line["scores"])) == line["lang"]
        assert sum(np.exp(value) for value in line["scores"].values()) == pytest.approx(1, abs=1e-3)
    for lang, folder in spoken.items():
        assert main(["transcribe", str(folder), "--routes", *packs, "--lang", lang, "--json"]) == 0
        alone = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["text"] for line in alone] == [line["text"] for line in found if line["lang"] == lang]


def test_only_among_the_candidates(classifier, spoken, route_packs, capsys):
    packs = ["--routes", *routes(route_packs, "it", "ru", "es", "fr.CA")]
    inputs = [str(spoken["it"])]
    auto = ["--lang", "auto", "--langid", str(classifier)]
    assert main(["transcribe", *inputs, *packs, *auto]) == 1
    err = capsys.readouterr().err
    assert "does not know fr.CA (known: it, ru, es); fit it with data of them" in err
    assert main(["transcribe", *inputs, *packs, *auto, "--among", "ru", "es"]) == 0
    assert {line.split("\t")[1] for line in capsys.readouterr().out.splitlines()} <= {"ru", "es"}
    assert main(["transcribe", *inputs, *packs, *auto, "--among", "fr.CA"]) == 0  # one candidate is no question
    assert main(["transcribe", *inputs, *packs, "--lang", "it", "--langid", str(classifier)]) == 1
    assert "--langid finds the language of --lang auto" in capsys.readouterr().err


def test_bad_and_silent_recordings(classifier, route_packs, capsys, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "b.wav", np.zeros(300), RATE)
    (tmp_path / "c.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "d.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    shutil.copy(AUDIO[0], tmp_path / "e.flac")
    options = ["--routes", *routes(route_packs, "it", "ru"), "--lang", "auto", "--langid", str(classifier)]
    assert main(["transcribe", str(tmp_path), *options]) == 1
    assert capsys.readouterr().out == ""
    assert main(["transcribe", str(tmp_path), *options, "--skip-bad"]) == 1
    out, err = capsys.readouterr()
    assert [Path(line.split("\t")[0]).name for line in out.splitlines()] == ["a.wav", "e.flac"]
    assert err.count("left out: ") == 3


def test_long_recordings_are_known_by_their_beginning(spoken):
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.serving.language_classifier import pooled, pooled_recordings
    from s3router.upstreams.hub import build

    upstream, recordings = build(), find_recordings([spoken["ru"]])
    options = BatchOptions(max_seconds=0.3, overlap_seconds=0.1)
    for indices, features in pooled_recordings(upstream, recordings, 1, options):
        for index, found in zip(indices, features, strict=True):
            wave = soundfile.read(recordings[index].source, dtype="float32")[0]
            np.testing.assert_allclose(found, pooled(upstream, [wave[: round(0.3 * RATE)]], 1)[0], atol=1e-4)


def test_what_cannot_be_fitted(spoken, tmp_path, capsys):
    train, dev, output = named(spoken), named(spoken), ["-o", str(tmp_path / "x.pack")]
    start = ["langid", "--upstream", "tiny", *output]
    assert main([*start, "--fit", train[0], "--dev", dev[0]]) == 1
    assert "needs two languages at least, found it" in capsys.readouterr().err
    assert main([*start, "--fit", *train, "--dev", *dev[:2]]) == 1
    assert "--fit and --dev must name the same languages; only one of them has es" in capsys.readouterr().err
    assert main([*start, "--fit", *train]) == 1
    assert "needs --dev" in capsys.readouterr().err
    assert main([*start, "--fit", *train, "--dev", *dev, "--layers", "99"]) == 1
    assert "the first 99 layers" in capsys.readouterr().err
    assert main(["langid", *output, "--fit", *train, "--dev", *dev]) == 1
    assert "name the backbone with --upstream" in capsys.readouterr().err
    assert not (tmp_path / "x.pack").exists()


def test_no_recordings(tmp_path):
    from s3router.serving.langid_fit import fit

    with pytest.raises(DataError, match="no recordings of es"):
        fit(None, {"it": find_recordings([FIVE]), "es": []}, {"it": [], "es": []}, ("tiny", None))
    with pytest.raises(ConfigError, match="two languages"):
        fit(None, {}, {}, ("tiny", None))


def test_two_languages_give_probabilities(spoken):
    from s3router.serving.langid_fit import fit
    from s3router.serving.language_classifier import pooled
    from s3router.upstreams.hub import build

    upstream = build()
    sets = {lang: find_recordings([spoken[lang]]) for lang in ("it", "ru")}
    fitted = fit(upstream, sets, sets, ("tiny", None), layers=[1])
    wave = soundfile.read(spoken["ru"] / "0.wav", dtype="float32")[0]
    [found] = fitted.log_probs(pooled(upstream, [wave], 1)[:, 0])
    assert list(found) == ["ru", "it"]
    assert np.exp(list(found.values())).sum() == pytest.approx(1)


def test_a_pack_of_another_kind_or_backbone(classifier, spoken, route_packs, capsys, tmp_path, monkeypatch):
    pack = routes(route_packs, "it")[0]
    test = ["--test", *named(spoken)]
    assert main(["langid", "--langid", pack, *test]) == 1
    assert "a mask pack, but not a language classifier" in capsys.readouterr().err
    assert main(["transcribe", str(AUDIO[0]), "--routes", str(classifier)]) == 1
    assert "a language classifier, but not a mask pack" in capsys.readouterr().err
    monkeypatch.delenv("S3ROUTER_TINY")  # the tiny that is shipped is another model
    assert main(["langid", "--langid", str(classifier), *test]) == 1
    assert "the language classifier is for another backbone (tiny" in capsys.readouterr().err


def test_damaged_files_are_refused(classifier, tmp_path):
    from dataclasses import replace

    from s3router.serving.language_classifier import LanguageClassifier
    from s3router.upstreams.hub import build

    fitted = LanguageClassifier.load(classifier)
    upstream = build(upstream="tiny").eval()
    narrow = {name: getattr(fitted, name)[..., :10] for name in ("mean", "scale", "weight")}
    for changed in (replace(fitted, **narrow), replace(fitted, layers=99)):
        with pytest.raises(PackError, match=r"is for (\d+) layers of width (\d+), the backbone has"):
            changed.check_backbone(upstream)
    assert fitted.training["recordings"] == {"it": 4, "ru": 4, "es": 4}
    content = bytearray(classifier.read_bytes())
    content[-5] ^= 1
    (tmp_path / "flipped.pack").write_bytes(content)
    broken = {
        "flipped": "does not give its checksum|damaged",
        "nan": "not all finite",
        "zero": "divide by 0",
        "shape": "not those of a classifier of 3 languages",
        "one": "its description is damaged",
    }
    replace(fitted, bias=fitted.bias * np.nan).save(tmp_path / "nan.pack")
    replace(fitted, scale=fitted.scale * 0).save(tmp_path / "zero.pack")
    replace(fitted, weight=fitted.weight[:, :-1]).save(tmp_path / "shape.pack")
    replace(fitted, languages=("it",)).save(tmp_path / "one.pack")
    for name, message in broken.items():
        with pytest.raises(PackError, match=message):
            LanguageClassifier.load(tmp_path / f"{name}.pack")


def test_inspect_tells_of_it_and_leaves_it_out_of_tables(classifier, route_packs, capsys):
    (pack,) = routes(route_packs, "it")
    assert main(["inspect", pack, str(classifier)]) == 0
    page = capsys.readouterr().out
    assert f"{classifier}: a language classifier" in page
    assert "languages    3: " in page
    assert "route it, mask pack" in page
    assert main(["inspect", "--json", str(classifier), pack]) == 0
    told, of_pack = json.loads(capsys.readouterr().out)
    assert told["kind"] == "a language classifier"
    assert told["bytes"] == classifier.stat().st_size
    assert told["training"]["dev_accuracy_by_layer"]
    assert of_pack["route"] == "it"
    assert main(["inspect", "--table", pack, str(classifier)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "a language classifier, no mask pack; it has no row" in err
