"""Command lines whose options may also stand in a YAML file, 'name: value'; the command line goes before the file."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.files import read_yaml
from s3router.masks.config import fixes_sparsity


class Parser(argparse.ArgumentParser):
    """Answers a wrong command line with one line instead of all options."""

    def error(self, message: str) -> None:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


class Fields(argparse.Action):
    """Of an option with a mapping: ``name=value``, or all fields as JSON or YAML has them. What is given is merged.

    A text that is no mapping is taken as it is, for the command's own check to refuse.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        found = _fields(values)
        before = getattr(namespace, self.dest, None) or {}
        setattr(namespace, self.dest, {**before, **found} if isinstance(found, dict) else found)


def _fields(text: str) -> Any:
    import yaml

    def read(value: str) -> Any:
        if re.fullmatch(r"\d+:\d+", value):  # 2:4, of which YAML makes 124
            return value
        try:
            return json.loads(value)  # which knows 1e-3, as YAML does not
        except ValueError:
            return yaml.safe_load(value)

    try:
        if match := re.match(r"(\w+)=(.*)", text, re.DOTALL):
            return {match[1]: read(match[2])}
        return read(text)
    except yaml.YAMLError:
        return text


def settle_sparsity(options: argparse.Namespace, argv: Sequence[str] | None, separator: str = "-") -> None:
    """Let masks of the command line go before a sparsity that the file brings under its other name, in place.

    ``--sparsity`` goes before ``mask_conf``, and a granularity N:M fixes it; but what is typed goes before both in the
    file.
    """
    option = f"--mask{separator}conf"
    typed = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    typed.add_argument("--sparsity")
    typed.add_argument(option, dest="mask_conf", action=Fields, default={})
    given, _ = typed.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    if given.sparsity is not None or not isinstance(given.mask_conf, dict):
        return
    n_m = "granularity" in given.mask_conf and fixes_sparsity(given.mask_conf["granularity"])
    if n_m or "sparsity" in given.mask_conf:
        options.sparsity = None
    if n_m and "sparsity" not in given.mask_conf:
        options.mask_conf = {name: value for name, value in options.mask_conf.items() if name != "sparsity"}


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
    known = {name: action for action in made._actions for name in action.option_strings}  # argparse has no public list
    return made.parse_args([*_written(given.config, known, separator, made.prog), *(argv or [])])


def _is_text(action: argparse.Action) -> bool:
    """Whether an option takes any word."""
    plain = action.type in (None, str) and action.nargs is None and action.choices is None
    return plain and not isinstance(action, Fields)


def _written(path: Path, known: Mapping[str, argparse.Action], separator: str, command: str) -> list[str]:
    """The options in a file as words of a command line."""
    content = read_yaml(path)
    words: list[str] = []
    names = {str(name): f"--{str(name).replace('_', separator)}" for name in content}
    if unknown := [name for name, option in names.items() if option not in known.keys() - {"--help", "--config"}]:
        raise ConfigError(f"{path}: unknown {', '.join(unknown)}; {command.split()[-1]} --help lists the options")
    for option, value in zip(names.values(), content.values(), strict=True):
        if isinstance(value, bool) and _is_text(known[option]):
            raise ConfigError(f"{path}: {option[2:]}: YAML reads yes, no, on and off as true or false; quote the word")
        if isinstance(value, list):
            words += [option, *map(str, value)]
        elif value is not None:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            words.append(f"{option}={text}")
    return words
