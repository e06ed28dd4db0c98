"""``s3router completion``: a script that lets the shell complete command names and their options.

mkdir -p ~/.local/share/bash-completion/completions
s3router completion bash > ~/.local/share/bash-completion/completions/s3router

mkdir -p ~/.zfunc                                            # zsh: and in ~/.zshrc, before compinit,
s3router completion zsh > ~/.zfunc/_s3router                 # fpath=(~/.zfunc $fpath)

Make it anew after an update: the script holds the options of the day. It needs the extra [completion]
(tools/setup.sh brings it); options of `s3router train` are ESPnet's and are there where ESPnet is.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from s3router.errors import ConfigError

SHELLS = ("bash", "zsh")
_FOLDERS = ("DIR", "FOLDER")


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router completion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("shell", choices=SHELLS, help="which shell the script is for")
    return result


def whole_parser() -> argparse.ArgumentParser:
    """One parser for all commands: what completion is made from, never what parses.

    A command whose parser needs a package that is not installed has a name and no options.
    """
    from s3router.cli import COMMANDS

    result = argparse.ArgumentParser(prog="s3router")
    result.add_argument("--version", action="store_true", help="print the version")
    commands = result.add_subparsers(dest="command")
    for name, (module, meaning) in COMMANDS.items():
        # the parser as a parent: argparse has no public way to take a finished one as a subcommand
        parents = list(_parser_of(module))
        commands.add_parser(name, help=meaning, parents=parents, add_help=not parents)
    return result


def _parser_of(module: str) -> Iterator[argparse.ArgumentParser]:
    try:
        found = importlib.import_module(module).parser()
    except ImportError:
        return
    _complete_paths(found)
    yield found


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Where an option is a path, files are offered; folders where its placeholder says so."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _complete_paths(each)
        elif action.type is Path:
            names = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
            action.complete = shtab.DIRECTORY if names.endswith(_FOLDERS) else shtab.FILE


def main(argv: Sequence[str]) -> int:
    """Print the script."""
    args = parser().parse_args(argv)
    if importlib.util.find_spec("shtab") is None:
        raise ConfigError("shtab is missing: tools/setup.sh, or pip install 's3router[completion]'")
    import shtab

    print(shtab.complete(whole_parser(), args.shell))
    return 0
