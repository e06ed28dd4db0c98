"""Bad input to every command: status 1, one clear message that names the place, and nothing half-written.

All run in this process. What a command does with good input is tested elsewhere.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router import cli
from s3router.cli.prepare import CORPORA
from s3router.data.audio import write_audio
from s3router.data.kaldi import DataDir
from s3router.data.tokens import build_token_list, write_token_list

ROOT = Path(__file__).parents[1]
FIRST = "it_carlo-dictate_forhelp"  # of the five utterances of the fixture
NOISE = np.random.default_rng(0).uniform(-0.1, 0.1, 16000).astype(np.float32)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good data directory ``five``, in which the commands run; relative paths start in it."""
    monkeypatch.chdir(ROOT)
    data = DataDir.read(ROOT / "tests/fixtures/five")
    DataDir(data.path, [replace(u, source=str(ROOT / u.source)) for u in data.utts]).write(tmp_path / "five")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refuse(place: Path, capsys: pytest.CaptureFixture):
    """refuse(command line, *parts of the message, status=1): run it, and check that it is refused as it should be."""

    def run(line: str, *parts: str, status: int = 1) -> str:
        before = files_of(place)
        try:
            found = cli.main(line.split())
        except SystemExit as ended:  # argparse
            found = ended.code
        captured = capsys.readouterr()
        assert found == status, captured
        assert "Traceback" not in captured.err
        errors = [text for text in captured.err.splitlines() if text.startswith("s3router") and "error: " in text]
        assert len(errors) <= 1, captured.err
        if line.split()[0] != "validate":  # which lists what it has found
            assert len(errors) == 1, captured.err
        for part in parts:
            assert part in captured.err
        new = {
            path for path in files_of(place) - before if not path.startswith("out/wav/")
        }  # these are whole, and reused
        assert not {path for path in new if not path.endswith(".log")}, new
        return captured.err

    return run


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


