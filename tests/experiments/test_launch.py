"""The command itself, with real processes: small shell scripts as jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3router.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Text of a shell script -> its path; jobs run in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        path = tmp_path / "job.sh"
        path.write_text(f"#!/usr/bin/env bash\nset -eu\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write


def launch(*arguments: str) -> int:
    return main(["launch", "--folder", "states", *arguments])


def status(name: str) -> dict:
    return json.loads(Path("states", name, "status.json").read_text())


def begin(*arguments: str) -> subprocess.Popen:
    """The launcher as a process of its own."""
    command = [sys.executable, "-m", "s3router", "launch", "--folder", "states", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with Path("said").open("w") as said:
        return subprocess.Popen(command, stdout=said, env=env)


def wait_for(condition, what: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {what} within 30 s")


def wait_for_adoption() -> None:
    wait_for(lambda: "v=a goes on, from an earlier launch" in Path("said").read_text(), "adoption")


def test_jobs_run_once_and_failed_ones_again(script, capsys):
    job = script(
        'echo "says $1"; echo x >>started; [ "$1" != b ] || { [ -e mended ] || { echo the reason; exit 7; }; }'
    )
    assert launch("--over", "v=a,b,c", "--", job, "{v}") == 1
    said = capsys.readouterr().out
    assert "FAILED v=b: exit status 7" in said
    assert "    the reason\n" in said
    assert "to resume it: s3router launch --folder states --over v=a,b,c --only '^v=b$' -- " in said
    assert "2 of 3 jobs are done, 1 failed" in said
    assert "says a" in Path("states/v=a/log").read_text()
    Path("mended").touch()
    assert launch("--over", "v=a,b,c", "--", job, "{v}") == 0
    said = capsys.readouterr().out
    assert "2 of 3 jobs were done before" in said
    assert "3 of 3 jobs are done, 0 failed" in said
    assert len(Path("started").read_text().split()) == 4
    assert Path("states/v=b/log").read_text().count("# 2") == 2  # both attempts
    assert status("v=b")["attempts"] == 2


def test_another_command_of_the_same_name_is_another_job(script):
    job = script('echo "$1" >>out')
    for value in ("one", "one", "two"):
        assert launch("--over", "v=a", "--", job, value + "{v}") == 0
    assert Path("out").read_text().split() == ["onea", "twoa"]


def test_no_more_at_once_than_asked_for(script):
    job = script("mkdir -p now; touch now/$$; ls now | wc -l >>counts; sleep 0.3; rm now/$$")
    assert launch("--jobs", "2", "--over", "v=1..6", "--", job, "{v}") == 0
    counts = [int(line) for line in Path("counts").read_text().split()]
    assert len(counts) == 6
    assert max(counts) == 2


def test_what_others_need_comes_first(script, capsys):
    job = script('echo "$*" >>order; [ "$1 $2" != "prepare es" ]')
    before = f"{job} prepare {{lang}}"
    command = ["--jobs", "3", "--before", before, "--over", "lang=en,es", "--over", "seed=0,1"]
    assert launch(*command, "--", job, "train", "{lang}", "{seed}") == 1
    order = Path("order").read_text().splitlines()
    assert sorted(order) == ["prepare en", "prepare es", "train en 0", "train en 1"]
    assert order.index("prepare en") < min(order.index("train en 0"), order.index("train en 1"))
    said = capsys.readouterr().out
    assert "not started: lang=es_seed=1, which needs before_lang=es" in said


def test_only_and_dry_run(script, capsys):
    job = script("true")
    assert launch("--over", "v=a,b", "--dry-run", "--", job, "{v}") == 0
    said = capsys.readouterr().out
    assert said.count("waiting") == 2
    assert f"cd {Path.cwd()} && {job} b" in said
    assert not Path("states").exists()
    assert launch("--over", "v=a,b", "--only", "^v=b$", "--", job, "{v}") == 0
    capsys.readouterr()
    assert launch("--over", "v=a,b", "--dry-run", "--", job, "{v}") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:2]] == ["waiting", "done"]


def test_gpus_and_threads_are_dealt_out(script, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = script(
        'echo "$CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS" >>seen; until [ "$(wc -l <seen)" = 2 ]; do sleep 0.05; done'
    )
    assert launch("--jobs", "2", "--gpus", "3,5", "--over", "v=1,2", "--", job, "{v}") == 0
    seen = sorted(line.split() for line in Path("seen").read_text().splitlines())
    assert [gpu for gpu, _ in seen] == ["3", "5"]
    assert {threads for _, threads in seen} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}


def test_a_plan_in_a_file(script, capsys):
    script('echo "$1 $WHO" >>out')
    Path("many.yaml").write_text("command: ./job.sh {v}\nover: {v: [a, b]}\nenv: {WHO: me}\njobs: 2\nfolder: states\n")
    assert main(["launch", "many.yaml", "--over", "v=b"]) == 0
    assert Path("out").read_text() == "b me\n"
    assert main(["launch", "many.yaml"]) == 0
    assert "1 of 2 jobs were done before" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_launch_ends_its_jobs_and_goes_on_later(script, number):
    job = script(
        "echo x >>started; [ -e again ] || { touch again; sleep 1000 & echo $! >child; wait; }; touch finished"
    )
    launcher = begin("--over", "v=a,b", "--", job, "{v}")
    wait_for(Path("child").exists, "job")
    launcher.send_signal(number)
    assert launcher.wait(timeout=60) == 128 + number
    assert "stopped (v=a); the same command goes on" in Path("said").read_text()
    assert status("v=a")["state"] == "stopped"
    assert not Path("states/v=b").exists()
    wait_for(lambda: not Path(f"/proc/{Path('child').read_text().strip()}").exists(), "end of the job's child")
    assert launch("--over", "v=a,b", "--", job, "{v}") == 0
    assert len(Path("started").read_text().split()) == 3
    assert not list(Path("states").rglob("*.tmp"))


def test_a_launcher_whose_reader_is_gone_still_ends_its_jobs(script):
    job = script("echo $$ >pid; sleep 1000")
    command = [sys.executable, "-m", "s3router", "launch", "--folder", "states", "--over", "v=a", "--", job, "{v}"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    wait_for(lambda: Path("pid").exists() and Path("pid").read_text(), "job")
    launcher.stdout.close()  # as `tee` does, which a ctrl-C ends, too
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(timeout=60) == 128 + signal.SIGINT
    assert launcher.stderr.read() == b""
    assert status("v=a")["state"] == "stopped"
    assert not Path(f"/proc/{Path('pid').read_text().strip()}").exists()


def test_a_killed_launcher_leaves_its_job_and_the_next_one_waits_for_it(script, capsys):
    job = script("echo x >>started; until [ -e go ]; do sleep 0.05; done")
    launcher = begin("--over", "v=a", "--", job, "{v}")
    wait_for(Path("started").exists, "job")
    launcher.kill()
    launcher.wait()
    second = begin("--over", "v=a", "--", job, "{v}")
    wait_for_adoption()
    assert launch("--over", "v=a", "--", job, "{v}") == 1  # a third one, while the second is at work
    assert "another launcher is at work there" in capsys.readouterr().err
    Path("go").touch()
    assert second.wait(timeout=60) == 0
    assert Path("started").read_text() == "x\n"


def test_another_command_of_an_earlier_launch_is_waited_for(script):
    """Its end is not the end of what is wanted now."""
    job = script('echo "$1" >>out; until [ -e go ]; do sleep 0.05; done')
    launcher = begin("--over", "v=a", "--", job, "one{v}")
    wait_for(Path("out").exists, "job")
    launcher.kill()
    launcher.wait()
    second = begin("--over", "v=a", "--", job, "two{v}")
    said = "v=a: another command of this name still runs"
    wait_for(lambda: said in Path("said").read_text(), "wait")
    assert Path("out").read_text().split() == ["onea"]
    Path("go").touch()
    assert second.wait(timeout=60) == 0
    assert Path("out").read_text().split() == ["onea", "twoa"]
    assert status("v=a")["state"] == "done"


def test_a_worker_that_is_stopped_while_its_job_starts(script, monkeypatch):
    from s3router.experiments import worker
    from s3router.experiments.job_plan import Job
    from s3router.experiments.job_state import JobFolder

    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            os.kill(os.getpid(), signal.SIGTERM)

    folder = JobFolder(Path("states").resolve(), "v=a")
    folder.prepare(Job("v=a", (script("sleep 5"),), str(Path.cwd())))
    monkeypatch.setattr(worker.subprocess, "Popen", Interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        worker.run(folder.root, "v=a")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert status("v=a")["state"] == "stopped"


def test_an_adopted_job_is_stopped_with_its_new_launcher(script):
    job = script("echo $$ >pid; sleep 1000")
    launcher = begin("--over", "v=a", "--", job, "{v}")
    wait_for(lambda: Path("pid").exists() and Path("pid").read_text(), "job")
    launcher.kill()
    launcher.wait()
    second = begin("--over", "v=a", "--", job, "{v}")
    wait_for_adoption()
    second.terminate()
    second.wait(timeout=60)
    assert status("v=a")["state"] == "stopped"
    assert not Path(f"/proc/{Path('pid').read_text().strip()}").exists()


def test_a_killed_worker_is_seen_and_the_job_runs_again(script, capsys):
    job = script("echo $PPID >worker; [ -e again ] || { touch again; kill -9 $PPID; kill -9 $$; }")
    assert launch("--over", "v=a", "--", job, "{v}") == 1
    assert "FAILED v=a: killed" in capsys.readouterr().out
    assert status("v=a")["state"] == "failed"
    assert launch("--over", "v=a", "--", job, "{v}") == 0


def test_a_program_that_is_not_there(script, capsys):
    assert launch("--over", "v=a", "--", "./no-such-program", "{v}") == 1
    said = capsys.readouterr().out
    assert "exit status 127" in said
    assert "cannot be started: [Errno 2] No such file" in said


@pytest.mark.parametrize("cluster", ["debug", "local"])
def test_submitit_runs_the_same_jobs(script, capsys, cluster):
    job = script('echo "says $1"; [ "$1" != b ] || exit 4')
    assert launch("--cluster", cluster, "--jobs", "2", "--over", "v=a,b", "--", job, "{v}") == 1
    said = capsys.readouterr().out
    assert "done v=a" in said
    assert "FAILED v=b: exit status 4" in said
    assert "    says b" in said
    assert launch("--cluster", cluster, "--only", "v=a", "--over", "v=a,b", "--", job, "{v}") == 0
    assert "1 of 1 jobs were done before" in capsys.readouterr().out


FAKE_SLURM = {  # as much of Slurm as submitit asks for, on this machine
    "sbatch": """
