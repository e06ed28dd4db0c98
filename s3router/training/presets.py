"""Training configurations out of parts: ``conf/presets.yaml`` of a recipe.

The file has up to four sections; what comes later wins, mappings such as ``feature_masking`` are merged key by key:

- ``all``: options of every training (any of ``python -m s3router.asr.train``);
- ``methods``: name of a method -> options;
- ``subsets``: name of a labelled subset -> options;
- ``upstreams``: name of an upstream -> options.

``python -m s3router.training.presets conf/presets.yaml --method router --subset 1h --upstream xls_r_300m --output F``
writes the one configuration that results. A method, subset or upstream that the file does not name adds nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import ConfigError, S3RouterError

SECTIONS = ("methods", "subsets", "upstreams")


def read_presets(path: str | Path) -> dict[str, dict]:
    """The sections of a file.

    Raises:
        ConfigError: no such file, not YAML, an unknown section, or options that are no mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not content.keys() <= {"all", *SECTIONS}:
        raise ConfigError(f"{path}: expected the sections all, {', '.join(SECTIONS)}, and no others")
    for section, options in content.items():
        parts = {section: options} if section == "all" else options
        if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
            raise ConfigError(f"{path}: {section}: expected options, as 'name: value' lines")
    return content


def compose(presets: dict[str, dict], *, method: str, subset: str, upstream: str) -> dict:
    """One training configuration out of the sections of `read_presets`."""
    options: dict = {}
    chosen = dict(zip(SECTIONS, (method, subset, upstream), strict=True))
    parts = [presets.get("all", {}), *(presets.get(section, {}).get(name, {}) for section, name in chosen.items())]
    for part in parts:
        for name, value in part.items():
            both = isinstance(value, dict) and isinstance(options.get(name), dict)
            options[name] = {**options[name], **value} if both else value
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status. A file that holds the same already is left as it is."""
    import yaml

    parser = argparse.ArgumentParser(prog="python -m s3router.training.presets", description=__doc__.splitlines()[0])
    parser.add_argument("presets", type=Path)
    parser.add_argument("--method", required=True)
    parser.add_argument("--subset", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        chosen = {"method": args.method, "subset": args.subset, "upstream": args.upstream}
        options = compose(read_presets(args.presets), **chosen)
    except S3RouterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    words = ", ".join(chosen.values())
    text = f"# From {args.presets} for {words}\n{yaml.safe_dump(options, sort_keys=False)}"
    if not args.output.is_file() or args.output.read_text(encoding="utf-8") != text:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        temporary = args.output.with_name(f".{args.output.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
