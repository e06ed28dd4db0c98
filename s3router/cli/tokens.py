"""``s3router tokens``: the token list of the texts of one or more data directories."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from s3router.data.kaldi import DataDir
from s3router.data.tokens import TOKEN_TYPES, build_token_list, train_bpe, write_token_list
from s3router.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router tokens", description=__doc__)
    add = result.add_argument
    add("dirs", nargs="+", metavar="DIR", help="data directories; only training texts belong here")
    add("--output", required=True, help="the token list, one token per line")
    add("--token-type", default="char", choices=TOKEN_TYPES, help="(%(default)s)")
    add("--bpe-size", type=int, default=200, help="units of --token-type bpe (%(default)s)")
    add("--bpe-prefix", help="write PREFIX.model, for --token-type bpe")
    return result


def main(argv: Sequence[str]) -> int:
    """Read the texts, write the list."""
    args = parser().parse_args(argv)
    if (args.token_type == "bpe") != (args.bpe_prefix is not None):
        raise ConfigError("--token-type bpe needs --bpe-prefix, and only bpe does")
    texts = [u.text for path in args.dirs for u in DataDir.read(path).utts]
    if args.token_type == "bpe":
        tokens = train_bpe(texts, args.bpe_size, args.bpe_prefix)
    else:
        tokens = build_token_list(texts, args.token_type)
    write_token_list(args.output, tokens)
    print(f"{args.output}: {len(tokens)} tokens")
    return 0
