"""The file around a pack: safetensors, read strictly, with a checksum over all of it.

The layout is safetensors' own (8 bytes header length, JSON header, tensors), so any safetensors library opens it. It is
read here by hand because a pack may come from anywhere: every number in the header is held against the size of the file
before anything is allocated, and no two readings of one file are possible (no duplicate keys, holes or overlaps).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from s3router.errors import PackError
from s3router.files import printable, replacing

FORMAT = "s3router-pack"
LANGID = "s3router-langid"
KINDS = {FORMAT: ("a mask pack", "s3router pack"), LANGID: ("a language classifier", "s3router langid --fit")}
"""Kind of file -> what it is, and the command that writes it."""
MAX_HEADER = 4 << 20
MAX_FILE = 4 << 30
_DIGITS = 64
_START = b'{"__metadata__":{"checksum":"'
_PLACE = 8 + len(_START)  # of the checksum's digits in the file
_DTYPES = {
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: its bits
    "F32": np.dtype("<f4"),
}
_KEYS = {"checksum", "format", "format_version", "pack"}


def refuse(path: str | os.PathLike, what: str, todo: str = "Copy or download the file again.") -> NoReturn:
    """Raise the PackError: what is wrong with the file, and what to do."""
    raise PackError(printable(f"{path}: {what}. {todo}"))


def looks_like_pack(path: str | os.PathLike) -> bool:
    """Whether a file begins as a pack does; nothing else of it is checked."""
    try:
        with _opened(path) as file:
            return file.read(_PLACE)[8:] == _START
    except OSError:
        return False


def write_container(
    path: str | os.PathLike,
    tensors: Mapping[str, tuple[str, np.ndarray]],
    version: int,
    pack: Mapping[str, Any],
    kind: str = FORMAT,
) -> int:
    """Write name -> (safetensors dtype, array) and the JSON object `pack`, whole or not at all; returns the bytes.

    The same content always gives the same bytes.

    Raises:
        PackError: too large, or the path is no file; OSError: a full disk, no permission, and the like.
    """
    header: dict[str, Any] = {
        "__metadata__": {
            "checksum": "0" * _DIGITS,
            "format": kind,
            "format_version": str(version),
            "pack": json.dumps(pack, ensure_ascii=False, separators=(",", ":"), allow_nan=False),
        }
    }
    # Widest types first, as safetensors does: every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, name))
    end = 0
    for name in order:
        dtype, array = tensors[name]
        start, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER or 8 + len(text) + end > MAX_FILE:
        raise PackError(f"{path}: a pack of {8 + len(text) + end:,} bytes is too large for the format; mask less")
    content = bytearray(len(text).to_bytes(8, "little") + text)
    for name in order:
        dtype, array = tensors[name]
        content += np.ascontiguousarray(array, dtype=_DTYPES[dtype]).tobytes()
    content[_PLACE : _PLACE + _DIGITS] = hashlib.blake2b(content, digest_size=_DIGITS // 2).hexdigest().encode()
    path = Path(path)
    if path.exists() and not path.is_file():  # a device or pipe must not be replaced by a file
        raise PackError(f"{path}: cannot be written (not a file). Name a .pack file.")
    with replacing(path, "wb") as file:
        file.write(content)
    return len(content)


def read_container(
    path: str | os.PathLike, version: int, kind: str = FORMAT
) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, Any], int, int]:
    """The tensors (read-only views, BF16 as its bits), the JSON object, the format and the bytes of a file.

    Args:
        path: the file.
        version: the newest format that can be read.
        kind: what it should be, one of `KINDS`.

    Raises:
        PackError: anything about the file is not as `write_container` makes it.
    """
    content = _read(path)
    size = int.from_bytes(content[:8], "little")
    if not 2 <= size <= min(MAX_HEADER, len(content) - 8):
        refuse(path, f"not a mask pack, or cut short ({len(content):,} bytes, of which the header would be {size:,})")
    header = _json(path, content[8 : 8 + size], "header")
    metadata = header.pop("__metadata__", None)
    _check_metadata(path, metadata, version, kind)
    if (lacking := 8 + size + _end_of(header) - len(content)) > 0:
        refuse(path, f"cut short: {lacking:,} bytes are missing")
    _check_sum(path, content, metadata["checksum"])
    arrays = _arrays(path, header, memoryview(content)[8 + size :])
    description = _json(path, metadata["pack"].encode(), "description")
    return arrays, description, int(metadata["format_version"]), len(content)


def kind_of(path: str | os.PathLike) -> str | None:
    """Which of `KINDS` a file says that it is, unchecked; None: neither, or it cannot be read."""
    try:
        with _opened(path) as file:
            size = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(size if size <= MAX_HEADER else 0))["__metadata__"]
            return metadata["format"] if metadata["format"] in KINDS else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


class _NoFileError(OSError):
    """A device, a pipe or the like."""


def _opened(path: str | os.PathLike) -> BinaryIO:
    """A file to read; raises OSError. Does not wait for somebody to write into a pipe."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _NoFileError
    return file


