"""The recipe's command line: what it refuses, before it sets up, fetches or writes anything; and its shell helpers."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "egs/asterisk/asr1"
RECIPES = sorted((ROOT / "egs").glob("*/*/run.sh"))
SCRIPTS = sorted({*RECIPES, *(ROOT / "egs").glob("*/*/run_multi*.sh"), *(ROOT / "egs").glob("*/run_multi*.sh")})


def run(script: Path, *options: str, **env: str) -> subprocess.CompletedProcess:
    """Run a script with an environment that does not exist, so that nothing beyond the checks could work."""
    environment = {**os.environ, "S3ROUTER_VENV": "/nonexistent/venv", **env}
    command = ["bash", str(script), *options]
    # a first call with an environment of one's own tries it out, which takes a minute on a busy machine
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def bash(code: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True, cwd=cwd, check=False, timeout=60
    )


@pytest.mark.parametrize("script", [path.relative_to(ROOT) for path in SCRIPTS], ids=str)
def test_help_of_every_recipe(script: Path, monkeypatch):
    """Called from elsewhere, too; it begins with the script's own first words."""
    monkeypatch.chdir(ROOT)
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(script.read_text(encoding="utf-8").splitlines()[1].removeprefix("# "))
    assert re.search(r"--(stage|langs) ", done.stdout)


