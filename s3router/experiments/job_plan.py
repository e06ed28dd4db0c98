"""Plans of jobs: a command with {placeholders}, expanded over the values of each."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.files import read_yaml

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.=+-]+")


@dataclass(frozen=True)
class Job:
    """One command.

    Args:
        name: of its folder; unique in a plan.
        command: program and arguments; no shell reads them.
        cwd: folder that it is run in.
        env: variables set for it, besides those of the launcher.
        needs: names of the jobs that must be done before it.
    """

    name: str
    command: tuple[str, ...]
    cwd: str
    env: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes when the job becomes another one: other words, or another folder."""
        return hashlib.sha256(json.dumps([self.command, self.cwd]).encode()).hexdigest()[:16]

    @property
    def by_hand(self) -> str:
        """The line that runs it in a shell."""
        setting = "".join(f"{key}={shlex.quote(value)} " for key, value in self.env)
        return f"cd {shlex.quote(self.cwd)} && {setting}{shlex.join(self.command)}"


@dataclass(frozen=True)
class Plan:
    """A command, and what it is run over.

    Args:
        command: words with {placeholders}.
        over: placeholder -> its values; the jobs are all combinations, the last placeholder changing fastest.
        before: a command that is run first, once for each combination of the placeholders in it (data preparation that
            several jobs share).
        skip: combinations (or parts of them) that are left out.
        env: variables set for every job.
        cwd: folder that jobs are run in.
    """

    command: tuple[str, ...]
    over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    skip: tuple[Mapping[str, str], ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."

    def jobs(self) -> list[Job]:
        """All jobs, those that others need first.

        Raises:
            ConfigError: placeholders without values, values without a place, no command, nothing left; all at once.
        """
        self._check()
        cwd, env = str(Path(self.cwd).resolve()), tuple(sorted(self.env.items()))
        first: dict[str, Job] = {}
        main: dict[str, Job] = {}
        shared = _placeholders(self.before)
        for values in self._combinations():
            needs = ()
            if self.before:
                name = _name("before", {key: values[key] for key in self.over if key in shared})
                first[name] = Job(name, _fill(self.before, values), cwd, env)
                needs = (name,)
            name = _name("job", values)
            main[name] = Job(name, _fill(self.command, values), cwd, env, needs)
        if not main:
            raise ConfigError("skip leaves no job to run.")
        return [*first.values(), *main.values()]

    def _combinations(self) -> list[dict[str, str]]:
        every = [dict(zip(self.over, values, strict=True)) for values in itertools.product(*self.over.values())]
        return [v for v in every if not any(all(v[key] == value for key, value in s.items()) for s in self.skip)]

    def _check(self) -> None:
        used, asked = _placeholders(self.command), set(self.over)
        problems = []
        if not self.command:
            problems.append("no command")
        if unknown := sorted((used | _placeholders(self.before)) - asked):
            problems.append(f"no values for {{{'}, {'.join(unknown)}}} (known: {', '.join(self.over) or 'none'})")
        if unused := sorted(asked - used):
            problems.append(f"values of {', '.join(unused)} have no place in the command: jobs would be alike")
        for key, values in self.over.items():
            names = [_UNSAFE.sub("-", value) for value in values]
            if not values or len(set(names)) < len(names):
                problems.append(f"the values of {key} must be some, and differ: {', '.join(values) or 'none'}")
        for entry in self.skip:
            if not entry or set(entry) - asked:
                problems.append(f"skip {dict(entry)} does not name values of {', '.join(self.over)}")
        if not Path(self.cwd).is_dir():
            problems.append(f"no such folder: {self.cwd}")
        if problems:
            raise ConfigError("; ".join(problems) + ".")


def read_plan(path: Path) -> tuple[Plan, dict[str, Any]]:
    """A plan from YAML, and its further settings: jobs, folder, gpus, slurm.

    Raises:
        ConfigError: not YAML, unknown or wrong entries.
        OSError: no such file, or one that cannot be read.
    """
    content = read_yaml(path)
    known = {"command", "over", "before", "skip", "env", "cwd", "jobs", "folder", "gpus", "slurm"}
    if "command" not in content or set(content) - known:
        wrong = ", ".join(sorted(map(str, set(content) - known)))
        raise ConfigError(
            f"{path}: wants command, and may have {', '.join(sorted(known))}; unknown: {wrong or 'none'}."
        )
    try:
        plan = Plan(
            command=_words(content.pop("command")),
            over={str(key): _values(values) for key, values in (content.pop("over", None) or {}).items()},
            before=_words(content.pop("before", ())),
            skip=tuple({_text(k): _text(v) for k, v in entry.items()} for entry in content.pop("skip", None) or ()),
            env={_text(key): _text(value) for key, value in (content.pop("env", None) or {}).items()},
            cwd=str(path.parent / content.pop("cwd", ".")),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: over and env map names to values, skip lists such mappings ({error}).") from error
    return plan, content


def parse_over(text: str) -> tuple[str, tuple[str, ...]]:
    """("lang", ("en", "es")) from "lang=en,es"; a range of whole numbers from "seed=0..4"."""
    name, sign, values = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_]\w*", name) or not values:
        raise ConfigError(f"--over {text}: expected NAME=VALUE,VALUE... or NAME=FIRST..LAST.")
    if found := re.fullmatch(r"(\d+)\.\.(\d+)", values):
        return name, tuple(map(str, range(int(found[1]), int(found[2]) + 1)))
    return name, tuple(values.split(","))


def _words(command: Any) -> tuple[str, ...]:
    return tuple(shlex.split(command)) if isinstance(command, str) else tuple(map(_text, command))


def _values(values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        return parse_over(f"x={values}")[1]
    return tuple(map(_text, values))


def _text(value: Any) -> str:
    """A scalar of YAML as a word."""
    if value is None or isinstance(value, bool):  # the language no (Norwegian) is a truth value to YAML
        raise ConfigError(f"YAML makes {value} of a word such as no, yes, on or null: put it in quotes.")
    return str(value)


def _placeholders(words: Sequence[str]) -> set[str]:
    return {name for word in words for name in _PLACEHOLDER.findall(word)}


def _fill(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in words)


def _name(prefix: str, values: Mapping[str, str]) -> str:
    described = "_".join(f"{key}={_UNSAFE.sub('-', value)}" for key, value in values.items())
    return described if described and prefix == "job" else f"{prefix}_{described}".rstrip("_")
