"""``s3router analyze``: what the masks of packs say about languages, tasks and layers, on one page.

s3router analyze es.pack it.pack ru.pack -o analysis
s3router analyze exp/packs/*.pack -o analysis --language lid=eng --audio data/dev --markdown ANALYSIS.md

The folder gets index.html, which is readable offline, the figures as SVG, and the tables as CSV.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.cli.route_options import named, places, share_bar
from s3router.errors import ConfigError

if TYPE_CHECKING:
    from s3router.data.kaldi import DataDir


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router analyze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("packs", nargs="+", type=Path, metavar="PACK", help="mask packs of one backbone, or experiment folders")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the page, figures and tables")
    add("--markdown", type=Path, metavar="FILE", help="also write a Markdown page that shows the figures in DIR")
    add("--upstream", "--backbone", help="the backbone's name (default: the one that the first pack names)")
    add("--upstream-ckpt", "--backbone-ckpt", help="its checkpoint: path or URL")
    add("--device", default="cpu", help="where audio is heard: cpu, cuda, cuda:1 … (%(default)s)")
    without = "do not load the backbone: no initial masks, magnitudes, heads, representations"
    add("--bits-only", action="store_true", help=without)
    languages = "the language of a route whose name is no code of it, as in asr1=yor (ISO 639), or none, as in st=none"
    add("--language", nargs="+", action="extend", default=[], metavar="ROUTE=CODE", help=languages)
    sets = "typological features of lang2vec, or none (default: inventory phonology syntax family geography)"
    add("--typology", nargs="+", metavar="SET", help=sets)
    relate = (
        "another measure of pairs: a table with the columns a, b (routes) and value, such as error rates of transfer"
    )
    add("--relate", nargs="+", action="extend", default=[], metavar="NAME=CSV", help=relate)
    audio = (
        "recordings, folders, wav.scp files or data directories that frozen and routed representations are compared on"
    )
    add("--audio", nargs="+", action="extend", default=[], metavar="INPUT", help=audio)
    speech = (
        "data directories with texts of the routes' own languages, on which the purity of characters is measured with "
        "and without masks: a path with {lang} in it, and LANG=PATH for others"
    )
    add("--speech", nargs="+", action="extend", default=[], metavar="DIR", help=speech)
    add("--frames", type=int, default=512, help="frames of each batch of audio that are compared (%(default)s)")
    permutations = "random permutations of each test when there are more than eight routes (%(default)s)"
    add("--permutations", type=int, default=9_999, help=permutations)
    add(
        "--command",
        help="what the pages name as the command that wrote them, such as that of a recipe (default: this one)",
    )
    add("--seed", type=int, default=0, help="seed for permutations, frames and k-means (%(default)s)")
    return result


def speech_of(given: Sequence[str], packs: Sequence[Path]) -> dict[str, DataDir]:
    """The data directories of ``--speech`` by route; raises ConfigError, DataError."""
    from s3router.analysis.mask_set import routes_of
    from s3router.data.kaldi import DataDir

    found = places(given, "--speech", list(dict.fromkeys(routes_of(packs)))) if given else {}
    return {route: DataDir.read(path).with_durations() for route, path in found.items()}


def main(argv: Sequence[str]) -> int:
    """Read the packs, compute, write; what is done is said on stderr."""
    args = parser().parse_args(argv)
    for option, value, least in (("--frames", args.frames, 4), ("--permutations", args.permutations, 1)):
        if value < least:
            raise ConfigError(f"{option} {value}: at least {least} are needed")
    if not 0 <= args.seed < 2**32:
        raise ConfigError(f"--seed {args.seed}: a whole number from 0 up to 2^32 is needed")
    typology = None if args.typology is None else tuple(name for name in args.typology if name != "none")
    languages = named(args.language, "--language", "ROUTE=CODE", "yoruba=yor")
    tables = named(args.relate, "--relate", "NAME=CSV", "transfer=transfer.csv")
    relate = {name: Path(path) for name, path in tables.items()}
    from s3router.analysis.page import check_apart, write
    from s3router.analysis.report import Job, analyse
    from s3router.data.recordings import find_recordings

    check_apart(args.output, [*relate.values(), *args.packs, *map(Path, args.audio)], args.markdown)
    job = Job(
        sources=tuple(args.packs),
        upstream=args.upstream,
        ckpt=args.upstream_ckpt,
        device=args.device,
        bits_only=args.bits_only,
        languages=languages,
        typology=typology,
        relate=relate,
        recordings=find_recordings(args.audio) if args.audio else (),
        speech=speech_of(args.speech, args.packs),
        frames=args.frames,
        permutations=args.permutations,
        seed=args.seed,
    )
    found = analyse(job, lambda text: print(text, file=sys.stderr), share_bar)
    command = args.command or shlex.join(["s3router", "analyze", *argv])
    written = write(found, args.output, command, args.markdown)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{args.output / 'index.html'} and {len(written) - 1} more files")
    return 0
