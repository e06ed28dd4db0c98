"""``s3router upstream``: public checkpoints by name, and any checkpoint by path: list, fetch, check, convert."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    from s3router.upstreams.public import FOLDER_VARIABLE, FORMATS

    result = argparse.ArgumentParser(
        prog="s3router upstream",
        description="Pretrained speech upstreams by their usual names, and checkpoints of any format.",
        epilog=f"Checkpoints are kept in ~/.cache/s3router/upstreams; {FOLDER_VARIABLE} names another folder.",
    )
    actions = result.add_subparsers(dest="action", required=True, metavar="list | fetch | check | known | convert")
    names = actions.add_parser("list", help="the public upstreams, and which of them are there")
    names.add_argument("--all", action="store_true", help="every name that --upstream takes, s3prl's included")

    fetch = actions.add_parser("fetch", help="download and check public upstreams")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="names from the list")
    fetch.add_argument("--format", choices=FORMATS, help="which of its formats (default: the first)")
    fetch.add_argument("--file", type=Path, help="take this file (or HuggingFace folder) instead of the download")
    fetch.add_argument("--refresh", action="store_true", help="download even what is there")

    check = actions.add_parser("check", help="load an upstream and say what it is")
    check.add_argument("source", metavar="NAME_OR_PATH", help="name from the list, file, or folder of any format")

    known = actions.add_parser("known", help="refuse a name that cannot be loaded, before anything is prepared for it")
    known.add_argument("name", metavar="NAME", help="as --upstream takes it")
    known.add_argument("--upstream-ckpt", "--upstream_ckpt", metavar="PATH", help="as in training")

    convert = actions.add_parser("convert", help="write a HuggingFace folder (safetensors) from any format")
    convert.add_argument("source", metavar="FILE", help="file or folder of any format that s3router reads")
    convert.add_argument("folder", metavar="FOLDER", help="a new folder")
    return result


def listing() -> str:
    """A table of the upstreams: name, size, formats (with * those that are there)."""
    from s3router.upstreams.public import catalogue, presets, upstreams_folder

    rows = [("name", "family", "parameters", "formats (* is there)", "also called")]
    for name, preset in presets().items():
        entry = catalogue().get(name)
        there = [] if entry is None else entry.present()
        formats = "ships with s3router*" if entry is None else " ".join(k + "*" * (k in there) for k in entry.files)
        size = f"{preset['size']['parameters_million']:.0f} M"
        rows.append((name, preset["family"], size, formats, " ".join(preset.get("aliases", ()))))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    return "\n".join([*(line.rstrip() for line in lines), f"in {upstreams_folder()}"])


def fetch_all(args: argparse.Namespace) -> None:
    """Download (or take) and check each name."""
    from s3router.errors import ConfigError
    from s3router.upstreams.download import Ledger
    from s3router.upstreams.public import catalogue, fetch, fetch_tokenizer, find_public, upstreams_folder

    unknown = [name for name in args.names if find_public(name) is None]
    if unknown:
        raise ConfigError(f"not public upstreams: {', '.join(unknown)}. Known: {', '.join(catalogue())}.")
    if args.file and len(args.names) > 1:
        raise ConfigError("--file is for one name.")
    ledger = Ledger(upstreams_folder())
    for name in args.names:
        path = fetch(find_public(name), args.format, args.file, args.refresh)
        files = [path] if path.is_file() else sorted(file for file in path.iterdir() if ledger.describe(file))
        vocabulary = find_public(name).size.get("vocabulary")
        if vocabulary and args.file is None:  # a whole recogniser needs it
            files.append(fetch_tokenizer(vocabulary, args.refresh))
        for file in files:
            entry = ledger.describe(file)
            print(f"{file}  {entry['size']} bytes  SHA-256 {entry['sha256']} ({entry['checked']})")


def check(source: str) -> None:
    """Load the upstream, run it on a second of noise, print what it is."""
    import torch

    from s3router.data.audio import SAMPLE_RATE
    from s3router.upstreams.hub import build

    path = Path(source)
    routed = build(ckpt=source, upstream="auto") if path.exists() else build(upstream=source)
    backbone, expert = routed.backbone, routed.expert
    with torch.no_grad():
        hidden = routed.eval()([torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0))])["hidden_states"]
    normalize = getattr(expert, "normalize", getattr(expert, "wav_normalize", None))
    eps = getattr(expert, "normalize_eps", None)
    said = {True: "to unit variance" + (f", {eps:g} added" if eps else ""), False: "no"}.get(normalize, "not known")
    total = sum(parameter.numel() for parameter in backbone.parameters())
    print(f"model           {type(backbone).__name__} of {type(backbone).__module__.split('.')[0]}")
    print(f"parameters      {total:,d}")
    print(f"hidden states   {len(hidden)} of width {hidden[-1].shape[-1]}, {hidden[-1].shape[1]} frames per second")
    print(f"normalisation   {said}")
    print(f"fingerprint     {routed.backbone_fingerprint}")
    print("all weights were found, and none was left over")


def main(argv: Sequence[str]) -> int:
    """Run one of list, fetch, check, known, convert."""
    args = parser().parse_args(argv)
    if args.action == "list" and args.all:
        from s3router.upstreams.hub import all_names

        print("\n".join(all_names()))
    elif args.action == "list":
        print(listing())
    elif args.action == "known":
        from s3router.upstreams.hub import check_name

        check_name(args.name, args.upstream_ckpt)
    elif args.action == "fetch":
        fetch_all(args)
    elif args.action == "check":
        check(args.source)
    else:
        from s3router.upstreams.formats import read_any

        print(f"{args.source} written as a HuggingFace folder: {read_any(Path(args.source)).save(args.folder)}")
    return 0
