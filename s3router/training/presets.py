"""Training configurations composed of sections: ``conf/presets.yaml`` of a recipe.

The file has up to four sections; what comes later wins, mappings such as ``feature_masking`` are merged key by key:

- ``all``: options of every training (any of ``s3router train``);
- ``methods``: name of a method -> options;
- ``subsets``: name of a labelled subset -> options;
- ``upstreams``: name of an upstream -> options.

A method, subset or upstream that the file does not name adds nothing.
"""

from __future__ import annotations

from pathlib import Path

from s3router.errors import ConfigError
from s3router.files import read_yaml, replacing

SECTIONS = ("methods", "subsets", "upstreams")


def read_presets(path: str | Path) -> dict[str, dict]:
    """The sections of a file.

    Raises:
        OSError: no such file.
        ConfigError: not YAML, an unknown section, or options that are no mapping.
    """
    content = read_yaml(path)
    if not content.keys() <= {"all", *SECTIONS}:
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


def write_composed(path: str | Path, output: str | Path, *, method: str, subset: str, upstream: str) -> None:
    """Compose a configuration from the file ``path`` and write it; an ``output`` that holds the same is left as it is.

    Raises:
        ConfigError: as `read_presets`.
    """
    import yaml

    options = compose(read_presets(path), method=method, subset=subset, upstream=upstream)
    words = ", ".join((method, subset, upstream))
    text = f"# From {path} for {words}\n{yaml.safe_dump(options, sort_keys=False)}"
    output = Path(output)
    if not output.is_file() or output.read_text(encoding="utf-8") != text:
        with replacing(output) as file:
            file.write(text)