# --- broken data directories: name -> (what is done to the copy, parts of the message, whether it lies in the audio)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(five: Path) -> None:
        content = (five / name).read_text(encoding="utf-8")
        assert old in content
        (five / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return change


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content
    return lambda five: (five / name).write_bytes(data) and None


def first_is(source: str, make: Callable[[Path], None] = lambda path: None) -> Callable[[Path], None]:
    """The first recording becomes ``source``, relative to the place; ``make`` writes it."""

    def change(five: Path) -> None:
        make(five.parent / source)
        lines = (five / "wav.scp").read_text(encoding="utf-8").splitlines()
        lines[0] = f"{FIRST} {source}"
        (five / "wav.scp").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (five / "utt2dur").unlink()

    return change


def cut(path: Path) -> None:
    write_audio(path, NOISE, 16000)
    path.write_bytes(path.read_bytes()[:9000])


def floats(value: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        samples = NOISE.copy()
        samples[77] = value
        soundfile.write(path, samples, 16000, subtype="FLOAT")

    return make


def segments(line: str) -> Callable[[Path], None]:
    def change(five: Path) -> None:
        (five / "segments").write_text(f"{line}\n")
        (five / "text").write_text("s ciao\n")
        for name in ("utt2spk", "utt2dur"):
            (five / name).unlink()

    return change


def swap_lines(name: str) -> Callable[[Path], None]:
    def change(five: Path) -> None:
        lines = (five / name).read_text(encoding="utf-8").splitlines()
        (five / name).write_text("".join(f"{line}\n" for line in [lines[1], lines[0], *lines[2:]]), encoding="utf-8")

    return change


def empty_folder(five: Path) -> None:
    for path in five.iterdir():
        path.unlink()


FILES = {
    "no wav.scp": (lambda five: (five / "wav.scp").unlink(), ["five/wav.scp: no such file"]),
    "no text": (lambda five: (five / "text").unlink(), ["five/text: no such file"]),
    "an empty folder": (empty_folder, ["five/wav.scp: no such file"]),
    "no folder": (shutil.rmtree, ["five/wav.scp: no such file"]),
    "a file": (lambda five: shutil.rmtree(five) or five.write_text("x"), ["five/wav.scp: no such file"]),
    "text is a folder": (lambda five: (five / "text").unlink() or (five / "text").mkdir(), ["five/text: no such file"]),
    "empty wav.scp": (write("wav.scp", ""), ["wav.scp: holds no recordings"]),
    "empty text": (write("text", ""), [FIRST, "audio without a transcript"]),
    "blank lines alone": (write("wav.scp", "\n \n"), ["wav.scp: holds no recordings"]),
    "latin1 text": (write("text", f"{FIRST} \xe8\n".encode("latin1")), ["five/text: line 1 is not UTF-8", "iconv"]),
    "latin1 wav.scp": (write("wav.scp", b"a b\nc \xe8.wav\n"), ["five/wav.scp: line 2 is not UTF-8"]),
    "latin1 utt2spk": (write("utt2spk", b"a \xe8\n"), ["five/utt2spk: line 1 is not UTF-8"]),
    "UTF-16 text": (write("text", "a b\n".encode("utf-16")), ["five/text: line 1 is not UTF-8"]),
    "an id twice in text": (edit("text", "it_carlo-digits_tomorrow", FIRST), [f"text:2: {FIRST} appears on two lines"]),
    "an id twice in wav.scp": (
        edit("wav.scp", "it_carlo-digits_tomorrow", FIRST),
        ["wav.scp:2", "appears on two lines"],
    ),
    "unsorted text": (swap_lines("text"), ["text:2: not sorted", "LC_ALL=C sort"]),
    "unsorted wav.scp": (swap_lines("wav.scp"), ["wav.scp:2: not sorted"]),
    "audio without text": (edit("text", "it_carlo-is-in-use è in uso\n", ""), ["it_carlo-is-in-use: audio without a"]),
    "text without audio": (edit("text", "it_carlo-vm-goodbye ", "z ciao\nz "), ["z"]),
    "another id": (edit("text", "it_carlo-vm-goodbye", "zzz"), ["zzz: a transcript without audio"]),
    "an empty transcript": (edit("text", " domani", ""), ["it_carlo-digits_tomorrow: the transcript is empty"]),
    "a transcript of blanks": (edit("text", " domani", " \t "), ["it_carlo-digits_tomorrow: the transcript is empty"]),
    "an id without a file": (write("wav.scp", f"{FIRST}\n"), [f"wav.scp:1: {FIRST} has no file"]),
    "an utterance without a speaker": (write("utt2spk", f"{FIRST} carlo\n"), ["an utterance without a speaker"]),
    "a speaker too many": (
        edit("utt2spk", "it_carlo-vm-goodbye", "zzz a\nit_carlo-vm-goodbye"),
        ["zzz: a speaker for"],
    ),
    "a duration that is none": (edit("utt2dur", "1.600", "long"), [f"utt2dur: {FIRST}: 'long' is not a number"]),
    "a duration of nan": (edit("utt2dur", "1.600", "nan"), [f"utt2dur: {FIRST}: 'nan' is not a number"]),
    "a segment of nothing": (segments("s nobody 0 1"), ["segments: s: recording nobody is not in wav.scp"]),
    "a segment that ends first": (segments(f"s {FIRST} 1 0.5"), ["segments: s: starts at 1.0 s and ends at 0.5 s"]),
    "a segment of letters": (segments(f"s {FIRST} a b"), ["segments: s: expected 'utterance recording start end'"]),
    "a segment without an end": (segments(f"s {FIRST} 0"), ["segments: s: expected 'utterance recording start end'"]),
    "a segment to infinity": (segments(f"s {FIRST} 0 inf"), ["segments: s: starts at 0.0 s and ends at inf"]),
    "empty segments": (segments(""), ["holds no recordings"]),
    "a missing recording": (first_is("none.wav"), ["wav.scp", FIRST, "none.wav is missing"]),
    "a missing archive": (first_is("none.ark:12"), ["the archive none.ark is missing"]),
    "a folder for a recording": (first_is("folder.wav", Path.mkdir), ["folder.wav is missing"]),
}
AUDIO = {
    "an empty recording": (first_is("e.wav", Path.touch), ["e.wav: the file is empty"]),
    "a text for a recording": (first_is("t.wav", lambda p: p.write_text("hello\n" * 9)), ["t.wav: not audio"]),
    "zeros for a recording": (first_is("z.mp3", lambda p: p.write_bytes(bytes(999))), ["z.mp3: not audio"]),
    "a header alone": (first_is("h.wav", lambda p: write_audio(p, NOISE[:0], 16000)), ["h.wav: no audio in it"]),
    "half a header": (first_is("r.wav", lambda p: p.write_bytes(b"RIFF\x10\0")), ["r.wav: damaged or truncated"]),
    "a cut-off wav": (first_is("c.wav", cut), ["c.wav: truncated"]),
    "a cut-off flac": (first_is("c.flac", cut), ["c.flac: ", "truncated"]),
    "a wav of another length": (
        first_is("l.wav", lambda p: p.write_bytes(b"RIFF" + struct.pack("<I", 99) + b"WAVE" + bytes(20))),
        ["l.wav: "],
    ),
    "NaN": (first_is("nan.wav", floats(np.nan)), ["nan.wav: contains NaN or infinite samples"]),
    "infinity": (first_is("inf.wav", floats(np.inf)), ["inf.wav: contains NaN or infinite samples"]),
    "a pipe that fails": (first_is("cat none.wav |"), ["cat none.wav | failed with status 1", "No such file"]),
    "a pipe of nothing": (first_is("true |"), ["true | wrote nothing"]),
    "a pipe of text": (first_is("echo hello |"), ["echo hello |: not audio"]),
    "a pipe without its program": (first_is("sph2pope -f wav a.sph |"), ["failed with status 127", "sph2pope"]),
    "a pipe that is no command": (first_is("cat 'a |"), ["failed with status 2"]),
    "an offset behind the end": (
        first_is("a.ark:9999", lambda p: (p.parent / "a.ark").write_bytes(b"x" * 10)),
        ["a.ark:9999: no readable audio at this offset"],
    ),
    "a segment behind the end": (segments(f"s {FIRST} 0 9"), ["1.60 s"]),
}
OF_TOKENS = {name: case for name, case in FILES.items() if "recording" not in name and "archive" not in name}


def broken(place: Path, change: Callable[[Path], None]) -> None:
    change(place / "five")


@pytest.mark.parametrize("name", [*FILES, *AUDIO])
def test_validate(place, refuse, name):
    change, parts = {**FILES, **AUDIO}[name]
    broken(place, change)
    refuse("validate five", *parts, "five: not fit, problems: ")


@pytest.mark.parametrize("name", [*FILES, *AUDIO])
def test_format_wav(place, refuse, name):
    change, parts = {**FILES, **AUDIO}[name]
    broken(place, change)
    refuse("format-wav five out --nj 1", "s3router format-wav: error: five: ", *parts)


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("--sample-rate 0", "--sample-rate 0: a whole number above 0 is needed"),
        ("--nj 0", "--nj 0: a whole number above 0 is needed"),
        ("--max-seconds -1", "--max-seconds -1: a number above 0 is needed"),
    ],
)
def test_numbers_of_format_wav(refuse, option, part):
    refuse(f"format-wav five out {option}", f"s3router format-wav: error: {part}")