def test_help_shows_defaults_in_force():
    text = run(RECIPE / "run.sh", "--lang", "fr", "--help").stdout
    assert "[fr]" in text
    assert "[en es fr it ru]" in text
    assert "share of the weights that are removed" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsty", "0.1"], "unknown option --sparsty; the known ones are: --stage --stop-stage"),
        (["--sparsity", "1.5"], "--sparsity '1.5' is not a number from 0"),
        (["--sparsity", "1"], "--sparsity '1' is not a number from 0"),
        (["--sparsity", "ten"], "--sparsity 'ten'"),
        (["--max-seconds", "0.05"], "--max-seconds '0.05' is not a number from 0.1"),
        (["--sparsity", "0.1", "--method", "weight"], "for methods with masks, and weight has none"),
        (["--method", "rooter"], "known ones are: scratch frozen weight ffn_weight lora"),
        (["--lang", "de"], "known ones are: en es fr it ru"),
        (["--subset", "3min"], "known ones are: 2min 5min all"),
        (["--stop-stage", "x"], "--stop-stage is a whole number"),
        (["--stage", "5", "--stop_stage", "4"], "comes after"),
        (["--stage", "7", "--stop_stage", "9"], "nothing to do, the stages are 1 to 6"),
        (["--stage", "0", "--stop_stage", "0"], "nothing to do, the stages are 1 to 6"),
        (["--task", "seq2seq", "--upstream", "tiny"], "--task seq2seq needs a Whisper"),
        (["--upstream", "tiny", "--hypotheses", "prompts"], "--hypotheses is for --task seq2seq"),
        (["--max-updates", "0"], "--max-updates '0' is not a whole number above 0"),
        (["--skip-data-prep", "--tag", "../x"], "becomes part of a folder's name"),
        (["--config", "conf/none.yaml"], "conf/none.yaml is missing"),
        (["--upstream-ckpt", "./none.pt"], "./none.pt: no such file"),
        (["--lm", "a.arpa"], "--lm needs a beam"),
        (["--beam-size", "50", "--token-type", "bpe"], "--beam-size 50: the beam search spells words"),
        (["--test-sets", "dev"], "two of the sets are called dev"),
        (["--skip-data-prep=maybe"], "--skip-data-prep is true or false"),
        (["--lang"], "--lang needs a value"),
        (["fr"], "unexpected argument 'fr'"),
        (["-x"], "unexpected argument '-x'"),
    ],
)
def test_refused_before_anything_runs(options: list[str], message: str):
    done = run(RECIPE / "run.sh", "--upstream", "tiny", *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stdout == ""


def test_options_of_decoding_are_refused_before_training(tmp_path: Path):
    """And before the model is fetched, which may take minutes."""
    here = {"S3ROUTER_VENV": str(Path(sys.executable).parents[1]), "S3ROUTER_UPSTREAMS": str(tmp_path / "upstreams")}
    whole = ["--task", "seq2seq", "--upstream", "whisper_base", "--stage", "4", "--decode-args", "--bf16"]
    done = run(RECIPE / "run.sh", *whole, **here)
    assert done.returncode != 0
    assert "--bf16: for CTC models" in done.stderr
    assert "run.sh: error: --beam-size, --lm or --decode-args: see above" in done.stderr
    assert not (tmp_path / "upstreams").exists()


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("asterisk", ["--token-type", "word"], "known ones are: char bpe phn"),
        ("asterisk", ["--corpus", "/nonexistent/c"], "--corpus /nonexistent/c: no such folder"),
        ("asterisk", ["--tokens", "none.txt"], "none.txt is missing"),
        ("asterisk", ["--decode-valid", "false", "--test-sets", ""], "nothing to decode"),
        ("librispeech", ["--subset", "5min"], "known ones are: 10min 1h 10h 100h"),
        ("librispeech", ["--librispeech", "/nonexistent/c"], "--librispeech /nonexistent/c: no such folder"),
        ("librispeech", ["--librispeech=/nonexistent/c"], "--librispeech /nonexistent/c: no such folder"),
        ("librispeech", ["--token-type", "bpe"], "--tokens is for char and phn"),
        ("librispeech", ["--lang", "fr"], "known ones are: en"),
        ("commonvoice", ["--release", "/nonexistent/c"], "--release /nonexistent/c: no such folder"),
        ("commonvoice", ["--subset", "2h"], "known ones are: 1min 10min 1h 10h all"),
        ("commonvoice", ["--lang", "../nl"], "becomes part of a folder's name"),
    ],
)
def test_refused_by_the_other_recipes(recipe: str, options: list[str], message: str):
    done = run(ROOT / f"egs/{recipe}/asr1/run.sh", "--upstream", "tiny", *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--systems", "mask"], "--systems: 'mask' is not known; the known ones are: masks joint_frozen joint_weight"),
        (["--systems", ""], "--systems is empty"),
        (["--conf", "conf/none.yaml"], "--conf conf/none.yaml: no such file; there are conf/mms_1b.yaml"),
        (["--subset", "2h"], "known ones are: 10min 1h"),
        (["--corpus", "/nonexistent/c"], "--corpus /nonexistent/c: no such folder"),
        (["--sure", "1.5"], "--sure '1.5' is not a number from 0"),
        (["--sparsity", "0.1 ten"], "--sparsity 'ten' is not a number from 0"),
        (["--langs", "eng"], "--langs 'eng': name at least two languages"),
        (["--best", "0"], "--best '0' is not a whole number above 0"),
    ],
)
def test_refused_by_ml_superb(options: list[str], message: str):
    done = run(ROOT / "egs/ml_superb/asr1/run.sh", *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stdout == ""


def stage_script(name: str) -> str:
    """A line of bash that writes the functions of the stage script, without a call, to a file."""
    return f"sed 's/^main$//; s#^S3ROUTER_ROOT=.*#S3ROUTER_ROOT=\"{ROOT}\"#' '{ROOT}/egs/TEMPLATE/asr1/asr.sh' >{name}"


def names_of(recipe: str, options: str, cwd: Path) -> dict[str, str]:
    """What the stage script calls its folders and files under these options of a recipe's run.sh."""
    folder = ROOT / f"egs/{recipe}/asr1"
    shown = ("data", "token_list", "exp", "sparsity", "raw_train", "config", "presets")
    code = f"""
        cd '{cwd}'
        {stage_script("asr.sh")}
        sed 's#[^ ]*TEMPLATE/asr1/asr.sh#{cwd}/asr.sh#; s#^cd .*#cd "{folder}"#' '{folder}/run.sh' >run.sh
        echo 'check_options && name_everything; for v in {" ".join(shown)} decoded[*]; do echo "$v=${{!v-}}"; done' \
            >>run.sh
        bash run.sh {"--upstream tiny" * (recipe == "asterisk")} {options}
    """
    done = bash(code, cwd)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("recipe", "options", "expected"),
    [
        (
            "asterisk",  # these names hold models already: they must not change
            "--subset 5min",
            {
                "data": "data/en",
                "token_list": "data/en/token_list/char/tokens.txt",
                "exp": "exp/en_5min_tiny_router_s0.10_seed0",
                "config": "conf/train_router.yaml",
                "presets": "",
                "decoded[*]": "dev test",
            },
        ),
        (
            "asterisk",
            "--skip-data-prep --lang xx --train-set /a/tr --valid-set /a/dv/ --test-sets /a/te",
            {
                "token_list": "dump/xx/token_list/tr/tokens.txt",
                "exp": "exp/xx_tr_tiny_router_s0.10_seed0",
                "decoded[*]": "dv te",
            },
        ),
        (
            "asterisk",
            "--skip-data-prep --token-type phn --lang xx --train-set /a/tr --valid-set /a/dv --test-sets /a/te",
            {"data": "data/xx", "token_list": "dump/xx/token_list/tr_phn/tokens.txt"},
        ),
        (
            "asterisk",  # settings of tiny do not suit other upstreams
            "--task ctc --upstream xls_r_300m --method lora",
            {"config": "", "presets": f"{ROOT}/egs/TEMPLATE/asr1/conf/presets_ctc.yaml"},
        ),
        (
            "asterisk",
            "--upstream whisper_base --task auto",
            {"exp": "exp/en_train_seq2seq_whisper_base_router_s0.05_seed0"},
        ),
        (  # what the preset of masks says is not what pruning removes
            "asterisk",
            "--upstream whisper_base --task auto --method parp",
            {"exp": "exp/en_train_seq2seq_whisper_base_parp_s0.10_seed0"},
        ),
        (
            "asterisk",
            """--upstream whisper_base --task auto --train-args '--mask_conf {"granularity":"2:4"}'""",
            {"exp": "exp/en_train_seq2seq_whisper_base_router_s2of4_seed0"},
        ),
        ("asterisk", "--method lora", {"config": "conf/train_other.yaml", "presets": ""}),
        ("yoruba", "--task ctc", {"presets": f"{ROOT}/egs/TEMPLATE/asr1/conf/presets_ctc.yaml"}),
        ("yoruba", "--task seq2seq", {"presets": "conf/presets_seq2seq.yaml"}),
        (
            "commonvoice",
            "--skip-data-prep --lang xx --train-set /a/tr --valid-set /a/dv --test-sets /a/te",
            {"raw_train": "/a/tr", "exp": "exp/xx_tr_phn_xls_r_300m_router_s0.06_seed0"},
        ),
        (
            "librispeech",
            "--subset 1h --upstream wav2vec2_large_ll60k",
            {
                "raw_train": "data/en/train_1h",
                "token_list": "conf/tokens.txt",
                "exp": "exp/en_1h_wav2vec2_large_ll60k_router_s0.04_seed0",
                "presets": "conf/presets.yaml",
                "decoded[*]": "dev_clean dev_other test_clean test_other",
            },
        ),
        ("librispeech", "--sparsity 0.2", {"exp": "exp/en_10h_wav2vec2_base_960_router_s0.2_seed0"}),
        ("librispeech", "", {"sparsity": "", "exp": "exp/en_10h_wav2vec2_base_960_router_s0.10_seed0"}),
        (
            "librispeech",
            "--upstream wav2vec2_large_ll60k --train-args '--mask_conf granularity=2:4'",
            {"sparsity": "", "exp": "exp/en_10h_wav2vec2_large_ll60k_router_s2of4_seed0"},
        ),
        (
            "asterisk",
            "--train-args '--mask_conf sparsity=0.25'",
            {"sparsity": "", "exp": "exp/en_train_tiny_router_s0.25_seed0"},
        ),
        (
            "commonvoice",
            "--lang tr",
            {
                "data": "data/tr_phn",
                "token_list": "data/tr_phn/token_list/phn_1h/tokens.txt",
                "exp": "exp/tr_1h_phn_xls_r_300m_router_s0.06_seed0",
            },
        ),
        (
            "commonvoice",
            "--lang tr --token-type bpe --bpe-size 50 --method weight --config conf/presets.yaml",
            {
                "data": "data/tr",
                "token_list": "data/tr/token_list/bpe50_1h/tokens.txt",
                "exp": "exp/tr_1h_bpe50_xls_r_300m_weight_seed0",
                "presets": "",
            },
        ),
    ],
)
def test_names(recipe: str, options: str, expected: dict[str, str], tmp_path: Path):
    found = names_of(recipe, options, tmp_path)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(("gpus", "message"), [("x", "numbers of GPUs are needed"), ("0,99", "GPU .*99: torch finds")])
