"""Options and output that the commands on routes share."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.errors import ConfigError

if TYPE_CHECKING:
    from s3router.api.router import Router
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.data.kaldi import Utterance
    from s3router.serving.routed_model import RoutedModel

EXPERIMENTS = ("config.yaml", "config.json", "seq2seq.json", "selected")
"""What a folder holds that training or a selection wrote; known here without loading what reads it."""
_OWN = re.compile(r"([\w.-]+)=(.+)")  # LANG=PATH

ESCAPES: Mapping[str, str] = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The recordings, what happens to bad ones, and where results go."""
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="audio files, folders, wav.scp files, Kaldi data directories")
    add("--skip-bad", action="store_true", help="leave out recordings that cannot be read; they are named at the end")
    add("--output", type=Path, help="a file instead of the screen, whole or not at all")


def not_with_score(args: argparse.Namespace, parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Raise ConfigError where an option is given that ``--score`` would not heed."""
    if given := [name for name in names if getattr(args, name) != parser.get_default(name)]:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"{options}: for recordings, not for --score; leave it out")


def add_model(parser: argparse.ArgumentParser, routes_needed: bool = True) -> None:
    """``--routes``, the backbone, the device, batches."""
    add = parser.add_argument
    what = "mask packs (s3router pack), experiment folders, or repositories of packs (USER/NAME@REVISION)"
    several = {"nargs": "+", "action": "extend", "default": []}
    add("--routes", **several, type=Path, required=routes_needed, metavar="PACK", help=what)
    add_backbone(parser)


def add_backbone(parser: argparse.ArgumentParser) -> None:
    """The backbone, the device, batches."""
    add = parser.add_argument
    add("--upstream", "--backbone", help="the backbone's name (default: the one that the first pack names)")
    add("--upstream-ckpt", "--backbone-ckpt", help="its checkpoint: path or URL")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 … (%(default)s)")
    add("--batch-seconds", type=float, default=80.0, help="audio in a batch, padding included; 0: singly (%(default)s)")
    add("--bf16", action="store_true", help="bfloat16 autocast")


def add_chunks(parser: argparse.ArgumentParser) -> None:
    """How long recordings are cut."""
    add = parser.add_argument
    add("--max-seconds", type=float, default=30.0, help="longer recordings go in chunks of this length (%(default)s)")
    add("--overlap-seconds", type=float, default=4.0, help="of neighbouring chunks (%(default)s)")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command with recordings as positional arguments.

    What follows ``--`` is a recording, whatever it is called. So is what stands behind ``--routes`` and is no route:
    ``--routes a.pack b.wav``.

    Raises:
        ConfigError: there is no pack behind ``--routes``.
    """
    argv, named = list(argv), []
    if "--" in argv:
        place = argv.index("--")
        argv, named = argv[:place], argv[place + 1 :]
    args = parser.parse_intermixed_args(argv)
    given, args.routes = args.routes, [path for path in args.routes if _is_route(path)]
    if not args.routes:
        raise ConfigError(f"--routes {given[0]}: neither a mask pack (s3router pack writes them) nor an experiment")
    args.inputs += [str(path) for path in given if path not in args.routes] + named
    args.routes = here(args.routes)
    return args


def here(routes: Sequence[Path]) -> list[Path]:
    """The same with the packs of repositories in the place of their addresses; downloads what is missing."""
    from s3router.sharing.address import is_address

    if not any(map(is_address, routes)):
        return list(routes)
    from s3router.sharing.pull import local_packs

    return [Path(path) for path in local_packs(routes)]


def _is_route(path: Path) -> bool:
    """Whether a path among ``--routes`` is meant as one; a pack that is missing or damaged goes by its ending."""
    from s3router.packs.container import looks_like_pack
    from s3router.sharing.address import is_address

    if is_address(path):
        return True
    if path.is_dir():
        return any((path / name).exists() for name in EXPERIMENTS)
    return path.suffix == ".pack" or looks_like_pack(path)


def batch_options(args: argparse.Namespace) -> BatchOptions:
    """What the options say of batches; raises ConfigError."""
    from s3router.asr.ctc_decode import BatchOptions

    chunks = {name: vars(args)[name] for name in ("max_seconds", "overlap_seconds") if name in args}
    return BatchOptions(batch_seconds=args.batch_seconds, bf16=args.bf16, **chunks)


def router(args: argparse.Namespace) -> Router:
    """The resident model, with the options' batches and language classifier."""
    from s3router.api.router import Router
    from s3router.serving.identify_first import Doubt

    more = {"upstream_ckpt": args.upstream_ckpt, "langid": args.langid, "device": args.device}
    more["doubt"] = Doubt(args.best, args.sure)
    return Router(args.upstream, args.routes, **more, options=batch_options(args))


def load(args: argparse.Namespace) -> RoutedModel:
    """The resident model."""
    from s3router.serving.loading import load_routes

    return load_routes(args.routes, args.upstream, args.upstream_ckpt, args.device)


def pairs(given: Sequence[str], option: str, what: str = "LANG", example: str = "es=data/es/test") -> dict[str, Path]:
    """``["es=data/es/test"]`` -> {"es": Path("data/es/test")}; raises ConfigError."""
    return {name: Path(path) for name, path in named(given, option, f"{what}=DIR", example).items()}


def named(given: Sequence[str], option: str, form: str, example: str) -> dict[str, str]:
    """``["yoruba=yor"]`` -> {"yoruba": "yor"}; raises ConfigError, which shows the form and the example."""
    found: dict[str, str] = {}
    for text in given:
        name, _, value = text.partition("=")
        if not name or not value or name in found:
            raise ConfigError(f"{option} {text}: expected {form}, each name once, as in {example}")
        found[name] = value
    return found


class Inputs:
    """The recordings of a command, and those among them that are left out.

    Attributes:
        recordings: with durations.
        bad: index -> what is wrong with it, filled while they are read; None: it is an error.
    """

    def __init__(self, args: argparse.Namespace):
        from s3router.data.recordings import find_recordings

        self._unusable: list[str] | None = [] if args.skip_bad else None
        self.bad: dict[int, str] | None = {} if args.skip_bad else None
        self.recordings: list[Utterance] = find_recordings(args.inputs, self._unusable)

    def in_order[T](self, found: Iterable[tuple[int, T]]) -> Iterator[T]:
        """In the order of the inputs, each as soon as all before it are there."""
        from s3router.serving.reading import in_order

        return in_order(found, self.bad)

    def report(self) -> int:
        """Name what was left out on stderr; returns the exit status."""
        from s3router.files import printable

        problems = [*(self._unusable or ()), *(self.bad or {}).values()]
        for problem in problems:
            print(f"left out: {printable(problem)}", file=sys.stderr)
        return 1 if problems else 0


def write(lines: Iterable[str], output: Path | None) -> None:
    """Print lines as they come, or write all of them to a file, whole or not at all."""
    from s3router.files import write_lines

    if output is not None:
        write_lines(output, lines)
        return
    for line in lines:
        print(line, flush=True)


def cell(text: str) -> str:
    r"""A name as a cell of a table: tabs and line breaks in it as ``\t``, ``\n``, ``\r``, backslashes doubled then."""
    if not any(c in text for c in "\t\n\r"):
        return text
    return text.translate(str.maketrans(ESCAPES))


def warn(message: str) -> None:
    """One line on stderr."""
    print(f"warning: {message}", file=sys.stderr)


def with_progress[T](items: Iterable[T], total: int, printed: bool) -> Iterator[T]:
    """The same items; for many of them, how far it is and how long it takes still.

    On a terminal only, and not where they are `printed` to the same one: that is progress enough.
    """
    from s3router.training.progress import clock

    shown = total > 8 and sys.stderr.isatty() and not (printed and sys.stdout.isatty())
    started = time.monotonic()
    for number, item in enumerate(items, 1):
        if shown:
            left = (time.monotonic() - started) / number * (total - number)
            bar = "#" * (30 * number // total)
            print(f"\r[{bar:30}] {number}/{total}  {clock(left)} left ", end="", file=sys.stderr, flush=True)
        yield item
    if shown:
        print(file=sys.stderr)


def share_bar(what: str) -> Callable[[float], None]:
    """A progress bar, on a terminal only; what is returned moves it to the share that is done, and ends it at 1."""
    if not sys.stderr.isatty():
        return lambda share: None
    from tqdm import tqdm

    shown = tqdm(total=1.0, desc=what, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}")

    def told(share: float) -> None:
        shown.update(share - shown.n)
        if share >= 1:
            shown.close()

    return told


def places(given: Sequence[str], option: str, langs: Sequence[str]) -> dict[str, Path]:
    """Paths by language, of words that are patterns with ``{lang}`` or ``LANG=PATH``.

    Raises:
        ConfigError: two patterns, one without ``{lang}`` for several languages, or a language that is not served.
    """
    own = dict(match.groups() for word in given if (match := _OWN.fullmatch(word)))
    patterns = [word for word in given if not _OWN.fullmatch(word)]
    if unknown := [lang for lang in own if lang not in langs]:
        raise ConfigError(f"{option} {unknown[0]}=…: not one of the languages that are served ({', '.join(langs)})")
    others = [lang for lang in langs if lang not in own]
    if len(patterns) > 1 or (patterns and len(others) > 1 and "{lang}" not in patterns[0]):
        raise ConfigError(f"{option} {' '.join(given)}: give one path with {{lang}} in it, and LANG=PATH for others")
    found = {lang: Path(patterns[0].replace("{lang}", lang)) for lang in others} if patterns else {}
    return found | {lang: Path(path) for lang, path in own.items()}
