"""Feed damaged packs to the reader: each must be refused with a PackError, or give exactly the masks that were packed.

    python tests/packs/fuzz.py [COUNT] [SEED]         (10,000 and 0 without arguments)

Flips bits, cuts and lengthens, lies in the length field, edits header and description as text and as JSON, and splices
files. Half of the files get their checksum put right again, so that the checks behind it are reached. Memory is limited
to what the process has plus half a gigabyte, time to ten seconds a file.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import hashlib
import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from s3router.errors import PackError
from s3router.packs import read_pack, summary, write_pack
from s3router.packs.adapters import adapted, by_target, resident
from tests.packs import conftest

CHECKSUM = slice(37, 101)
NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    7,
    2**31,
    2**63,
    2**64,
    10**30,
    0.5,
    -1e308,
    "",
    "0",
    "\x00",
    "x" * 5000,
    "é\ud800",
]
NASTY += [
    [],
    {},
    [[]],
    [0, 0],
    [-1, 5],
    [2**40, 2**40],
    [0] * 100,
    {"a": 1},
    "BF16",
    "U8",
    "F32",
    "coded",
    "gaps",
    "bits",
    "row",
]

State = tuple[random.Random, list[bytes]]


def split(content: bytes) -> tuple[bytes, bytes]:
    """Header text and tensors."""
    size = int.from_bytes(content[:8], "little")
    return content[8 : 8 + size], content[8 + size :]


def join(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def refix(content: bytes) -> bytes:
    """The file with its checksum put right."""
    changed = bytearray(content)
    changed[CHECKSUM] = b"0" * 64
    changed[CHECKSUM] = hashlib.blake2b(changed, digest_size=32).hexdigest().encode()
    return bytes(changed)


def flip(rng: random.Random, files: list[bytes]) -> bytes:
    content = bytearray(rng.choice(files))
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def cut(rng: random.Random, files: list[bytes]) -> bytes:
    content = rng.choice(files)
    return content[: rng.randrange(len(content))]


def lengthen(rng: random.Random, files: list[bytes]) -> bytes:
    return rng.choice(files) + rng.randbytes(rng.choice((1, 4, 8, 1000)))


def lie_about_length(rng: random.Random, files: list[bytes]) -> bytes:
    content = rng.choice(files)
    size = int.from_bytes(content[:8], "little")
    lies = (0, 1, size - 1, size + 1, size + 8, len(content), 2**24, 2**32, 2**63, 2**64 - 1, rng.getrandbits(64))
    return rng.choice(lies).to_bytes(8, "little") + content[8:]


def edit_text(rng: random.Random, files: list[bytes]) -> bytes:
    """Another byte, a byte more, or a run of bytes less, somewhere in the header."""
    header, data = split(rng.choice(files))
    text, place = bytearray(header), rng.randrange(len(header))
    action = rng.randrange(3)
    if action == 0:
        text[place] = rng.choice(b'{}[],:"\\0123456789-.eE ntf\xff\x00')
    elif action == 1:
        text[place:place] = rng.choice((b"{", b"[" * 100000, b'"a":1,', b"9" * 5000, b"1e999", b"NaN", b"\\ud800"))
    else:
        del text[place : place + rng.choice((1, 2, 10, 100))]
    return join(bytes(text), data)


def edit_number(rng: random.Random, files: list[bytes]) -> bytes:
    """Another number somewhere in the header: a shape, an offset, a count."""
    header, data = split(rng.choice(files))
    spans = [match.span() for match in re.finditer(rb"(?<=[:\[,])\d+(?=[,\]}])", header)]
    start, end = rng.choice(spans)
    old = int(header[start:end])
    new = rng.choice((old + 1, max(0, old - 1), old * 2, 0, 1, 2**32, 2**63, 2**64, rng.randrange(100000), -1))
    return join(header[:start] + str(new).encode() + header[end:], data)


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    found = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *nodes(value[key])]
    return found


def edit_json(rng: random.Random, files: list[bytes]) -> bytes:
    """One node of the header, or of the description inside, replaced, removed, renamed, or swapped with another."""
    header, data = split(rng.choice(files))
    whole = json.loads(header)
    inside = rng.random() < 0.7
    target = json.loads(whole["__metadata__"]["pack"]) if inside else whole
    container, key = rng.choice(nodes(target))
    action = rng.randrange(4)
    if action == 0:
        container[key] = copy.deepcopy(rng.choice(NASTY))
    elif action == 1:
        del container[key]
    elif action == 2 and isinstance(container, dict):
        container[rng.choice(("x", "masks.x", "head.weight", "coded", "edges", "../x", "", key + "x"))] = container.pop(
            key
        )
    else:
        other, place = rng.choice(nodes(target))
        value = copy.deepcopy(container[key])
        container[key] = copy.deepcopy(other[place])
        if key in (container if isinstance(container, dict) else ()) and place in (
            other if isinstance(other, dict) else ()
        ):
            other[place] = value
    if inside:
        whole["__metadata__"]["pack"] = dump(target)
    return join(dump(whole).encode("utf-8", "surrogatepass"), data)


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def splice(rng: random.Random, files: list[bytes]) -> bytes:
    """Header of one and tensors of another, or two halves."""
    a, b = rng.choice(files), rng.choice(files)
    if rng.random() < 0.5:
        return join(split(a)[0], split(b)[1])
    return a[: rng.randrange(len(a))] + b[rng.randrange(len(b)) :]


def shuffle_data(rng: random.Random, files: list[bytes]) -> bytes:
    """Some bytes of the tensors exchanged, or zeroed."""
    header, data = split(rng.choice(files))
    changed, length = bytearray(data), rng.choice((1, 4, 40))
    a, b = (rng.randrange(max(1, len(data) - length)) for _ in range(2))
    changed[a : a + length] = data[b : b + length] if rng.random() < 0.7 else bytes(length)
    return join(header, bytes(changed[: len(data)]))


MUTATIONS: list[Callable[[random.Random, list[bytes]], bytes]] = [
    *(flip, cut, lengthen, lie_about_length, edit_text, edit_number, edit_json, edit_json, splice, shuffle_data)
]


def base_files(folder: Path) -> tuple[torch.nn.Module, list[bytes], list[dict]]:
    """The backbone, packs of both codecs (one with whole rows) and of all methods, and the masks that they hold."""
    backbone = conftest.Backbone()
    pack = conftest.make_pack(backbone)
    rows = {
        name: (torch.arange(len(m)) % 9 > 0)[:, None].expand(m.shape).contiguous() for name, m in pack.masks.items()
    }
    near = conftest.random_masks(backbone, 0.2, correlation=0.8)
    files, masks = [], []
    kinds = [("bits", pack.masks, None)]
    kinds += [(codec, masks, None) for codec in ("coded", "gaps") for masks in (near, rows)]
    kinds += [("bits", {}, method) for method in conftest.ADAPTERS]
    for number, (codec, changed, method) in enumerate(kinds):
        path = folder / f"{number}.pack"
        whole = dataclasses.replace(pack, masks=changed)
        write_pack(path, whole if method is None else conftest.with_adapter(whole, backbone, method), codec, backbone)
        files.append(path.read_bytes())
        masks.append(changed)
    return backbone, files, masks


READERS: tuple[Callable[[Path, torch.nn.Module], Any], ...] = (
    read_pack,
    lambda path, _: read_pack(path),
    lambda path, _: summary.page(summary.figures(path)),
)


def check(path: Path, backbone: torch.nn.Module, files: list[bytes], masks: list[dict]) -> list[str]:
    """Read the file in every way; the messages of refusal. Anything but a refusal or the right masks is an error."""
    refusals = []
    for read in READERS:
        try:
            found = read(path, backbone)
        except PackError as error:
            refusals.append(str(error))
            continue
        if isinstance(found, str):
            continue
        if read is READERS[0] and found.adapter and found.meta.adapter["method"] != "houlsby":
            weights = backbone.state_dict()
            for name, parts in by_target(found.adapter, found.meta.adapter).items():  # what is accepted can be applied
                parts = resident(found.meta.adapter, name, weights[name].shape, parts)
                adapted(found.meta.adapter, weights[name], parts)
        same = [list(m) == list(found.masks) and all(torch.equal(m[n], found.masks[n]) for n in m) for m in masks]
        if not any(same):
            raise AssertionError("a wrong mask was accepted")
    return refusals


def run(count: int, seed: int, limit_memory: bool = True) -> dict[str, Any]:
    """Make and read `count` damaged files. Raises AssertionError, naming the seed of the file, at the first failure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone, files, masks = base_files(folder)
        path = folder / "damaged.pack"
        for content in files:
            path.write_bytes(content)
            check(path, backbone, files, masks)  # everything is imported and allocated by now
        if limit_memory:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + (512 << 20),) * 2)
        tally: collections.Counter[str] = collections.Counter()
        reasons: collections.Counter[str] = collections.Counter()
        started = time.monotonic()
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            mutate = rng.choice(MUTATIONS)
            content = mutate(rng, files)
            fixed = rng.random() < 0.5 and len(content) > CHECKSUM.stop
            content = refix(content) if fixed else content
            path.write_bytes(content)
            signal.alarm(10)
            try:
                refusals = check(path, backbone, files, masks)
            except BaseException as error:
                kept = Path(tempfile.gettempdir()) / f"fuzz_{seed}_{number}.pack"
                kept.write_bytes(content)
                raise AssertionError(
                    f"file {number} of seed {seed} ({mutate.__name__}, kept as {kept}): {error!r}"
                ) from error
            finally:
                signal.alarm(0)
            if not fixed and content not in files and not refusals:
                raise AssertionError(f"file {number} of seed {seed}: changed, its checksum wrong, and not refused")
            tally["refused" if len(refusals) == 3 else "partly refused" if refusals else "read, and right"] += 1
            tally["checksum put right"] += fixed
            reasons.update(
                re.sub(r"[\d,.]+|'[^']*'", "…", text.removeprefix(f"{path}: "))[:36] for text in refusals[:1]
            )
        return {"files": count, **tally, "reasons": dict(reasons.most_common()), "seconds": time.monotonic() - started}


def main() -> int:
    count, seed = (int(word) for word in (*sys.argv[1:], *("10000", "0")[len(sys.argv) - 1 :]))
    result = run(count, seed)
    for reason, times in result.pop("reasons").items():
        print(f"{times:6d}  {reason}")
    print(", ".join(f"{name} {value:,.0f}" for name, value in result.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