@pytest.mark.parametrize("name", OF_TOKENS)
def test_tokens(place, refuse, name):
    change, parts = FILES[name]
    broken(place, change)
    refuse("tokens five --output out/tokens.txt", "s3router tokens: error: five: ", *parts)


@pytest.mark.parametrize("name", FILES)
def test_subset(place, refuse, name):
    change, parts = FILES[name]
    broken(place, change)
    refuse("subset five out --minutes 0.01", "s3router subset: error: five: ", *parts)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("subset five out --minutes 5", "five: 5 minutes wanted, it has 0.0"),
        ("subset five out --minutes 0", "five: 0 minutes wanted"),
        ("subset five out --minutes nan", "five: nan minutes wanted"),
        ("subset five ./five --minutes 0.05", "five: the directory itself would be overwritten"),
        ("format-wav five five", "input and output are the same directory"),
        ("format-wav five out --token-list none", "none: no such token list"),
        ("format-wav five out --token-list broken", "broken: a token list starts with <blank>"),
        ("format-wav five out --token-list twice", "twice: more than one line for 'a'"),
        ("format-wav five out --token-list latin1", "latin1: line 3 is not UTF-8"),
        ("format-wav five out --token-list tokens --token-type bpe", "bpe needs a sentencepiece model"),
        ("format-wav five out --token-list tokens --token-type bpe --bpe-model none", "none: no such sentencepiece"),
        ("format-wav five out --token-list tokens --token-type bpe --bpe-model broken", "broken: "),
        ("format-wav five out --max-seconds 0.1", "five: nothing is left"),
        ("format-wav five broken/out", "broken"),
        ("tokens five --output five", "five: a folder; name a file to write"),
        ("tokens five --output broken/tokens", "broken"),
        ("tokens five --output out --token-type bpe", "bpe needs --bpe-prefix"),
        (
            "tokens five --output out --token-type bpe --bpe-prefix out/bpe --bpe-size 9999",
            "no sentencepiece model of 9999",
        ),
        (
            "tokens five --output out --token-type bpe --bpe-prefix out/bpe --bpe-size -1",
            "no sentencepiece model of -1",
        ),
        ("validate five --token-list none", "none: no such token list"),
    ],
)
def test_options_of_the_data_commands(place, refuse, line, part):
    (place / "tokens").write_text("<blank>\n<unk>\na\n<sos/eos>\n")
    (place / "broken").write_text("a\nb\n")
    (place / "twice").write_text("<blank>\n<unk>\na\na\n<sos/eos>\n")
    (place / "latin1").write_bytes(b"<blank>\n<unk>\n\xe8\n<sos/eos>\n")
    refuse(line, part)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("score --ref none --hyp ref", "none: no such file"),
        ("score --ref ref --hyp none", "none: no such file"),
        ("score --ref ref --hyp five", "five: "),
        ("score --ref empty --hyp ref", "empty: the file is empty"),
        ("score --ref latin1 --hyp ref", "latin1: not a UTF-8 text file"),
        ("score --ref twice --hyp ref", "line 2: id a appears twice"),
        ("score --ref gap --hyp ref", "line 2 is empty"),
        ("score --ref ref --hyp other", "1 references without a hypothesis (b)"),
        ("score --ref other --hyp ref", "1 hypotheses without a reference (b)"),
        ("score --ref wordless --hyp ref", "1 references without words (a)"),
        ("score --ref ref --hyp ref --versus other", "references without a hypothesis"),
        ("score --ref ref --hyp ref --json five", "five: a folder; name a file"),
        ("score --ref ref --hyp ref --json ref/x.json", "ref"),
        ("score --ref ref --hyp ref --alignments five", "five: a folder; name a file"),
        ("results none", "none: no decode_*/result.json here"),
        ("results five", "five: no decode_*/result.json here"),
        ("results exp --sets dev", "exp/decode_dev/result.json is missing"),
        ("results exp", "exp/decode_test/result.json is damaged"),
        ("results list", "list/decode_test/result.json is damaged"),
        ("results lacking", "lacking/decode_test/result.json is damaged"),
    ],
)
def test_scoring(place, refuse, line, part):
    contents = {
        "ref": b"a x\nb y\n",
        "other": b"a x\n",
        "empty": b"",
        "latin1": b"a \xe8\n",
        "twice": b"a x\na y\n",
        "gap": b"a x\n\nb y\n",
        "wordless": b"a\nb y\n",
        "exp/decode_test/result.json": b'{"wer": 0.',
        "list/decode_test/result.json": b"[]",
        "lacking/decode_test/result.json": b'{"n_utts": 1}',
    }
    for name, content in contents.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    refuse(line, part)


