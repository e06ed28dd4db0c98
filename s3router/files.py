"""Writing files so that a kill, a full disk or a second process never leaves half of one: the only writer there is.

The content goes to a file beside the target, under a name that no other process or thread has, is flushed to disk, and
then takes the target's place by a rename.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from s3router.errors import ConfigError, DataError

UNFINISHED = ".*.tmp"
"""Glob pattern of what a killed process may leave beside its target."""
_HOST = f"{zlib.crc32(os.uname().nodename.encode()):08x}"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_DRAFT = re.compile(r"\.(?P<pid>\d+)-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.tmp$")


class _Draft(io.FileIO):
    """A file that names itself when it cannot be written to, and remembers it."""

    failure: OSError | None = None

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = OSError(error.errno, error.strerror, self.name)
            raise self.failure from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """A file object whose content replaces ``path`` when the block ends without an error; otherwise nothing changes.

    The folder is created if missing. A symbolic link is followed. A device or pipe, such as /dev/stdout, is written to
    instead of being replaced.

    Args:
        path: the target.
        mode: "w" (UTF-8, no translation of line ends) or "wb".

    Raises:
        DataError: ``path`` is a folder.
        OSError: the disk is full, no permission, and the like; ``path`` is as it was before.
    """
    path = Path(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    if path.is_dir():
        raise DataError(f"{path}: a folder; name a file to write")
    if path.exists() and not path.is_file():
        with open(path, mode, **text) as file:
            yield file
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = unfinished(path)
    raw = None
    try:
        raw = _Draft(os.fspath(draft), "x")
        file = io.BufferedWriter(raw) if "b" in mode else io.TextIOWrapper(io.BufferedWriter(raw), **text)
        with file:
            yield file
            file.flush()
            os.fsync(raw.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.filename == os.fspath(draft):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None  # of the file that was asked for
        raise
    except Exception:
        if raw is not None and raw.failure:  # torch.save puts an error of its own in place of it
            raise OSError(raw.failure.errno, raw.failure.strerror, os.fspath(path)) from None
        raise
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A new, empty folder that becomes ``path`` when the block ends without an error, and is removed otherwise.

    Raises:
        DataError: ``path`` exists and is not an empty folder when the block ends.
    """
    path = Path(path)
    path = path.parent.resolve() / path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = unfinished(path)
    draft.mkdir()
    try:
        yield draft
        for file in draft.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _sync_file(file)
        try:
            os.rename(draft, path)  # also onto an empty folder
        except OSError as error:
            if path.exists():
                raise DataError(f"{path} exists already: remove it, or name another folder") from error
            raise
    except Exception as error:
        if not isinstance(error, OSError) and (
            found := _OS_ERROR.search(str(error))
        ):  # safetensors has errors of its own
            raise OSError(int(found[1]), os.strerror(int(found[1])), os.fspath(path)) from None
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _sync_folder(path.parent)


def move(source: str | os.PathLike, path: str | os.PathLike) -> None:
    """Let the finished file ``source`` take the place of ``path``, on the same file system, once it is on the disk."""
    _sync_file(Path(source))
    os.replace(source, path)
    _sync_folder(Path(path).parent)


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal might obey: files may come from anywhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_utf8(path: str | os.PathLike) -> str:
    """The content of a text file, without a byte order mark. Raises DataError where it is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {number} is not UTF-8 ({error.reason}); convert it, as by iconv -f latin1 -t utf-8"
        ) from None


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    """Write ``lines`` to ``path`` as `replacing` does. A folder is refused before ``lines`` is asked for anything."""
    with replacing(path) as file:
        file.writelines(f"{line}\n" for line in lines)


def write_json(path: str | os.PathLike, value: Any, indent: int | None = 1) -> None:
    """Write ``value`` as JSON, in UTF-8, as `replacing` does."""
    with replacing(path) as file:
        json.dump(value, file, indent=indent, ensure_ascii=False)
        file.write("\n")


def read_json(path: str | os.PathLike, remedy: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        remedy: how the user gets a good file, such as "decode the set again", for messages.

    Raises:
        DataError: the file is missing or damaged, or holds something else than an object.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {remedy}") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"{path} is damaged ({error}); remove it, and {remedy}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged (it holds no object); remove it, and {remedy}")
    return content


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """What a YAML file of ``name: value`` lines holds.

    Raises:
        ConfigError: no YAML, or something else than a mapping; a name stands twice in one, where YAML would drop the
            first without a word.
        OSError: no such file, or one that cannot be read.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        content, twice = yaml.safe_load(text), list(_twice(yaml.compose(text, yaml.SafeLoader)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if twice:
        raise ConfigError(f"{path}: {'; '.join(twice)}")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected options, as 'name: value' lines")
    return content


def _twice(root: Any) -> Iterator[str]:
    """Names that stand twice in a mapping of YAML's."""
    import yaml

    nodes = {id(root): root}  # an alias is the node that it names
    for_later = [root]
    while for_later:
        node = for_later.pop(0)
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        lines: dict[tuple[str, str], int] = {}
        for key, _ in pairs:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                yield f"{key.value} stands twice, in lines {lines[name]} and {line}"
            lines[name] = line
        inside = [value for _, value in pairs] or (node.value if isinstance(node, yaml.SequenceNode) else [])
        new = [value for value in inside if id(value) not in nodes]
        nodes |= {id(value): value for value in new}
        for_later += new


def link(path: str | os.PathLike, target: str) -> None:
    """Make ``path`` a symbolic link to ``target`` (a path relative to its folder), replacing what was there at once."""
    path = Path(path)
    if path.is_symlink() and os.readlink(path) == target:
        return
    draft = unfinished(path)
    draft.symlink_to(target)
    try:
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """A name beside ``path`` that nobody else has; it matches `UNFINISHED`."""
    name = os.fsencode(path.name)[:180].decode(errors="ignore")  # names end at 255 bytes
    return path.with_name(f".{name}.{os.getpid()}-{_HOST}-{secrets.token_hex(4)}.tmp")


def clean_unfinished(folder: str | os.PathLike) -> None:
    """Remove what killed processes of this machine have left in ``folder``; what others are writing now stays."""
    for path in Path(folder).glob(UNFINISHED):
        found = _DRAFT.search(path.name)
        if not found or found["host"] != _HOST or _is_alive(int(found["pid"])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse to sync folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
