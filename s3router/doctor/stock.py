"""The upstreams that were fetched, and the packs in folders."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from s3router.errors import CheckpointError, PackError

NOT_EXAMINED: dict[str, Any] = {"folder": None, "shipped": [], "fetched": [], "not_fetched": []}
"""In the place of `upstreams`, where nothing can be read."""


def upstreams() -> dict[str, Any]:
    """The folder of upstreams; name -> formats that are there, with bytes and what is wrong; names not fetched.

    Sizes are compared, contents are not read: whoever loads a file checks it.
    """
    from s3router.upstreams.download import Ledger
    from s3router.upstreams.public import catalogue, upstreams_folder

    folder = upstreams_folder()
    ledger = Ledger(folder)
    fetched: list[dict[str, Any]] = []
    for entry in catalogue().values():
        for kind in entry.present():
            files = [(entry.place(kind) / remote.name, remote) for remote in entry.needed(kind)]
            wrong = []
            for file, remote in files:
                try:
                    wanted = remote.size or (ledger.describe(file) or {}).get("size")
                except CheckpointError as error:  # the list of what was fetched is damaged
                    wrong.append(str(error))
                    continue
                if wanted is not None and wanted != (size := file.stat().st_size):
                    wrong.append(f"{file} has {size} bytes instead of {wanted}")
            nbytes = sum(file.stat().st_size for file, _ in files)
            fetched.append({"name": entry.name, "format": kind, "bytes": nbytes, "problem": "; ".join(wrong) or None})
    here = {each["name"] for each in fetched}
    return {
        "folder": str(folder),
        "shipped": ["tiny"],
        "fetched": fetched,
        "not_fetched": [name for name in catalogue() if name not in here],
    }


def packs(sources: Collection[Path], backbones: Collection[str]) -> Iterator[dict[str, Any]]:
    """What each pack among files and folders is, and what is wrong with it.

    Args:
        backbones: names of the upstreams that are here.
    """
    from s3router.packs import summary
    from s3router.server.catalogue import packs_in

    for file in packs_in(sources):
        try:
            found = summary.figures(file)
        except (PackError, OSError) as error:
            yield {"file": str(file), "problem": str(error)}
            continue
        keys = ("file", "route", "kind", "backbone")
        here = found["backbone"] in backbones
        yield {key: found[key] for key in keys} | {
            "bytes": sum(found["bytes"].values()),
            "backbone_is_here": here,
            "problem": None,
        }
