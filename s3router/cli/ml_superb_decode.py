"""``s3router ml-superb-decode``: language and text of data directories, as the ML-SUPERB 2.0 challenge asks for them.

    s3router ml-superb-decode exp/masks --data data/all/test data/all/dialect --output-dir exp/masks/decode

The folder holds packs, one for each language, and langid.pack. Writes OUTPUT-DIR/NAME/text of each directory, lines of
'UTTERANCE [iso] text', which s3router ml-superb-score reads.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from s3router.cli import route_options
from s3router.errors import ConfigError, DataError


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router ml-superb-decode", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("folder", type=Path, metavar="FOLDER", help="packs and langid.pack")
    add("--data", nargs="+", type=Path, required=True, metavar="DIR", help="Kaldi data directories")
    add("--output-dir", type=Path, required=True, help="where a folder for each of them is written")
    add("--best", type=int, help="where the classifier is in doubt, so many routes decode (settings.json, else 1)")
    add("--sure", type=float, help="the probability from which on it is not (settings.json, else 0.9)")
    add("--true-lid", action="store_true", help="the languages are those of DIR/reference, and not looked for")
    route_options.add_backbone(result)
    route_options.add_chunks(result)
    return result


def main(argv: Sequence[str]) -> int:
    """Load the folder, decode, write."""
    args = parser().parse_args(argv)
    options = route_options.batch_options(args)
    from dataclasses import replace

    from s3router.data.kaldi import DataDir, summary
    from s3router.data.ml_superb_text import split_tag, tagged
    from s3router.scoring.files import read_text, write_text
    from s3router.serving.ml_superb import API

    twice = [name for name, count in Counter(path.name for path in args.data).items() if count > 1]
    if twice:
        raise ConfigError(f"--data: two sets are called {', '.join(twice)}, and would be written to one folder")
    sets = {path: DataDir.read(path, need_text=False).with_durations() for path in args.data}
    references = {path: read_text(path / "reference") for path in args.data if args.true_lid}
    for path in references:
        missing = [utt.utt for utt in sets[path].utts if utt.utt not in references[path]]
        if missing:
            raise DataError(summary(path / "reference", [f"{utt}: no line of it" for utt in missing]))
    api = API(args.folder, args.device, args.upstream, args.upstream_ckpt)
    given = {name: value for name in ("best", "sure") if (value := getattr(args, name)) is not None}
    api.doubt = replace(api.doubt, **given)
    for path, data in sets.items():
        lids = [split_tag(references[path][utt.utt])[0] for utt in data.utts] if args.true_lid else None
        found = api.decode(data.utts, lids, options)
        output = args.output_dir / path.name / "text"
        write_text(output, {utt: tagged(*heard) for utt, heard in found.items()})
        print(f"{output}: {len(found)} utterances in {len({lang for lang, _ in found.values()})} languages")
    return 0
