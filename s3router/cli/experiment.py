"""``s3router experiment``: many runs from one YAML grid; the table and the figures of what came of them."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3router.cli.job_options import gpu_names, job_limit, slurm_parameters
from s3router.errors import ConfigError
from s3router.experiments import grid_launch
from s3router.experiments.glance import Glance
from s3router.experiments.grid import Grid, Overrides
from s3router.experiments.grid_launch import Resources
from s3router.experiments.grid_work import Choice, GridWork, listing
from s3router.experiments.upstream_files import check_files

EXAMPLES = """examples:
  s3router experiment run conf/table.yaml --dry-run                what there is to do
  s3router experiment run conf/table.yaml --jobs 2                 two runs at a time
  s3router experiment run conf/table.yaml --only '^en_5min'        a part of it
  s3router experiment run conf/table.yaml --max-updates 40 --no-sweep --seeds 0     a trial, kept under exp/trial
  s3router experiment table conf/table.yaml                        the page again, from the result files
Killed and called again it goes on; what failed is tried again. The file is described in docs/experiments.md."""


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    made = argparse.ArgumentParser(
        prog="s3router experiment",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="{run,status,table,plot,measure,glance,routes}")
    for verb, text in VERBS.items():
        shown = {"help": text} if verb not in INNER else {}  # the others are for processes that we start
        sub = verbs.add_parser(verb, description=text, **shown)
        sub.add_argument("grid", type=Path, help="YAML file")
        if verb in INNER:
            sub.add_argument("what", nargs="+", help=INNER[verb])
        sub.add_argument(
            "--set", action="append", default=[], metavar="NAME=YAML", help="in place of an entry of the file"
        )
        sub.add_argument("--seeds", type=int, nargs="+", default=[], help="instead of the grid's")
        sub.add_argument("--max-updates", type=int, help="a trial with so many updates, kept apart under exp/trial")
        if verb in ("run", "status"):
            sub.add_argument("--only", default="", metavar="REGEX", help="runs whose name matches, e.g. '^en_5min'")
            sub.add_argument("--no-sweep", action="store_true", help="no sweeps: the first value of every list")
        if verb in ("run", "table"):
            sub.add_argument("--output", type=Path, help="the page (default: as the grid says, or RESULTS.md)")
        if verb == "run":
            sub.add_argument("--jobs", type=int, help="runs at a time (default: as the grid says, or 2)")
            sub.add_argument("--gpus", help="GPUs to deal out, one to each run: 0,1,2,3")
            sub.add_argument(
                "--slurm", nargs="?", const="", action="append", metavar="KEY=VALUE", help="submit to Slurm"
            )
            sub.add_argument("--cluster", choices=("slurm", "local", "debug"), help=argparse.SUPPRESS)
            sub.add_argument("--dry-run", action="store_true", help="print the runs and their state")
            sub.add_argument("--no-report", action="store_true", help="result files alone; the page stays as it is")
            sub.add_argument(
                "--with-models",
                action="store_true",
                help="train again where a result file is here, but its model is not (in a fresh clone)",
            )
    tasks = verbs.add_parser("tasks", description="the page of run_multitask.sh: several tasks on one backbone")
    tasks.add_argument("recipes", nargs="*", type=Path, help="folders of the recipes whose models are compared")
    tasks.add_argument("--test-set", type=Path, metavar="RECIPE", help="only print the set that a recipe has predicted")
    tasks.add_argument("--tag", required=True, help="of the experiments: TAG_router and TAG_weight")
    tasks.add_argument("--work", type=Path, help="folder of packs and of what was predicted through one upstream")
    tasks.add_argument("--output", type=Path, help="the page")
    glance = verbs.add_parser(
        "glance", help=(text := "a table of rows from several grids, in a page"), description=text
    )
    glance.add_argument("file", type=Path, help="YAML file that names the page and the rows")
    routes = verbs.add_parser("routes", description="the page of ready packs on one backbone, of any recipes")
    add = routes.add_argument
    add("--packs", nargs="+", type=Path, required=True, help="mask packs that transcribe, one for each language")
    add("--sets", nargs="+", required=True, metavar="LANG=DIR", help="the test directory of each route")
    add("--dev", nargs="+", default=[], metavar="LANG=DIR", help="development sets, for packs without usual confidence")
    add("--single", nargs="+", default=[], metavar="LANG=DIR", help="decoded test set of the single model, to compare")
    add("--langid", type=Path, metavar="PACK", help="a language classifier (s3router langid --fit), to test as well")
    add("--upstream", help="the backbone's name (default: the one that the first pack names)")
    add("--upstream-ckpt", help="its checkpoint: path or URL")
    add("--work", type=Path, required=True, help="folder for transcripts and measurements; what is there is taken")
    add("--measured", type=Path, help="JSON file of what was measured (default: in --work)")
    add("--output", type=Path, required=True, help="the page")
    return made


def _routes(args: argparse.Namespace, words: Sequence[str]) -> int:
    from s3router.cli.route_options import pairs
    from s3router.experiments.packs_page import Job, measure, write_page

    named = {"--upstream": args.upstream, "--upstream-ckpt": args.upstream_ckpt}
    job = Job(
        packs=tuple(args.packs),
        sets=pairs(args.sets, "--sets"),
        work=args.work,
        singles=pairs(args.single, "--single"),
        dev=pairs(args.dev, "--dev"),
        langid=args.langid,
        backbone=tuple(word for option, value in named.items() if value for word in (option, value)),
    )
    found = measure(job, args.measured or args.work / "measured.json")
    write_page(found, args.output, f"s3router experiment {shlex.join(words)}")
    print(f"{args.output} is written")
    return 0


def _tasks(args: argparse.Namespace) -> int:
    from s3router.experiments import multitask

    if args.test_set:
        print(multitask.test_set(args.test_set, args.tag))
    elif args.recipes and args.work and args.output:
        print("\n".join(multitask.write_page(args.recipes, args.tag, args.work, args.output)))
    else:
        raise ConfigError("name recipes, --work and --output; or --test-set RECIPE")
    return 0


VERBS = {
    "run": "make the runs that are missing, then the page and its figures",
    "status": "every run with its state",
    "table": "write the page again, from the result files alone",
    "plot": "draw the figures again, from the result files alone",
    "measure": "of a grid with routes: memory, sizes and transcripts of the finished models, into one file",
    "one": "make one run that a launcher has written down, in this process",
    "union": "put the data of several values of an axis together",
}
INNER = {"one": "name of the run", "union": "AXIS=VALUE of each axis"}


def main(argv: Sequence[str]) -> int:
    """Parse, read the grid, and do what the verb says in the folder of its runs."""
    words = list(argv)
    args = parser().parse_args(words)
    if args.verb == "tasks":
        return _tasks(args)
    if args.verb == "glance":
        for path in Glance(args.file).write():
            print(f"{path} is written")
        return 0
    if args.verb == "routes":
        return _routes(args, words)
    output = args.output.resolve() if getattr(args, "output", None) else None
    grid = Grid.read(args.grid, _overrides(args))
    with contextlib.chdir(grid.folder):
        if args.verb == "one":
            grid_launch.make_here(grid, args.what[0], _s3router)
        elif args.verb == "union":
            for line in grid_launch.union_here(grid, args.what):
                print(line)
        elif args.verb == "table":
            print(f"{grid_launch.write_table(grid, output)} is written")
        elif args.verb == "measure":
            print(f"{grid_launch.measure_routes(grid)} is written")
        elif args.verb == "plot":
            for path in (drawn := grid_launch.write_figures(grid)):
                print(f"{path} is written")
            if not drawn:
                print("nothing to draw yet: figures show a method at two sparsities, and learning curves")
        elif args.verb == "status" or args.dry_run:
            check_files(grid.upstream, grid.upstream_ckpt, grid.folder)
            work = GridWork(grid, _choice(args, words))
            work.check_only()
            print("\n".join(listing(work)))
        else:
            report = False if args.no_report else output
            return grid_launch.launch(grid, _choice(args, words), _resources(args, grid), _s3router, report)
    return 0


def _s3router(argv: list[str]) -> int:
    from s3router import cli

    return cli.main(argv)


def _overrides(args: argparse.Namespace) -> Overrides:
    import yaml

    if args.max_updates is not None and args.max_updates < 1:
        raise ConfigError(f"--max-updates must be at least 1, found {args.max_updates}")
    entries: dict[str, Any] = {}
    for text in args.set:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"--set {text}: expected NAME=YAML, such as upstream=hubert_base")
        try:
            entries[name] = yaml.safe_load(value)
            json.dumps(entries[name])  # handed on to processes that make runs
        except TypeError:
            raise ConfigError(f"--set {text}: YAML makes {entries[name]!r} of it: put it in quotes") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: not YAML ({' '.join(str(error).split())})") from None
    return Overrides(args.max_updates, tuple(args.seeds), entries)


def _choice(args: argparse.Namespace, words: list[str]) -> Choice:
    try:
        only = re.compile(args.only)
    except re.error as error:
        raise ConfigError(f"--only {args.only!r} is not a regular expression: {error}") from None
    kept = [word for word in words[1:] if Path(word) != args.grid]  # ./table.yaml is table.yaml
    if "--only" in kept:
        del kept[kept.index("--only") : kept.index("--only") + 2]
    return Choice(only, not args.no_sweep, getattr(args, "with_models", False), tuple(kept))


def _resources(args: argparse.Namespace, grid: Grid) -> Resources:
    jobs = job_limit(args.jobs if args.jobs is not None else grid.raw.get("jobs", 2))
    gpus = gpu_names(args.gpus if args.gpus is not None else grid.raw.get("gpus"))
    slurm = grid.raw.get("slurm")
    if args.slurm is not None:
        slurm = {**(slurm or {}), **slurm_parameters(args.slurm)}
    cluster = args.cluster or ("slurm" if slurm is not None else None)
    return Resources(jobs, tuple(gpus), cluster, slurm or {})
