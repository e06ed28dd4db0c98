"""``s3router results``: the table of one or more trained models, from the files that decoding left."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import DataError
from s3router.scoring.files import write_lines


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router results", description=__doc__)
    result.add_argument("exp_dirs", nargs="+", type=Path, metavar="EXP_DIR", help="folders that hold decode_SET/")
    result.add_argument("--sets", nargs="+", help="the sets, in order (default: all that were decoded)")
    result.add_argument("--output", type=Path, help="write the table to this file, too")
    return result


def read_result(path: Path) -> dict:
    """What ``result.json`` of one decoding holds.

    Raises:
        DataError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; decode first (stage 5, or s3router decode)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it and decode again") from None


def sets_of(exp_dir: Path) -> list[str]:
    """The sets decoded in an experiment, by name. Raises DataError where there are none."""
    found = sorted(path.parent.name.removeprefix("decode_") for path in exp_dir.glob("decode_*/result.json"))
    if not found:
        raise DataError(f"{exp_dir}: no decode_*/result.json here; decode first (stage 5, or s3router decode)")
    return found


def table(exp_dirs: Sequence[Path], sets: Sequence[str] | None = None) -> list[str]:
    """Markdown lines: a row for each model and set."""
    lines = ["| model | set | utterances | WER % | CER % | times real time |", "|---|---|---:|---:|---:|---:|"]
    for exp_dir in exp_dirs:
        for name in sets or sets_of(exp_dir):
            r = read_result(exp_dir / f"decode_{name}" / "result.json")
            rates = f"{100 * r['wer']:.2f} | {100 * r['cer']:.2f}"
            lines.append(f"| {exp_dir.name} | {name} | {r['n_utts']} | {rates} | {r['times_real_time']:.0f} |")
    return lines


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it where asked."""
    args = parser().parse_args(argv)
    lines = table(args.exp_dirs, args.sets)
    print("\n".join(lines))
    if args.output:
        write_lines(args.output, lines)
        print(f"written to {args.output}", file=sys.stderr)
    return 0
