"""``s3router ml-superb-score``: the six figures of the ML-SUPERB 2.0 challenge.

    s3router ml-superb-score --ref data/all/test/reference --hyp exp/A/test/text \\
        --dialect-ref data/all/dialect/reference --dialect-hyp exp/A/dialect/text --json exp/A/figures.json
    s3router ml-superb-score --figures masks=exp/A/figures.json joint=exp/B/figures.json     # systems side by side

All texts are 'UTTERANCE [iso] text', one per line.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import ConfigError, DataError
from s3router.files import read_json, write_json, write_lines
from s3router.scoring.files import read_text
from s3router.scoring.ml_superb import ChallengeFigures, LanguageFigures, SetFigures, language_table, score_set, table


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router ml-superb-score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("--ref", type=Path, metavar="TEXT", help="references")
    add("--hyp", type=Path, metavar="TEXT", help="hypotheses")
    add("--dialect-ref", type=Path, metavar="TEXT", help="references of the language varieties")
    add("--dialect-hyp", type=Path, metavar="TEXT", help="hypotheses of the language varieties")
    add("--json", type=Path, help="write everything, each language's figures included, to this file")
    add(
        "--figures",
        nargs="+",
        default=[],
        metavar="NAME=JSON",
        help="files that --json wrote: tables of systems, over all and by language",
    )
    add("--output", type=Path, help="write the table to this file, too")
    return result


def main(argv: Sequence[str]) -> int:
    """Score, print, write what was asked for."""
    args = parser().parse_args(argv)
    _check(args)
    if args.figures:
        systems = dict(map(_read, args.figures))
        lines = [*table(systems), "", *language_table(systems)]
    else:
        dialect = None
        if args.dialect_ref:
            dialect = _scored(args.dialect_ref, args.dialect_hyp)
        found = ChallengeFigures(_scored(args.ref, args.hyp), dialect)
        lines = table({args.hyp.parent.name or str(args.hyp): found})
        if args.json:
            write_json(args.json, found.as_dict())
        worst = found.standard.worst_languages()
        lines += ["", f"worst: {', '.join(f'{c} {100 * found.standard.languages[c].cer:.1f}' for c in worst)}"]
    print("\n".join(lines))
    if args.output:
        write_lines(args.output, lines)
    return 0


def _check(args: argparse.Namespace) -> None:
    pairs = ((args.ref, args.hyp), (args.dialect_ref, args.dialect_hyp))
    if any((ref is None) != (hyp is None) for ref, hyp in pairs):
        raise ConfigError("--ref goes with --hyp, and --dialect-ref with --dialect-hyp")
    if bool(args.figures) == bool(args.ref) or (args.figures and (args.dialect_ref or args.json)):
        raise ConfigError("name --ref TEXT and --hyp TEXT to score, or --figures NAME=JSON ... to compare")


def _scored(ref: Path, hyp: Path) -> SetFigures:
    try:
        return score_set(read_text(ref, keep_blanks=True), read_text(hyp, keep_blanks=True))
    except DataError as error:
        raise DataError(f"{ref}, {hyp}: {error}") from None


def _read(given: str) -> tuple[str, ChallengeFigures]:
    """``name=file.json`` -> the system's name and its figures."""
    name, _, path = given.partition("=")
    if not name or not path:
        raise ConfigError(f"--figures {given}: expected NAME=JSON")
    values = read_json(path, "write it with s3router ml-superb-score --json")
    try:
        sets = {
            part: SetFigures(
                {lang: LanguageFigures(**figures) for lang, figures in values[part]["languages"].items()},
                values[part]["empty"],
            )
            for part in ("standard", "dialect")
            if part in values
        }
        return name, ChallengeFigures(**sets)
    except (KeyError, TypeError):
        raise DataError(f"{path}: not a file that s3router ml-superb-score --json wrote") from None
