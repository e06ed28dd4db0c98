"""``s3router transfer``: how well the mask of each pack serves other languages, with a head fitted anew.

s3router transfer *.pack -o transfer.csv --train 'data/{lang}/train' --dev 'data/{lang}/dev' --test 'data/{lang}/test'
s3router analyze exp/packs/*.pack -o analysis --relate transfer=transfer.csv

The upstream stays as it is under each mask, and a linear CTC head trains on its hidden states, which are computed once.
Rows "none" are the upstream without a mask. What the table has already is not made again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from s3router.cli.route_options import places
from s3router.errors import ConfigError
from s3router.training.arithmetic import ARITHMETIC


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router transfer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("packs", nargs="+", metavar="PACK", help="mask packs of one backbone, or experiment folders")
    table = "CSV table to write; an existing one is resumed"
    add("-o", "--output", type=Path, required=True, metavar="CSV", help=table)
    add("--langs", nargs="+", metavar="LANG", help="languages to serve (default: the routes of the packs)")
    where = "a data directory for each language, as a path with {lang} in it, and LANG=PATH for others"
    sets = {
        "train": "training data of the heads",
        "dev": "validation data, on which each head's best checkpoint is chosen",
        "test": "test data to report CER on",
    }
    for name, what in sets.items():
        add(f"--{name}", nargs="+", required=True, metavar="DIR", help=f"{what}: {where}")
    add(
        "--tokens",
        nargs="+",
        default=[],
        metavar="FILE",
        help="the languages' token lists, named likewise (default: those of the packs)",
    )
    add("--upstream", "--backbone", help="the backbone's name (default: the one that the first pack names)")
    add("--upstream-ckpt", "--backbone-ckpt", help="its checkpoint: path or URL")
    add("--device", default="cpu", help="where the upstream runs: cpu, cuda, cuda:1 … (%(default)s)")
    add("--seeds", nargs="+", type=int, default=[0], help="seeds for head training; one row per seed (default: 0)")
    add("--max-updates", type=int, default=300, help="optimizer steps for each head (%(default)s)")
    add("--batch-seconds", type=float, default=16.0, help="padded length of a batch (%(default)s)")
    add("--head-lr", type=float, default=5e-3, help="learning rate of the heads (%(default)s)")
    add("--max-test-seconds", type=float, help="cut longer test sets to about this length; the table says so")
    arithmetic = "arithmetic of the upstream (default: that of the table, or the faster one where there is none)"
    add("--amp-dtype", choices=ARITHMETIC, default="auto", help=arithmetic)
    return result


def main(argv: Sequence[str]) -> int:
    """Make the cells that are missing; what is done is said on stderr."""
    args = parser().parse_args(argv)
    if args.max_test_seconds is not None and not args.max_test_seconds > 0:
        raise ConfigError(f"--max-test-seconds {args.max_test_seconds:g}: a number above 0 is needed")
    if args.output.is_dir():
        raise ConfigError(f"{args.output}: a folder; name a file")
    from s3router.analysis.mask_set import routes_of
    from s3router.analysis.refit import HeadOptions
    from s3router.analysis.transfer import SETS, Job, transfer

    head = HeadOptions(updates=args.max_updates, batch_seconds=args.batch_seconds, head_lr=args.head_lr)
    langs = tuple(dict.fromkeys(args.langs or routes_of(args.packs)))
    given = {name: places(getattr(args, name), f"--{name}", langs) for name in (*SETS, "tokens")}
    for name in SETS:
        if missing := [lang for lang in langs if lang not in given[name]]:
            raise ConfigError(f"--{name}: none for {', '.join(missing)}; add a path with {{lang}} in it, or LANG=PATH")
    job = Job(
        sources=tuple(args.packs),
        places={lang: {name: paths[lang] for name, paths in given.items() if lang in paths} for lang in langs},
        upstream=args.upstream,
        ckpt=args.upstream_ckpt,
        seeds=tuple(dict.fromkeys(args.seeds)),
        head=head,
        max_test_seconds=args.max_test_seconds,
        arithmetic=args.amp_dtype,
        device=args.device,
    )
    rows = transfer(job, args.output, lambda text: print(text, file=sys.stderr), bar)
    print(f"{args.output}: {len(rows)} cells")
    return 0


def bar(total: int, done: int) -> Callable[[str], None]:
    """A progress bar, or lines where stderr is no terminal; what is returned takes a word on each further cell."""
    if not sys.stderr.isatty():
        counted = itertools.count(done + 1)
        return lambda word: print(f"{next(counted)}/{total} {word}", file=sys.stderr)
    from tqdm import tqdm

    shown = tqdm(total=total, initial=done, desc="transfer", unit="cell", mininterval=0)

    def step(word: str) -> None:
        shown.set_postfix_str(word, refresh=False)
        shown.update()
        if shown.n >= total:
            shown.close()

    return step