@pytest.fixture
def files(place: Path) -> Path:
    """Files of the wrong kind, for the commands that read packs, experiments, checkpoints and configurations."""
    contents = {
        "empty": b"",
        "text": b"hello\n",
        "junk": bytes(range(256)) * 9,
        "cut.pack": b"S3RPACK\0",
        "broken.yaml": b"a: [1\nb: {\n",
        "list.yaml": b"- 1\n- 2\n",
        "unknown.yaml": b"no_such_option: 1\n",
        "good.yaml": b"max_updates: 1\n",
        "latin1.yaml": b"a: \xe8\n",
        "exp/config.yaml": b"a: [1\n",
        "task/config.json": b"{",
        "bare/config.yaml": b"method: router\n",
        "nolabels/wav.scp": b"a a.wav\n",
        "notazip.zip": b"PK\3\4 no",
    }
    for name, content in contents.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    write_token_list(place / "tokens", build_token_list(u.text for u in DataDir.read(place / "five").utts))
    write_audio(place / "a.wav", NOISE, 16000)
    soundfile.write(place / "nan.wav", np.where(np.arange(16000) == 7, np.nan, NOISE), 16000, subtype="FLOAT")
    return place


@pytest.mark.parametrize("path", ["none.pack", "empty", "text", "junk", "cut.pack", "five"])
@pytest.mark.parametrize(
    "line",
    [
        "inspect {}",
        "inspect --json {}",
        "bake {} -o out",
        "shrink {} -o out",
        "transcribe --routes {} -- a.wav",
        "classify --routes {} -- a.wav",
    ],
)
def test_no_pack(files, refuse, line, path):
    refuse(line.format(path), path)