for file; do :; done
id=$(($(ls "$FAKE_SLURM" | wc -l) + 100))
export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_NNODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
export SLURM_JOB_NODELIST=me
cp "$file" "$FAKE_SLURM/$id.sh"
setsid bash "$FAKE_SLURM/$id.sh" </dev/null >/dev/null 2>&1 &
echo $! >"$FAKE_SLURM/$id"
echo "Submitted batch job $id"
""",
    "srun": """
while [[ $1 == --* ]]; do
    case $1 in --output | --error) shift ;; esac
    shift
done
exec "$@"
""",
    "sacct": """
echo "JobID|State|NodeList"
for word; do
    [ -e "$FAKE_SLURM/$word" ] || continue
    if [ -e "/proc/$(cat "$FAKE_SLURM/$word")" ]; then echo "$word|RUNNING|me"; else echo "$word|COMPLETED|me"; fi
done
""",
}


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in FAKE_SLURM.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (programs / name).chmod(0o755)
    (tmp_path / "queue").mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "queue"))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path / "queue"


def test_slurm_gets_the_jobs_and_its_parameters(script, capsys, fake_slurm):
    job = script('echo "says $1"; [ "$1" != b ] || exit 4')
    slurm = ["--slurm", "timeout_min=90", "--slurm", "slurm_partition=gpu", "--slurm", "gpus_per_node=2"]
    assert launch(*slurm, "--jobs", "2", "--over", "v=a,b", "--", job, "{v}") == 1
    said = capsys.readouterr().out
    assert "done v=a" in said
    assert "FAILED v=b: exit status 4" in said
    submitted = next(fake_slurm.glob("*.sh")).read_text()
    for line in ("--time=90", "--partition=gpu", "--gpus-per-node=2", "--job-name=s3router"):
        assert f"#SBATCH {line}\n" in submitted


def test_a_job_that_slurm_refuses(script, capsys, fake_slurm):
    sbatch = fake_slurm.parent / "bin" / "sbatch"
    sbatch.write_text("#!/usr/bin/env bash\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    assert launch("--slurm", "slurm_partition=none", "--over", "v=a", "--", script("true"), "{v}") == 1
    assert "v=a cannot be submitted to slurm (sbatch: error: invalid partition)" in capsys.readouterr().err
    assert status("v=a")["state"] == "waiting"


@pytest.mark.parametrize("options", [["--cluster", "local"], ["--slurm"]])
def test_submitted_jobs_go_on_without_the_launcher(script, fake_slurm, options):
    job = script("echo x >>started; until [ -e go ]; do sleep 0.05; done")
    command = (*options, "--over", "v=a", "--", job, "{v}")
    launcher = begin(*command)
    wait_for(Path("started").exists, "job")
    wait_for(Path("states/v=a/submitted.json").exists, "job's number")
    launcher.send_signal(signal.SIGINT)
    launcher.wait(timeout=60)
    assert "1 submitted jobs go on. The same command waits for them" in Path("said").read_text()
    second = begin(*command)
    wait_for_adoption()
    Path("go").touch()
    assert second.wait(timeout=60) == 0
    assert Path("started").read_text() == "x\n"


def test_a_preempted_job_is_queued_again(script):
    import submitit

    from s3router.experiments.job_plan import Job
    from s3router.experiments.job_state import JobFolder
    from s3router.experiments.worker import Task

    job = script("echo $$ >>started; [ -e again ] || { touch again; sleep 1000; }")
    folder = JobFolder(Path("states").resolve(), "v=a")
    folder.prepare(Job("v=a", (job,), str(Path.cwd())))
    executor = submitit.AutoExecutor("states/.submitit", cluster="local")
    executor.update_parameters(timeout_min=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        executor.submit(Task(str(folder.root), "v=a"))
    wait_for(Path("again").exists, "job")
    os.kill(status("v=a")["pid"], signal.SIGUSR2)  # as the cluster does before it takes the machine away
    wait_for(lambda: status("v=a")["state"] == "done", "second start")
    first, second = Path("started").read_text().split()
    assert first != second
    assert status("v=a")["attempts"] == 2
    assert not Path(f"/proc/{first}").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over", "v=a", "--jobs", "0", "--", "x", "{v}"], "jobs must be a whole number above 0"),
        (["--over", "v=a", "--over", "v=b", "--", "x", "{v}"], "a placeholder is given twice"),
        (["--", "x", "{v}"], r"no values for {v}"),
        ([], "no command"),
        (["--over", "v=a", "--only", "zzz", "--", "x", "{v}"], "no job is called so. There are: v=a"),
        (["--over", "v=a", "--only", "(", "--", "x", "{v}"], "not a regular expression"),
        (["--over", "v=a", "--jobs", "3", "--gpus", "0,1", "--", "x", "{v}"], "3 jobs at once for 2 GPUs"),
        (["--over", "v=a", "--slurm", "timeout_min", "--", "x", "{v}"], "expected KEY=VALUE"),
        (["--over", "v=a", "--cluster", "local", "--slurm", "nonsense=1", "--", "x", "{v}"], "submitit refuses"),
        (["gone.yaml"], "gone.yaml: no such file"),
    ],
)
def test_commands_that_cannot_be(script, capsys, arguments, message):
    assert launch(*arguments) == 1
    assert message in capsys.readouterr().err
    assert not Path("states").is_dir() or not list(Path("states").glob("v=*"))
