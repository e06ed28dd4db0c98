"""``s3router score``: word and character error rates of a Kaldi text file, against that of the references."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s3router.data.hypotheses import RULES, tidy
from s3router.errors import ConfigError
from s3router.files import write_json
from s3router.scoring.files import read_text
from s3router.scoring.stats import bootstrap_difference
from s3router.scoring.wer import score, write_alignments


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router score", description=__doc__)
    add = result.add_argument
    add("--ref", type=Path, required=True, help="Kaldi text file of the references")
    add("--hyp", type=Path, required=True, help="Kaldi text file of the hypotheses")
    add("--normalize", choices=RULES, default="none", help="bring hypotheses to the form of a recipe's references")
    add("--lang", help="language of the references, for --normalize")
    add("--versus", type=Path, help="a second hypothesis file: print the difference and its interval")
    add("--alignments", type=Path, help="write the alignment of every utterance to this file")
    add("--json", type=Path, help="write rates and counts to this file")
    return result


def main(argv: Sequence[str]) -> int:
    """Score, print, write what was asked for."""
    args = parser().parse_args(argv)
    if args.normalize != "none" and not args.lang:
        raise ConfigError("--normalize needs the language of the references: --lang")
    ref = read_text(args.ref)
    result = score(ref, _read(args.hyp, args))
    other = score(ref, _read(args.versus, args)) if args.versus else None
    print(result.summary())
    if other:
        for metric in ("wer", "cer"):
            print(f"{metric.upper()} against {args.versus}: {bootstrap_difference([result], [other], metric)}")
    if args.alignments:
        write_alignments(args.alignments, result)
    if args.json:
        write_json(args.json, result.as_dict(), indent=2)
    return 0


def _read(path: Path, args: argparse.Namespace) -> dict[str, str]:
    return {utt: tidy(text, args.normalize, args.lang) for utt, text in read_text(path).items()}