@pytest.mark.parametrize("path", ["none", "empty", "five", "exp", "task", "bare"])
@pytest.mark.parametrize(
    "line",
    ["pack {} -o out.pack", "decode --exp-dir {} --data-dir five --output-dir out"],
)
def test_no_asr_experiment(files, refuse, line, path):
    refuse(line.format(path), path)


@pytest.mark.parametrize("path", ["none", "empty", "five", "exp", "task", "bare"])
@pytest.mark.parametrize(
    "line",
    ["superb-predict --exp-dir {} --data-dir five --output-dir out", "superb-table {}"],
)
def test_no_task_experiment(files, refuse, line, path):
    refuse(line.format(path), path)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("langid --routes junk", "name --dev LANG=DIR"),
        ("langid --routes junk --dev five", "expected LANG=DIR"),
        ("langid --routes junk --dev it=none", "none: no such file"),
        ("langid --routes junk --dev it=five it=five", "each name once"),
        ("inspect", "PACK"),
        ("bake junk", "-o/--output"),
        ("bake junk -o out --checkpoint best.pth", "--checkpoint best.pth: junk is a pack, made of one checkpoint"),
    ],
)
def test_recordings_and_routes(files, refuse, line, part):
    refuse(line, part, status=2 if line in ("inspect", "bake junk") else 1)


TRAIN = "train --output_dir out --token_list tokens --train_dir five --valid_dir five"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("train", "--output_dir"),
        (f"{TRAIN} --train_dir none", "none/wav.scp: no such file"),
        (f"{TRAIN} --valid_dir none", "none/wav.scp: no such file"),
        (f"{TRAIN} --token_list absent", "absent: no such token list"),
        (f"{TRAIN} --token_list text", "text: a token list starts with"),
        (f"{TRAIN} --config none.yaml", "none.yaml"),
        (f"{TRAIN} --config broken.yaml", "broken.yaml"),
        (f"{TRAIN} --config list.yaml", "list.yaml"),
        (f"{TRAIN} --config unknown.yaml", "no_such_option"),
        (f"{TRAIN} --config latin1.yaml", "latin1.yaml"),
        (f"{TRAIN} --no_such_option 1", "no_such_option"),
        (f"{TRAIN} --sparsity 1.5", "sparsity"),
        (f"{TRAIN} --sparsity nan", "sparsity"),
        (f"{TRAIN} --method rooter", "rooter"),
        (f"{TRAIN} --mask_conf nosuch=1", "nosuch"),
        (f"{TRAIN} --mask_conf sparsity=[1", "no YAML"),
        (f"{TRAIN} --optim_conf {{lr:[1", "no YAML"),
        (f"{TRAIN} --method parp_p --sparsity 0.5 --method_conf initial=0.8", "initial 0.8 is above the sparsity 0.5"),
        (f"{TRAIN} --method omp --mask_conf granularity=group", "method omp removes single weights"),
        (f"{TRAIN} --method imp --method_conf rounds=0", "rounds must be a whole number above 0"),
        (f"{TRAIN} --method router_p --method_conf start=importance", "start importance is for granularity group"),
        (f"{TRAIN} --upstream xlsr_3000m", "xlsr_3000m"),
        (f"{TRAIN} --upstream_ckpt ./none.pt", "none.pt"),
        (f"{TRAIN} --upstream auto --upstream_ckpt ./junk", "junk"),
        (f"{TRAIN} --max_updates 0", "max_updates"),
        (f"{TRAIN} --head_lr -1", "head_lr"),
        (f"{TRAIN} --batch_seconds 0", "batch_seconds"),
    ],
)
def test_train(files, refuse, line, part):
    refuse(line, part)