def test_gpus_that_are_not_here(gpus: str, message: str):
    code = f"PATH={Path(sys.executable).parent}:$PATH\n. '{ROOT}/utils/stage.sh'\ngpus_are_here '{gpus}'\n"
    done = subprocess.run(["bash", "-euc", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.search(message, done.stderr)


def test_what_a_failed_step_said_goes_to_where_errors_go(tmp_path: Path):
    code = f"set -o pipefail\n. '{ROOT}/utils/stage.sh'\nrun_once log --show -- bash -c 'echo the cause; exit 1'\n"
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    apart = subprocess.run(["bash", "-euc", code], **how)
    assert "the cause" in apart.stdout
    assert "the cause" in apart.stderr
    together = subprocess.run(
        ["bash", "-euc", f"{{ {code} }} 2>&1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert together.stdout.count("the cause\n") == 1


@pytest.mark.parametrize("option", ["--stop-stage", "--stop_stage"])
def test_both_spellings(option: str):
    done = run(RECIPE / "run.sh", "--stage", "2", option, "1")
    assert "comes after --stop-stage 1" in done.stderr


def test_a_set_up_that_is_needed_but_impossible_is_explained():
    done = run(RECIPE / "run.sh", "--stop-stage", "1")
    assert done.returncode != 0
    assert "S3ROUTER_VENV" in done.stderr
    assert "/nonexistent/venv" in done.stderr


OPTIONS = """
    # shellcheck shell=bash
    # A script for the test.
    lang=en        # a language
    updates=100    # how long
    dry_run=false  # do nothing
    value=         # any text
    . "$ROOT/utils/parse_options.sh"
    printf '%s|' "$lang" "$updates" "$dry_run" "$value"
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "en|100|false||"),
        (["--lang", "fr", "--updates=7"], "fr|7|false||"),
        (["--dry-run", "--lang", "it"], "it|100|true||"),
        (["--dry-run", "false", "--dry_run", "true"], "en|100|true||"),
        (
            ["--value", "--score_lr 1e-2 $(echo no) `echo no` 'q'"],
            "en|100|false|--score_lr 1e-2 $(echo no) `echo no` 'q'|",
        ),
        (["--value="], "en|100|false||"),
        (["--value", "--score_lr 1e-2\n --seed 1"], "en|100|false|--score_lr 1e-2  --seed 1|"),
        (["--lang", "en", "--lang", "ru"], "ru|100|false||"),
        (["--value", "3", "--value", "1.5"], "en|100|false|1.5|"),  # the first is no reason to want whole numbers
    ],
)
def test_parse_options(tmp_path: Path, options: list[str], expected: str):
    script = tmp_path / "script.sh"
    script.write_text("\n".join(line.strip() for line in OPTIONS.strip().splitlines()) + "\n")
    done = run(script, *options, ROOT=str(ROOT))
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def stage(code: str, cwd: Path) -> subprocess.CompletedProcess:
    return bash(f". '{ROOT}/utils/stage.sh'\n{code}", cwd)


STEP = "run_once log/a.log --inputs in --outputs out -- sh -c 'cat in >>out; echo made'"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_folder_of_another_user_is_named_before_anything_runs(tmp_path: Path):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest-", "popen-")) or folder == tmp_path:
            folder.chmod(0o755)
    helpers = shutil.copy(ROOT / "utils/stage.sh", tmp_path)
    command = ["bash", "-euc", f". {helpers}\nneed_writable exp/a/b\necho went on"]
    assert bash(command[-1], tmp_path).stdout == "went on\n"
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, user=65534, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: {tmp_path} cannot be written to (it belongs to root): work in a clone of your own" in done.stderr


def test_run_once_skips_what_is_finished(tmp_path: Path):
    (tmp_path / "in").write_text("x")
    first, second = stage(STEP, tmp_path), stage(STEP, tmp_path)
    assert first.stdout == "made\n"
    assert "finished before" in second.stdout
    assert (tmp_path / "out").read_text() == "x"


@pytest.mark.parametrize("change", ["input", "output", "command"])
def test_run_once_runs_again_after_a_change(tmp_path: Path, change: str):
    (tmp_path / "in").write_text("x")
    stage(STEP, tmp_path)
    if change == "input":
        (tmp_path / "in").write_text("yy")
    elif change == "output":
        (tmp_path / "out").unlink()
    command = STEP if change != "command" else STEP.replace("made", "anew")
    assert "finished before" not in stage(command, tmp_path).stdout


def test_run_once_sees_inputs_of_any_name(tmp_path: Path):
    """Logs and hidden files count where they are named, and not where they lie in a folder."""
    (tmp_path / "folder").mkdir()
    for name in ("log_x.yaml", ".hidden", "folder/log"):
        (tmp_path / name).write_text("x")
    step = "run_once a.log --inputs log_x.yaml .hidden folder -- echo made"
    stage(step, tmp_path)
    (tmp_path / "folder/log").write_text("yy")
    assert "finished before" in stage(step, tmp_path).stdout
    for name in ("log_x.yaml", ".hidden"):
        (tmp_path / name).write_text("yy")
        assert "finished before" not in stage(step, tmp_path).stdout


def test_run_once_shows_the_end_of_the_log_of_a_failure(tmp_path: Path):
    (tmp_path / "in").write_text("x")
    failing = STEP.replace("echo made", "seq 100; echo the reason; exit 3")
    for _ in range(2):  # a failure is not remembered as finished
        done = stage(failing + "\necho went on", tmp_path)
        assert done.returncode == 1
        assert "the reason\n" in done.stderr
        assert "status 3" in done.stderr
        assert "went on" not in done.stdout
    assert "\n50\n" not in done.stderr


def test_run_once_shown_still_sees_a_failure(tmp_path: Path):
    done = stage("run_once a.log --show -- sh -c 'echo seen; exit 4'", tmp_path)
    assert (done.returncode, done.stdout) == (1, "seen\n")
    assert "status 4" in done.stderr


def test_run_once_names_a_missing_input_and_a_missing_output(tmp_path: Path):
    assert "needs in, which is missing" in stage(STEP, tmp_path).stderr
    assert "left no out" in stage("run_once a.log --outputs out -- true", tmp_path).stderr


def test_trained_with_other_settings_is_refused(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("lr: 1\n")
    begin = "same_settings exp '--seed 0 --sparsity 0.1' c.yaml"
    assert stage(begin, tmp_path).returncode == 0
    assert stage(begin.replace("0.1", "0.2"), tmp_path).returncode == 0  # nothing has been trained yet
    (tmp_path / "exp/checkpoint.pth").touch()
    refused = stage(begin, tmp_path)
    assert refused.returncode == 1
    assert "before: --sparsity 0.2" in refused.stderr
    assert "now:    --sparsity 0.1" in refused.stderr
    assert "--tag" in refused.stderr
    assert stage(begin.replace("0.1", "0.2"), tmp_path).returncode == 0


def test_of_a_long_log_the_first_problems_are_shown_too(tmp_path: Path):
    failing = "run_once a.log -- sh -c 'seq 50; echo text: error: not UTF-8; seq 100 200; exit 1'"
    done = stage(failing, tmp_path)
    assert "text: error: not UTF-8\n100\n" in done.stderr
    assert "\n200\n" in done.stderr
    assert "\n150\n" not in done.stderr


@pytest.mark.parametrize("show", ["", "--show"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_and_all_of_its_processes(tmp_path: Path, show: str, number: int):
    code = f". '{ROOT}/utils/stage.sh'\nrun_once a.log {show} -- sh -c 'echo $$ >pid; sleep 600 | cat; echo never'"
    running = subprocess.Popen(["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.02)
    group = int((tmp_path / "pid").read_text())
    running.send_signal(number)
    assert running.wait(30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.killpg(os.getpgid(group), 0)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("dev test", ["data/en/dev", "data/en/test"]),
        ("", []),
        ("  dev\n test ", ["data/en/dev", "data/en/test"]),
        ("my data/te st", ["my data/te st"]),
        ("my data/te st/ dev my data/te st", ["my data/te st", "data/en/dev", "my data/te st"]),
        ("two  blanks", ["data/en/two  blanks"]),
        ("{cwd}/my data/te st /none", ["{cwd}/my data/te st", "/none"]),
    ],
)
def test_sets_are_separated_by_blanks_which_their_paths_may_have(tmp_path: Path, given: str, found: list[str]):
    for folder in ("my data/te st", "data/en/dev", "data/en/two  blanks"):
        (tmp_path / folder).mkdir(parents=True)
    listed = shlex.quote(given.format(cwd=tmp_path))
    done = bash(f"data=data/en\n. '{ROOT}/utils/sets.sh'\neach_set {listed}", tmp_path)
    assert done.stdout.splitlines() == [each.format(cwd=tmp_path) for each in found], done.stderr


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing is locked")
def test_a_waiting_run_names_the_process_it_waits_for(tmp_path: Path):
    code = f". '{ROOT}/utils/stage.sh'\none_at_a_time .lock 'trains exp/a'\n"
    first = subprocess.Popen(
        ["bash", "-euc", f"{code} echo locked; read -r"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "locked\n"
    second = subprocess.Popen(["bash", "-euc", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    message = second.stdout.readline()
    assert f"another run trains exp/a: waiting for it (process {first.pid} on {os.uname().nodename}: " in message
    first.communicate("\n", timeout=30)
    assert second.wait(30) == 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing is locked")
def test_what_a_killed_run_has_left_is_named(tmp_path: Path):
    code = f". '{ROOT}/utils/stage.sh'\none_at_a_time .lock 'trains exp/a'\n"
    first = subprocess.Popen(
        ["bash", "-euc", f"{code} in_group sleep 600"], cwd=tmp_path, stdout=subprocess.DEVNULL, process_group=0
    )
    orphans = []
    while not orphans:
        children = subprocess.run(["pgrep", "-P", str(first.pid), "sleep"], capture_output=True, text=True, check=False)
        orphans = children.stdout.split()
    first.kill()
    first.wait()
    second = subprocess.Popen(["bash", "-euc", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert f"(process {orphans[0]}, left by {first.pid} on " in second.stdout.readline()
    os.kill(int(orphans[0]), signal.SIGKILL)
    assert second.wait(30) == 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing is locked")
def test_a_second_run_waits_while_the_first_prepares(tmp_path: Path):
    code = f"""
        . '{ROOT}/utils/stage.sh'
        one_at_a_time data/.preparing.lock 'prepares data here'
        echo prepared
    """
    (tmp_path / "data").mkdir()
    with open(tmp_path / "data/.preparing.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(["bash", "-euc", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert "another run prepares data here" in second.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.3)
    assert second.communicate(timeout=30)[0] == "prepared\n"
    assert bash(code, tmp_path).stdout == "prepared\n"  # nobody else: no waiting


PYTHON = """#!/bin/sh
echo begin >>calls
sleep "${SECONDS_OF_WORK:-0}"
for word; do
    case $last in
        --feature-cache) mkdir -p "$word" ;;
        --output?dir)
            mkdir -p "$word"
            for name in $LEFT; do echo x >"$word/$name" && touch -d @0 "$word/$name"; done
            ;;
    esac
    last=$word
done
echo end >>calls
"""


def steps(functions: str, options: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Functions of the stage script in a recipe's folder with formatted data, and a Python that only leaves outputs."""
    files = {"venv/bin/python": PYTHON, "conf/train_router.yaml": "x", "data/en/token_list/char/tokens.txt": "x"}
    files |= {f"dump/en/{name}/{file}": "x" for name in ("train", "dev", "test") for file in ("wav.scp", "text")}
    for name, content in files.items():
        if not (cwd / name).exists():
            (cwd / name).parent.mkdir(parents=True, exist_ok=True)
            (cwd / name).write_text(content)
    (cwd / "venv/bin/python").chmod(0o755)
    variables = {"S3ROUTER_VENV": f"{cwd}/venv", "LEFT": "result.json config.yaml valid.cer_ctc.best.pth", **env}
    code = f"""
        export {" ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())}
        {stage_script("asr.$$.sh")}
        . ./asr.$$.sh {options}
        check_options && name_everything
        {functions}
    """
    return bash(code, cwd)


def test_what_a_model_was_made_with_may_change_under_its_name(tmp_path: Path):
    """The checkpoint of the upstream, the language model: finished steps that read them are done again."""
    options = "--upstream-ckpt ./up.pt --lm lm.arpa --beam-size 5"
    for name in ("up.pt", "lm.arpa"):
        (tmp_path / name).write_text("x")
    for changed, again in [("", 4), ("", 0), ("up.pt", 2), ("lm.arpa", 2)]:  # cache and training, two sets to decode
        (tmp_path / "calls").write_text("")
        if changed:
            (tmp_path / changed).write_text("another")
        done = steps("fill_cache; train; decode", options, tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "calls").read_text().count("begin") == again, changed


def test_sets_of_another_corpus_under_the_same_name(tmp_path: Path):
    """Two corpora have a test set each: the later one is not decoded in place of the first."""
    for corpus in "ab":
        for name in ("train", "dev", "test"):
            (tmp_path / corpus / name).mkdir(parents=True)
            for file in ("wav.scp", "text"):
                (tmp_path / corpus / name / file).write_text("x x\n")

    def run(functions: str, corpus: str) -> subprocess.CompletedProcess:
        sets = [f"--{option} {tmp_path}/{corpus}/{name}" for option, name in names.items()]
        return steps(functions, " ".join(["--skip-data-prep", "--tag", corpus, "--tokens", "conf/t", *sets]), tmp_path)

    names = {"train-set": "train", "valid-set": "dev", "test-sets": "test"}
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/t").write_text("x\n")
    for corpus in "ab":
        done = run("prepare_sets; train; decode", corpus)
        assert done.returncode == 0, done.stderr
    refused = run("decode", "a")
    assert refused.returncode == 1
    assert f"was made of {tmp_path}/b/train since, not of {tmp_path}/a/train" in refused.stderr
    assert run("prepare_sets; decode", "a").returncode == 0


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing is locked")
def test_one_model_is_trained_by_one_run_at_a_time(tmp_path: Path):
    """The same command twice at once: it is trained once, and both go on."""
    assert steps("", "", tmp_path).returncode == 0  # the files are there
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: steps("train", "", tmp_path, SECONDS_OF_WORK="2"), range(2)))
    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]
    assert "another run trains exp/en_tr" in "".join(run.stdout for run in runs)
    assert (tmp_path / "calls").read_text() == "begin\nend\n"


@pytest.mark.parametrize("recipe", ["asterisk/asr1", "asterisk/ks1"])
def test_a_mistyped_upstream_is_refused_before_data_are_prepared(recipe: str):
    """As soon as the environment is there, which knows the names."""
    script = ROOT / f"egs/{recipe}/run.sh"
    done = subprocess.run(
        ["bash", str(script), "--upstream", "xlsr_300m"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    assert "upstream 'xlsr_300m' is not known. Did you mean xls_r_300m" in done.stderr
    assert "--upstream xlsr_300m cannot be used" in done.stderr
    assert "corpus ->" not in done.stdout + done.stderr


def test_own_sets_must_exist(tmp_path: Path):
    """Stage 2 on a directory that is not there, with an environment that is ready: named, with what to do."""
    code = f"""
        {stage_script("asr.sh")}
        cd '{RECIPE}'
        . {tmp_path}/asr.sh --skip-data-prep --train-set {tmp_path}/none --valid-set {tmp_path}/dev --test-sets ''
        check_options && name_everything && prepare_sets
    """
    done = bash(code, tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/none/wav.scp is missing" in done.stderr
    assert "--train-set" in done.stderr
