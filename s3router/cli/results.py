"""``s3router results``: the table of one or more trained models, from the files that decoding left."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import DataError
from s3router.files import read_json, write_lines


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router results", description=__doc__)
    result.add_argument("exp_dirs", nargs="+", type=Path, metavar="EXP_DIR", help="folders that hold decode_SET/")
    result.add_argument("--sets", nargs="+", help="the sets, in order (default: all that were decoded)")
    result.add_argument("--plain", action="store_true", help="also the CER when diacritics do not count")
    result.add_argument("--output", type=Path, help="write the table to this file, too")
    return result


def read_result(path: Path) -> dict:
    """What ``result.json`` of one decoding holds.

    Raises:
        DataError: missing or damaged.
    """
    result = read_json(path, "decode the set (stage 5, or s3router decode)")
    wanted = {"n_utts", "times_real_time", *(("per",) if "per" in result else ("wer", "cer"))}
    if not all(isinstance(result.get(name), int | float) for name in wanted):
        raise DataError(f"{path} is damaged (it lacks some of {', '.join(sorted(wanted))}); remove it and decode again")
    return result


def sets_of(exp_dir: Path) -> list[str]:
    """The sets decoded in an experiment, by name. Raises DataError where there are none."""
    found = sorted(path.parent.name.removeprefix("decode_") for path in exp_dir.glob("decode_*/result.json"))
    if not found:
        raise DataError(f"{exp_dir}: no decode_*/result.json here; decode first (stage 5, or s3router decode)")
    return found


def table(exp_dirs: Sequence[Path], sets: Sequence[str] | None = None, plain: bool = False) -> list[str]:
    """Markdown lines: a row for each model and set. Models of phones have a PER, and no WER or CER.

    With ``plain`` there is a column for the CER without diacritics.
    """
    rows = [
        (exp_dir.name, name, read_result(exp_dir / f"decode_{name}" / "result.json"))
        for exp_dir in exp_dirs
        for name in sets or sets_of(exp_dir)
    ]
    phones = ["per" in result for *_, result in rows]
    rates = [*(["wer", "cer"] if not all(phones) else []), *(["per"] if any(phones) else [])]
    rates += ["cer_plain"] if plain and "cer" in rates else []
    columns = " | ".join("CER without diacritics %" if rate == "cer_plain" else f"{rate.upper()} %" for rate in rates)
    lines = [
        f"| model | set | utterances | {columns} | times real time |",
        f"|---|---|---:|{'---:|' * len(rates)}---:|",
    ]
    for model, name, result in rows:
        shown = {rate for rate in rates if ("per" in result) == (rate == "per")}
        cells = " | ".join(f"{100 * result[rate]:.2f}" if rate in shown and rate in result else "–" for rate in rates)
        lines.append(f"| {model} | {name} | {result['n_utts']} | {cells} | {result['times_real_time']:.0f} |")
    return lines


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it where asked."""
    args = parser().parse_args(argv)
    lines = table(args.exp_dirs, args.sets, args.plain)
    print("\n".join(lines))
    if args.output:
        write_lines(args.output, lines)
        print(f"written to {args.output}", file=sys.stderr)
    return 0