SUPERB = "superb-train --task cls --output-dir out --train-dir five --valid-dir five"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (f"{SUPERB}", "five/utt2label"),
        (f"{SUPERB} --train-dir none", "none/"),
        (f"{SUPERB} --train-dir nolabels --valid-dir nolabels", "nolabels/utt2label"),
        (f"{SUPERB} --max-updates 0", "--max-updates must be a whole number above 0"),
        (f"{SUPERB} --lr nan", "--lr must be a number above 0"),
        (f"{SUPERB} --method router --sparsity 2", "sparsity"),
        (f"{SUPERB} --sparsity 0.1", "--sparsity"),
        (f'{SUPERB} --head-conf {{"nosuch":1}}', "nosuch"),
        (f"{SUPERB} --batch-size 0", "--batch-size"),
        (f"{SUPERB} --classes none", "utt2label"),
        ("superb-check none.zip", "none.zip"),
        ("superb-check notazip.zip", "notazip.zip"),
        ("superb-check five", "five"),
        ("superb-submit --ks none -o out", "none"),
        ("superb-submit --ks five -o out", "five"),
        ("targets --upstream nosuch_upstream", "nosuch_upstream"),
        ("targets --targets nosuch", "nosuch"),
        ("targets --sparsity 2", "sparsity"),
        ("upstream check nosuch_upstream", "nosuch_upstream"),
        ("upstream check ./none.pt", "none.pt"),
        ("upstream check junk", "junk"),
        ("upstream check empty", "empty"),
        ("upstream check five", "five"),
        ("upstream convert none out", "none"),
        ("upstream convert junk out", "junk"),
        ("upstream convert text out", "text"),
        ("upstream fetch nosuch", "nosuch"),
    ],
)
def test_tasks_and_upstreams(files, refuse, line, part):
    refuse(line, part)


OPTIONS_OF = {
    name: {flag for flag, given in options if given.get("required")} for name, (*_, options) in CORPORA.items()
}
NEEDED = {
    "--lang": "--lang es",
    "--subset": "--subset 10min",
    "--fold": "--fold 1",
    "--voices": "--voices {source}",
    "--prompts": "--prompts {source}",
}


@pytest.mark.parametrize("source", ["none", "five", "a.wav"])
@pytest.mark.parametrize("corpus", [name for name in CORPORA if name not in ("synthetic", "asterisk-table")])
def test_prepare_without_the_corpus(files, refuse, corpus, source):
    needed = [words for action, words in NEEDED.items() if action in OPTIONS_OF[corpus]]
    refuse(" ".join([f"prepare {corpus} {source} out", *needed]).format(source=source), source)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("experiment run none.yaml", "none.yaml"),
        ("experiment run broken.yaml", "broken.yaml"),
        ("experiment run list.yaml", "list.yaml"),
        ("experiment run latin1.yaml", "latin1.yaml"),
        ("experiment run unknown.yaml", "unknown.yaml"),
        ("experiment table none.yaml", "none.yaml"),
        ("experiment plot broken.yaml", "broken.yaml"),
        ("launch none.yaml", "none.yaml"),
        ("launch broken.yaml", "broken.yaml"),
        ("launch list.yaml", "list.yaml"),
        ("presets none.yaml --method router --subset all --upstream tiny --output out", "none.yaml"),
        ("presets broken.yaml --method router --subset all --upstream tiny --output out", "broken.yaml"),
        ("presets unknown.yaml --method router --subset all --upstream tiny --output out", "unknown.yaml"),
        ("lm --text none --output out", "none"),
        ("lm --text latin1.yaml --output out", "latin1.yaml"),
        ("superb-select none --output out", "none"),
        ("superb-select five --output out", "five"),
        ("cache-features --feature-cache out --data-dir none", "none"),
        ("cache-features --feature-cache out --data-dir five --upstream nosuch_one", "nosuch_one"),
    ],
)
def test_grids_presets_and_the_rest(files, refuse, line, part):
    refuse(line, part)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_an_option_that_is_unknown(place, refuse, name):
    refuse(f"{name} --no-such-option", "error: ", status=1 if name == "train" else 2)


