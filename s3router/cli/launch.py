"""``s3router launch``: a command over many languages and seeds, a bounded number at once, here or on Slurm."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3router.cli.job_options import gpu_names, job_limit, slurm_parameters
from s3router.errors import ConfigError
from s3router.experiments.executors import LocalExecutor, SubmititExecutor
from s3router.experiments.job_plan import Job, Plan, parse_over, read_plan
from s3router.experiments.scheduler import Fixed, Scheduler, listing

EXAMPLES = """examples:
  s3router launch --jobs 2 --over lang=en,es,fr --over seed=0..2 -- ./run.sh --lang {lang} --seed {seed}
  s3router launch --jobs 4 --gpus 0,1,2,3 --over lang=en,es --before './run.sh --lang {lang} --stop-stage 3' \\
      --over seed=0..9 -- ./run.sh --lang {lang} --seed {seed} --ngpu 1 --stage 4
  s3router launch jobs.yaml --slurm timeout_min=600 --slurm slurm_partition=gpu --slurm gpus_per_node=1
What is done is skipped, what failed or was stopped runs again: a recipe then goes on from its last checkpoint."""


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router launch",
        usage="s3router launch [jobs.yaml] [OPTIONS] [-- COMMAND WITH {PLACEHOLDERS}]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("plan", nargs="?", type=Path, help="YAML with command, over, before, skip, env, jobs ...")
    result.add_argument("--over", action="append", default=[], metavar="NAME=A,B", help="values of a placeholder")
    result.add_argument("--before", help="command that runs first, once for each of its own placeholders' values")
    result.add_argument("--jobs", type=int, help="how many at once (default: 1)")
    result.add_argument("--folder", type=Path, help="states and logs (default: exp/launch/NAME of the plan or 'jobs')")
    result.add_argument("--only", metavar="REGEX", help="only jobs whose name has this in it")
    result.add_argument("--gpus", help="GPUs to deal out, one to each job: 0,1,2,3")
    result.add_argument(
        "--slurm",
        nargs="?",
        const="",
        action="append",
        metavar="KEY=VALUE",
        help="submit to Slurm, with parameters of submitit such as timeout_min, slurm_partition, gpus_per_node",
    )
    result.add_argument("--cluster", default=None, choices=("slurm", "local", "debug"), help=argparse.SUPPRESS)
    result.add_argument("--dry-run", action="store_true", help="say what there is, and how far it is; start nothing")
    return result


def main(argv: Sequence[str]) -> int:
    """Expand, then list or run."""
    words = list(argv)
    at = words.index("--") if "--" in words else len(words)
    given, command = words[:at], words[at + 1 :]
    args = parser().parse_args(given)
    plan, settings = _plan(args, command)
    jobs = _chosen(plan.jobs(), args.only)
    limit = job_limit(args.jobs if args.jobs is not None else settings.get("jobs", 1))
    root = Path(
        args.folder or settings.get("folder") or f"exp/launch/{args.plan.stem if args.plan else 'jobs'}"
    ).resolve()
    if args.dry_run:
        print(listing(jobs, root))
        print(f"{len(jobs)} jobs, {limit} at once; states and logs in {root}")
        return 0

    def resume(name: str) -> str:
        words = ["s3router", "launch", *given, "--only", f"^{re.escape(name)}$", *(["--", *command] if command else [])]
        return shlex.join(words)

    return Scheduler(Fixed(jobs, root, resume), root, _executor(args, settings, root, limit), limit).run()


def _plan(args: argparse.Namespace, command: list[str]) -> tuple[Plan, dict[str, Any]]:
    over = dict(map(parse_over, args.over))
    if len(over) < len(args.over):
        raise ConfigError("--over: a placeholder is given twice; list all of its values in one.")
    if args.plan is None:
        return Plan(tuple(command), over, tuple(shlex.split(args.before or ""))), {}
    plan, settings = read_plan(args.plan)
    if command or args.before:
        raise ConfigError(f"the commands stand in {args.plan}: leave out --before and what follows --.")
    if unknown := sorted(set(over) - set(plan.over)):
        raise ConfigError(f"--over {', '.join(unknown)}: {args.plan} has only {', '.join(plan.over) or 'none'}.")
    merged = {**plan.over, **over}
    return Plan(plan.command, merged, plan.before, plan.skip, plan.env, plan.cwd), settings


def _chosen(jobs: list[Job], only: str | None) -> list[Job]:
    if only is None:
        return jobs
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise ConfigError(f"--only {only}: not a regular expression ({error}).") from error
    chosen = {job.name for job in jobs if pattern.search(job.name)}
    chosen |= {need for job in jobs if job.name in chosen for need in job.needs}
    if not chosen:
        raise ConfigError(f"--only {only}: no job is called so. There are: {', '.join(job.name for job in jobs[:20])}.")
    return [job for job in jobs if job.name in chosen]


def _executor(args: argparse.Namespace, settings: dict[str, Any], root: Path, limit: int):
    slurm = settings.get("slurm")
    if args.slurm is not None or slurm is not None or args.cluster:
        if slurm is not None and not isinstance(slurm, dict):
            raise ConfigError(f"slurm must map parameters of submitit to values, found {slurm!r}.")
        return SubmititExecutor(root, args.cluster or "slurm", (slurm or {}) | slurm_parameters(args.slurm or []))
    gpus = gpu_names(args.gpus if args.gpus is not None else settings.get("gpus"))
    if gpus and limit > len(gpus):
        raise ConfigError(f"{limit} jobs at once for {len(gpus)} GPUs: each job takes one.")
    cores = len(os.sched_getaffinity(0))
    return LocalExecutor(max(1, cores // limit), gpus)
