"""Command lines whose options may also stand in a YAML file, 'name: value'; the command line goes before the file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import ConfigError
from s3router.files import read_yaml


class Parser(argparse.ArgumentParser):
    """Answers a wrong command line with one line instead of all options."""

    def error(self, message: str) -> None:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def read_options(made: argparse.ArgumentParser, argv: Sequence[str] | None, separator: str = "-") -> argparse.Namespace:
    """The options of a command line; what it does not give comes from its ``--config`` file, if there is one.

    Args:
        made: the command's parser, which has ``--config``.
        separator: what parts the words of its options' names.

    Raises:
        ConfigError: a configuration file that is missing, is not YAML, or has unknown options.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    given, _ = first.parse_known_args(argv)
    if given.config is None:
        return made.parse_args(argv)
    known = {name for action in made._actions for name in action.option_strings}  # argparse has no public list
    return made.parse_args([*_written(given.config, known, separator, made.prog), *(argv or [])])


def _written(path: Path, known: set[str], separator: str, command: str) -> list[str]:
    """The options in a file as words of a command line."""
    content = read_yaml(path)
    words: list[str] = []
    names = {str(name): f"--{str(name).replace('_', separator)}" for name in content}
    if unknown := [name for name, option in names.items() if option not in known - {"--help", "--config"}]:
        raise ConfigError(f"{path}: unknown {', '.join(unknown)}; {command.split()[-1]} --help lists the options")
    for option, value in zip(names.values(), content.values(), strict=True):
        if isinstance(value, list):
            words += [option, *map(str, value)]
        elif value is not None:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            words.append(f"{option}={text}")
    return words