def test_a_disk_that_is_full_in_training(files):
    with open("five/utt2label", "w", encoding="utf-8") as file:
        file.writelines(f"{u.utt} {'ab'[i % 2]}\n" for i, u in enumerate(DataDir.read("five").utts))
    code = f"""
import resource, sys
from s3router import cli
from s3router.cli.prepare import CORPORA
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
sys.exit(cli.main({f"{SUPERB} --max-updates 2 --amp-dtype float32".split()!r}))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("s3router superb-train: error: ")
    assert "out" in done.stderr.splitlines()[-1]
    assert done.stderr.endswith("file too large\n")
    assert {path for path in files_of(files / "out") if path.endswith((".pth", ".tmp"))} == set()


# --- what the system refuses: the place is another user's, or a limit is reached


def as_another_user(line: str, folder: Path, *limits: str) -> subprocess.CompletedProcess:
    """Run a command in ``folder``, which is root's, as a user who may read there."""
    code = f"""
import os, resource, sys
from s3router import cli
from s3router.cli.prepare import CORPORA
for name in {limits!r}:
    resource.setrlimit(getattr(resource, name), (4096, 4096))
import s3router.cli.tokens, s3router.cli.subset, s3router.cli.format_wav, s3router.cli.score, s3router.cli.results
import s3router.cli.validate, encodings.utf_8_sig, jiwer, pwd, soundfile, soxr, tqdm
os.chdir({str(folder)!r})
if not {limits!r}:
    os.setuid(65534)
sys.exit(cli.main({line.split()!r}))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def theirs(place: Path) -> Path:
    for folder in (place, place.parent, place.parent.parent):
        folder.chmod(0o755)
    (place / "out").mkdir()
    return place


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("line", "path", "mode"),
    [
        ("tokens five --output out/tokens", "out", 0o755),
        ("subset five out/x --minutes 0.01", "out", 0o755),
        ("format-wav five out --nj 1", "out", 0o755),
        ("score --ref five/text --hyp five/text --json out/x.json", "out", 0o755),
        ("tokens five --output x", "five/text", 0o600),
        ("validate five --nj 1", "five/wav.scp", 0o600),
        ("score --ref five/text --hyp five/text", "five/text", 0o600),
        ("results exp", "exp/decode_test/result.json", 0o600),
        ("format-wav five out --nj 1", "five", 0o700),
    ],
)
def test_a_folder_of_another_user(theirs, line, path, mode):
    (theirs / "exp/decode_test").mkdir(parents=True)
    (theirs / "exp/decode_test/result.json").write_text("{}")
    (theirs / path).chmod(mode)
    before = files_of(theirs)
    done = as_another_user(line, theirs)
    assert done.returncode == 1, done
    (message,) = done.stderr.splitlines()
    assert message.replace(f"{theirs}/", "").startswith(f"s3router {line.split()[0]}: error: {path}")
    assert "permission denied" in message
    assert "belongs to root" in message
    assert files_of(theirs) == before


@pytest.mark.parametrize(
    "line",
    [
        "tokens five --output out/tokens",
        "subset five out --minutes 0.01",
        "format-wav five out --nj 1 --sample-rate 8000",
    ],
)
def test_a_full_disk(theirs, line):
    """As a limit on the size of files, which fails as late as a full disk does."""
    texts = DataDir.read("five").utts
    if line.startswith("format-wav"):
        done = as_another_user(line, theirs, "RLIMIT_FSIZE")
    else:
        long = [replace(u, text="".join(map(chr, range(0x4E00, 0x4E00 + 3000)))) for u in texts]
        DataDir(Path("five"), long).write("five")
        done = as_another_user(line, theirs, "RLIMIT_FSIZE")
    assert done.returncode == 1, done
    (message,) = done.stderr.splitlines()
    assert f"s3router {line.split()[0]}: error: " in message
    assert "out" in message
    assert "file too large" in message
    assert files_of(theirs / "out") == set()
