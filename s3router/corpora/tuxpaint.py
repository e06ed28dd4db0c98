"""The spoken names of Tux Paint's drawings in eleven languages: speech for pretraining."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, folder_of
from s3router.corpora.trimming import write_trimmed
from s3router.errors import DataError

PACKAGE, STAMPS = "tuxpaint-stamps-default", "usr/share/tuxpaint/stamps"


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare the descriptions of some 900 drawings, spoken by volunteers in eleven languages.

    Corpus: Debian's package ``tuxpaint-stamps-default``; egs/asterisk/sid1/local/fetch.sh fetches it. Licence: GPL-2.

    Layout of ``source``: the unpacked package, with usr/share/tuxpaint/stamps/**/NAME_desc_LANG.ogg.

    Writes ``wav.scp``, ``utt2spk`` and ``wav`` (16 kHz) into ``target``, without the silence around the speech. The
    language stands in for the speaker, who is not named. There are no transcripts.

    Args:
        source: folder of the unpacked package.
        target: folder to write.

    Raises:
        DataError: not that package, or nothing in it can be used.
    """
    source = folder_of(source, f"the unpacked package {PACKAGE}")
    if not (source / STAMPS).is_dir():
        raise DataError(f"{source}: no {STAMPS} in it; name the unpacked package {PACKAGE}")
    return write_trimmed(descriptions(source), target)


def descriptions(source: Path) -> Iterator[tuple[str, str, Path]]:
    """(utterance, speaker, file) of every spoken description, by path."""
    for path in sorted(source.rglob("*_desc_*.ogg")):
        name = path.stem.removesuffix(".ogg")
        lang = name.rsplit("_", 1)[1]
        folder = path.parent.relative_to(source / STAMPS).as_posix().replace("/", "_")
        yield f"stamps{lang}-{folder}_{name}", f"stamps{lang}", path
