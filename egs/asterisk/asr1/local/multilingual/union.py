"""Put the data of several languages together: ``dump/JOINT/SET`` and ``data/JOINT/token_list/char/tokens.txt``.

    python local/multilingual/union.py --langs en es --sets train_5min dev test --name en-es

The token list holds every token of the languages' own lists, in the order in which they come.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from s3router.data.kaldi import DataDir
from s3router.data.tokens import SOS_EOS, read_token_list, write_token_list
from s3router.errors import DataError, S3RouterError

TOKENS = "data/{lang}/token_list/char/tokens.txt"


def union_of_tokens(lists: list[list[str]]) -> list[str]:
    """``<blank> <unk> … <sos/eos>``, each token once."""
    tokens = dict.fromkeys(token for tokens in lists for token in tokens if token != SOS_EOS)
    return [*tokens, SOS_EOS]


def union_of_data(dirs: list[DataDir], path: Path) -> DataDir:
    """One directory with all utterances.

    Raises:
        DataError: an id stands in two of them.
    """
    counts = Counter(utt.utt for data in dirs for utt in data.utts)
    twice = [utt for utt, count in counts.items() if count > 1]
    if twice:
        names = ", ".join(str(data.path) for data in dirs)
        raise DataError(f"{twice[0]} and {len(twice) - 1} more stand in two of {names}; ids must be unique")
    return DataDir(path, [utt for data in dirs for utt in data.with_durations().utts])


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--langs", nargs="+", required=True)
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--name", required=True)
    args = parser.parse_args(argv)
    try:
        lists = [read_token_list(TOKENS.format(lang=lang)) for lang in args.langs]
        path = Path(TOKENS.format(lang=args.name))
        write_token_list(path, union_of_tokens(lists))
        for name in args.sets:
            folder = Path("dump", args.name, name)
            data = union_of_data([DataDir.read(Path("dump", lang, name)) for lang in args.langs], folder)
            data.write(folder)
            print(f"{folder}: {len(data.utts)} utterances, {data.seconds / 60:.2f} min")
        print(f"{path}: {len(read_token_list(path))} tokens")
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