def _read(path: str | os.PathLike) -> bytes:
    try:
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE:
                refuse(path, f"{size:,} bytes are more than a pack can have ({MAX_FILE:,})")
            return file.read(size)
    except _NoFileError:
        refuse(path, "not a file", "Name a .pack file.")
    except FileNotFoundError:
        refuse(path, "no such pack", "Correct the path, or write one with s3router pack.")
    except OSError as error:
        refuse(path, f"cannot be read ({error.strerror})", "Check the path and its permissions.")


def _json(path: str | os.PathLike, text: bytes, what: str) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN, infinities, or text that is not Unicode."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    def finite(text: str) -> float:
        if not np.isfinite(value := float(text)):
            raise ValueError(f"{text} is not a finite number")
        return value

    try:
        value = json.loads(text.decode(), object_pairs_hook=unique, parse_constant=finite, parse_float=finite)
        json.dumps(value, ensure_ascii=False).encode()  # fails on half a surrogate pair
    except (ValueError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        refuse(path, f"its {what} is damaged ({error})")
    if not isinstance(value, dict):
        refuse(path, f"its {what} is damaged (a {type(value).__name__} where an object is due)")
    return value


def _check_metadata(path: str | os.PathLike, found: Any, version: int, kind: str) -> None:
    what, command = KINDS[kind]
    if not isinstance(found, dict) or found.get("format") != kind:
        other = KINDS.get(str(found.get("format")) if isinstance(found, dict) else "", ("a safetensors file",))[0]
        refuse(path, f"{other}, but not {what}", f"Name a file that {command} has written.")
    number = found.get("format_version")
    if not isinstance(number, str) or not number.isascii() or not number.isdigit() or len(number) > 9:
        refuse(path, f"format version {number!r} is none")
    if int(number) > version:
        refuse(path, f"pack format {int(number)}, and this s3router reads up to {version}", "Install a newer s3router.")
    if int(number) < 1:
        refuse(path, f"there is no pack format {int(number)}")
    if found.keys() != _KEYS or not all(isinstance(value, str) for value in found.values()):
        refuse(path, f"its metadata should be {', '.join(sorted(_KEYS))}, and are {', '.join(sorted(found))[:200]}")


def _check_sum(path: str | os.PathLike, content: bytes, checksum: str) -> None:
    """The checksum is that of the file with zeros in the checksum's own place."""
    end = _PLACE + _DIGITS
    if content[8:_PLACE] != _START or content[_PLACE:end] != checksum.encode():
        refuse(path, "its checksum is not where it belongs")
    total = hashlib.blake2b(content[:_PLACE], digest_size=_DIGITS // 2)
    total.update(b"0" * _DIGITS)
    total.update(memoryview(content)[end:])
    if total.hexdigest() != checksum:
        refuse(path, "damaged: its content does not give its checksum")


def _arrays(path: str | os.PathLike, header: dict[str, Any], data: memoryview) -> dict[str, tuple[str, np.ndarray]]:
    """Views of the tensors, which must fill `data` one behind the other."""
    entries = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            refuse(path, f"tensor {name!r}: its header entry is damaged")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            refuse(path, f"tensor {name!r}: packs have no dtype {str(dtype)[:20]}")
        if not (_whole(shape) and _whole(offsets) and len(shape) <= 8 and len(offsets) == 2):
            refuse(path, f"tensor {name!r}: its shape or place is damaged")
        entries.append((offsets[0], offsets[1], name, dtype, shape))
    arrays, end = {}, 0
    for start, stop, name, dtype, shape in sorted(entries, key=lambda entry: entry[:3]):
        count = 1
        for length in shape:
            count *= length
        if start != end or stop - start != count * _DTYPES[dtype].itemsize or stop > len(data):
            refuse(path, f"tensor {name!r}: {shape} of {dtype} at bytes {start} to {stop} does not fit the file")
        end = stop
        flat = np.frombuffer(data[start:stop], _DTYPES[dtype]) if count else np.empty(0, _DTYPES[dtype])
        try:
            arrays[name] = dtype, flat.reshape(shape)
        except ValueError:  # beside a side of 0, others may be too long for numpy
            refuse(path, f"tensor {name!r}: its shape or place is damaged")
    if end != len(data):
        refuse(path, f"{len(data) - end:,} bytes behind its last tensor")
    return arrays


def _end_of(header: dict[str, Any]) -> int:
    """Where the last tensor should end, in bytes behind the header; 0 where that is not to be seen."""
    places = [entry.get("data_offsets") for entry in header.values() if isinstance(entry, dict)]
    return max((place[-1] for place in places if _whole(place) and place), default=0)


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= MAX_FILE for value in values)
