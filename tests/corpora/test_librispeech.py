"""The LibriSpeech recipe's preparation, on a miniature of the official folders."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from s3router.data.kaldi import DataDir
from s3router.miniatures import mini_librispeech

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "egs/librispeech/asr1/local"
EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("libri")
    mini_librispeech.librispeech(out, utterances=1)
    return out


@pytest.fixture
def corpus(mini: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(mini, tmp_path / "corpus"))


def run(folder: Path, *options: str, script: str = "data.sh") -> subprocess.CompletedProcess:
    environment = {**os.environ, "S3ROUTER_VENV": str(Path(sys.executable).parents[1])}
    command = ["bash", str(LOCAL / script), *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def ids(folder: Path) -> set[str]:
    return {utt.utt for utt in DataDir.read(folder).utts}


def test_subsets_are_the_official_folders(mini: Path, tmp_path: Path):
    finetuning = mini / "librispeech_finetuning"
    folders = {"10min": ["1h/0"], "1h": [f"1h/{i}" for i in range(6)], "10h": [*(f"1h/{i}" for i in range(6)), "9h"]}
    for subset, parts in folders.items():
        done = run(tmp_path, "--subset", subset, "--corpus", str(mini))
        assert done.returncode == 0, done.stderr
        expected = {path.stem for part in parts for path in (finetuning / part).rglob("*.flac")}
        assert ids(tmp_path / f"data/en/train_{subset}") == expected
    assert run(tmp_path, "--subset", "100h", "--corpus", str(mini / "LibriSpeech")).returncode == 0
    hundred = {path.stem for path in (mini / "LibriSpeech/train-clean-100").rglob("*.flac")}
    assert ids(tmp_path / "data/en/train_100h") == hundred
    sets = {part: {path.stem for path in (mini / "LibriSpeech" / part).rglob("*.flac")} for part in EVALUATION}
    for part, expected in sets.items():
        assert ids(tmp_path / "data/en" / part.replace("-", "_")) == expected
    assert ids(tmp_path / "data/en/dev") == sets["dev-clean"] | sets["dev-other"]
    for utt in DataDir.read(tmp_path / "data/en/train_10h").utts:
        assert set(utt.text) <= set("abcdefghijklmnopqrstuvwxyz' ")
        assert utt.speaker == utt.utt.split("-")[0]
        assert utt.duration > 0.5


def test_a_second_run_changes_nothing(mini: Path, tmp_path: Path):
    command = ("--subset", "10min", "--corpus", str(mini))
    first = run(tmp_path, *command)
    assert "dev-clean has 2 utterances, the release 2703" in first.stderr
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    again = run(tmp_path, *command)
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before


def test_more_of_a_corpus_is_prepared_again(corpus: Path, tmp_path: Path):
    """What was unpacked in part is not taken for all of it later."""
    command = ("--subset", "10min", "--corpus", str(corpus))
    part = corpus / "LibriSpeech/dev-other"
    whole = sorted(part.iterdir())
    aside = whole[0].rename(tmp_path / "aside")
    assert run(tmp_path, *command).returncode == 0
    before = ids(tmp_path / "data/en/dev_other")
    aside.rename(whole[0])
    assert run(tmp_path, *command).returncode == 0
    assert len(ids(tmp_path / "data/en/dev_other")) > len(before)


def damage(corpus: Path, what: str) -> None:
    part = corpus / "LibriSpeech/dev-other"
    flac = min(part.rglob("*.flac"))
    transcripts = min(part.rglob("*.trans.txt"))
    if what == "part":
        shutil.rmtree(part)
    elif what == "flac":
        flac.unlink()
    elif what == "text":
        transcripts.write_text("")
    elif what == "truncated":
        flac.write_bytes(flac.read_bytes()[:20])
    elif what == "librilight":
        shutil.rmtree(corpus / "librispeech_finetuning/1h")
    elif what == "empty":
        shutil.rmtree(corpus / "librispeech_finetuning/1h/0")
        (corpus / "librispeech_finetuning/1h/0").mkdir()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("part", "dev-other missing; LibriSpeech has it: unpack the archives again"),
        ("flac", "-0000.flac: missing, but"),
        ("text", "-0000.flac: no transcript for it"),
        ("truncated", "-0000.flac: damaged or truncated"),
        ("librilight", "no Libri-light subsets in"),
        ("empty", "1h/0: no recordings with transcripts"),
    ],
)
def test_what_is_wrong_is_named(corpus: Path, tmp_path: Path, what: str, message: str):
    damage(corpus, what)
    done = run(tmp_path, "--subset", "10min", "--corpus", str(corpus))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data/en/dev/wav.scp").exists()


def test_transcripts_of_what_libri_light_left_out_are_no_mistake(corpus: Path, tmp_path: Path):
    transcripts = min((corpus / "librispeech_finetuning/1h/0").rglob("*.trans.txt"))
    transcripts.write_text(transcripts.read_text() + f"{transcripts.name.split('.')[0]}-0099 NOT CHOSEN\n")
    done = run(tmp_path, "--subset", "10min", "--corpus", str(corpus))
    assert done.returncode == 0, done.stderr
    assert len(ids(tmp_path / "data/en/train_10min")) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subset", "2h"], "--subset is 10min, 1h, 10h or 100h, not '2h'"),
        (["--subset", "1h", "--lang", "fr"], "LibriSpeech is English, not 'fr'"),
        (["--subset", "1h", "--corpsu", "x"], "unknown option --corpsu"),
        (["--subset"], "--subset needs a value"),
        (["--subset", "1h", "--corpus", "."], "not LibriSpeech (there: nothing); expected dev-clean, dev-other"),
        (["--subset", "1h", "--corpus", "none"], "none: no such folder; name the one that holds LibriSpeech"),
    ],
)
def test_refused(tmp_path: Path, options: list[str], message: str):
    done = run(tmp_path, *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mirror(mini: Path, tmp_path: Path) -> list[str]:
    """A web site in a folder, with the archives and their checksums: the options that name them."""
    site = tmp_path / "site"
    (site / "12").mkdir(parents=True)
    lines = []
    archives = [(site / f"12/{part}.tar.gz", f"LibriSpeech/{part}") for part in EVALUATION]
    for archive, folder in [*archives, (site / "librispeech_finetuning.tgz", "librispeech_finetuning")]:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(mini / folder, folder)
        lines.append(f"sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()} {archive.name}\n")
    (site / "sums.txt").write_text("".join(lines))
    urls = ["--openslr", site.as_uri(), "--librilight-url", f"{site.as_uri()}/librispeech_finetuning.tgz"]
    return ["--subset", "1h", *urls, "--checksums", str(site / "sums.txt")]


def test_checksums_are_those_that_torchaudio_publishes():
    from torchaudio.datasets import librilight_limited, librispeech

    lines = (LOCAL / "checksums.txt").read_text().splitlines()
    ours = {name: sum_ for kind, sum_, name in map(str.split, lines) if kind == "sha256"}
    published = {url.rsplit("/", 1)[1]: sum_ for url, sum_ in librispeech._CHECKSUMS.items()}
    published["librispeech_finetuning.tgz"] = librilight_limited._CHECKSUM
    assert ours == {name: published[name] for name in ours}
    assert len(ours) == 6


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="wget reads no file:// addresses")


@needs_curl
def test_download_resumes_checks_and_unpacks(mirror: list[str], tmp_path: Path):
    downloads, site = tmp_path / "downloads", tmp_path / "site"
    downloads.mkdir()
    begun = (site / "12/dev-clean.tar.gz").read_bytes()[:1000]  # an interrupted download, and one that was whole
    (downloads / "dev-clean.tar.gz.part").write_bytes(begun)
    shutil.copy(site / "12/dev-other.tar.gz", downloads / "dev-other.tar.gz.part")
    shutil.copy(site / "12/test-clean.tar.gz", downloads / "test-clean.tar.gz")  # put there by hand
    done = run(tmp_path, *mirror)
    assert done.returncode == 0, done.stderr
    assert len(ids(tmp_path / "data/en/train_1h")) == 24
    assert not list(downloads.glob("*.part")) + list(downloads.glob(".unpack*"))
    shutil.rmtree(site)  # nothing is fetched twice
    assert run(tmp_path, *mirror).returncode == 0


@needs_curl
def test_a_damaged_download_is_removed(mirror: list[str], tmp_path: Path):
    archive = tmp_path / "site/12/dev-clean.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = run(tmp_path, *mirror)
    assert done.returncode == 1
    assert "dev-clean.tar.gz was damaged" in done.stderr
    assert not list((tmp_path / "downloads").glob("dev-clean*"))
    archive.write_bytes(whole)
    assert run(tmp_path, *mirror).returncode == 0


@needs_curl
def test_a_download_that_cannot_be_is_explained(mirror: list[str], tmp_path: Path):
    (tmp_path / "site/12/dev-clean.tar.gz").unlink()
    done = run(tmp_path, *mirror)
    assert done.returncode == 1
    assert "Put dev-clean.tar.gz into downloads and run again" in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_language_model_is_made_ready(mini: Path, tmp_path: Path):
    from s3router.asr.lm import arpa_vocabulary

    done = run(tmp_path, "--arpa-gz", str(mini / "LM/4-gram.arpa.gz"), script="lm.sh")
    assert done.returncode == 0, done.stderr
    words = arpa_vocabulary(tmp_path / "downloads/4-gram.arpa")
    assert {"<s>", "</s>", "<unk>", "apples", "doesn't"} <= words
    assert not any(word.isupper() for word in words)
    assert "downloads/4-gram.arpa is ready" in done.stdout
    cut = tmp_path / "cut.arpa.gz"
    cut.write_bytes((mini / "LM/4-gram.arpa.gz").read_bytes()[:500])
    done = run(tmp_path, "--arpa-gz", str(cut), "--downloads", "elsewhere", script="lm.sh")
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert not (tmp_path / "elsewhere/4-gram.arpa").exists()
