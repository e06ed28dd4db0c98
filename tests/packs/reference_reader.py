"""A second reader of packs, written from docs/packs.md alone: slow, and sharing nothing with s3router."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib

from numpy.random import PCG64


def read(path, weights=None):
    """(description, {mask name: rows of 0 and 1}, {tensor name: (dtype, shape, bytes)}).

    `weights`: name -> the backbone's matrix as a list of all its float32 values, for "coded" and "gaps".
    """
    with open(path, "rb") as file:
        content = file.read()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__")
    assert metadata["format"] == "s3router-pack"
    assert metadata["format_version"] in ("1", "2")
    start = 8 + len('{"__metadata__":{"checksum":"')
    assert content[start : start + 64].decode() == metadata["checksum"]
    zeroed = content[:start] + b"0" * 64 + content[start + 64 :]
    assert hashlib.blake2b(zeroed, digest_size=32).hexdigest() == metadata["checksum"]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = entry["dtype"], entry["shape"], content[8 + size + begin : 8 + size + end]
    description = json.loads(metadata["pack"])
    assert ("adapter" in description["meta"]) == (metadata["format_version"] == "2")
    if description["codec"] == "bits":
        flat = {name: unpack(tensors[f"masks.{name}"][2], entry) for name, entry in description["masks"].items()}
    elif description["codec"] == "coded":
        flat = decode(tensors["coded"][2], description["masks"], weights)
    else:
        flat = gaps(tensors["gaps"][2], tensors["flags"][2], description["masks"], weights)
    digest = hashlib.blake2b(digest_size=32)
    masks = {}
    for name, bits in flat.items():
        rows, columns = description["masks"][name]["shape"]
        assert bits.count(0) == description["masks"][name]["removed"]
        digest.update(f"{name} {rows} {columns}\n".encode())
        digest.update(pack(bits))
        masks[name] = [bits[row * columns : (row + 1) * columns] for row in range(rows)]
    assert digest.hexdigest() == description["masks_digest"]
    return description, masks, tensors


def adapted(description, tensors, name, weight):
    """A backbone's matrix `name`, rows of numbers, as the pack's adapter makes it."""
    settings = description["meta"]["adapter"]
    part = {
        key.removeprefix(f"adapter.{name}."): numbers(*tensor)
        for key, tensor in tensors.items()
        if key.startswith(f"adapter.{name}.")
    }
    rows, columns = len(weight), len(weight[0])
    if not part:
        return weight
    if settings["method"] in ("lora", "dora"):
        a, b = part["lora_A"], part["lora_B"]
        rank = len(a) // columns
        product = [
            [sum(b[row * rank + r] * a[r * columns + column] for r in range(rank)) for column in range(columns)]
            for row in range(rows)
        ]
        changed = [
            [w + settings["scale"] * p for w, p in zip(*pair, strict=True)]
            for pair in zip(weight, product, strict=True)
        ]
        if settings["method"] == "dora":
            for row, magnitude in zip(changed, part["magnitude"], strict=True):
                length = math.sqrt(sum(value * value for value in row))
                row[:] = [magnitude * value / length for value in row]
        return changed
    if settings["method"] == "row_scale":
        return [[scale * w for w in row] for scale, row in zip(part["row_scale"], weight, strict=True)]
    flat = [value for row in weight for value in row]
    if settings["method"] == "sparse_delta":
        for place, value in zip(
            positions(name, len(flat), len(part["values"]), settings["seed"]), part["values"], strict=True
        ):
            flat[place] += value
    else:
        signs = unpack(tensors[f"adapter.{name}.signs"][2], {"shape": [rows, columns]})
        flat = [value + part["scale"][0] * (1 if sign else -1) for value, sign in zip(flat, signs, strict=True)]
    return [flat[row * columns : (row + 1) * columns] for row in range(rows)]


def positions(name, size, count, seed):
    drawn, wanted = [], min(count, size - count)
    key = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()
    generator = PCG64(int.from_bytes(key, "little"))
    while len(drawn) < wanted:
        place = generator.random_raw() % size
        if place not in drawn:
            drawn.append(place)
    return sorted(drawn if count == wanted else set(range(size)) - set(drawn))


def numbers(dtype, shape, data):
    if dtype == "BF16":  # the upper half of a float32
        data, dtype = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2)), "F32"
    code = {"F32": "f", "F16": "e", "U8": "B"}[dtype]
    return struct.unpack(f"<{math.prod(shape)}{code}", data)


def unpack(data, entry):
    rows, columns = entry["shape"]
    return [data[i // 8] >> (i % 8) & 1 for i in range(rows * columns)]


def pack(bits):
    data = bytearray(-(-len(bits) // 8))
    for i, bit in enumerate(bits):
        data[i // 8] |= bit << (i % 8)
    return bytes(data)


def decode(data, entries, weights):
    symbols = range_decoder(struct.unpack(f"<{len(data) // 4}I", data))
    next(symbols)
    flat = {}
    for name, entry in entries.items():
        rows, columns = entry["shape"]
        if entry["unit"] == "weight":
            magnitudes = [abs(value) for value in weights[name]]
            ordered = sorted(magnitudes)
            thresholds = [ordered[len(ordered) * edge // 1024] for edge in entry["edges"]]
            bins = [sum(magnitude >= threshold for threshold in thresholds) for magnitude in magnitudes]
            bits = [1] * len(bins)
            for number, p in enumerate(entry["p"]):
                for place in [place for place, found in enumerate(bins) if found == number]:
                    bits[place] = 1 - symbols.send(p)
        else:
            count = rows if entry["unit"] == "row" else columns
            units = [1 - symbols.send(entry["p"][0]) for _ in range(count)]
            bits = [
                units[row if entry["unit"] == "row" else column] for row in range(rows) for column in range(columns)
            ]
        flat[name] = bits
    return flat


def gaps(gap_bytes, flag_bytes, entries, weights):
    runs, bins = [], {}
    for name, entry in entries.items():
        rows, columns = entry["shape"]
        bins[name] = [0] * {"weight": rows * columns, "row": rows, "column": columns}[entry["unit"]]
        if entry["edges"]:
            keys = [struct.unpack("<I", struct.pack("<f", abs(w)))[0] >> 16 for w in weights[name]]
            bins[name] = [sum(key >= edge for edge in entry["edges"]) for key in keys]
        for number, (removed, _) in enumerate(entry["runs"]):
            size = bins[name].count(number)
            few = min(removed, size - removed)
            runs.append((65536 * few // max(size, 1), len(runs), name, number, size, removed, few))
    streams = [iter(zlib.decompress(data, -15)) for data in (gap_bytes, flag_bytes)]
    symbols = {}
    for _, _, name, number, size, removed, few in sorted(runs):
        rare = 1 if 2 * removed <= size else 0
        if 4 * few <= size:
            found = [1 - rare] * size
            place = -1
            for _ in range(few):
                place += 1
                while (byte := next(streams[0])) == 255:
                    place += 255
                place += byte
                found[place] = rare
        else:
            found = unpack(bytes(next(streams[1]) for _ in range(-(-size // 8))), {"shape": [1, size]})
        assert sum(found) == removed
        symbols[name, number] = iter(found)
    assert all(next(stream, None) is None for stream in streams)
    flat = {}
    for name, entry in entries.items():
        rows, columns = entry["shape"]
        units = [1 - next(symbols[name, number]) for number in bins[name]]
        if entry["unit"] == "row":
            units = [units[row] for row in range(rows) for _ in range(columns)]
        elif entry["unit"] == "column":
            units = units * rows
        flat[name] = units
    return flat


def range_decoder(words):
    """Send p (of 65536) for each symbol; get 1 (removed) or 0."""
    full, words = (1 << 64) - 1, iter(words)
    low, width = 0, full
    point = next(words, 0) << 32 | next(words, 0)
    p = yield None
    while True:
        zero = ((65536 - p) * (2**24 - 2) >> 16) + 1  # of 2**24, for the symbol 0
        scale = width >> 24
        place = (point - low & full) // scale
        assert place < 1 << 24
        symbol = int(place >= zero)
        low = low + scale * zero * symbol & full
        width = scale * ((1 << 24) - zero if symbol else zero)
        if width < 1 << 32:
            low, width = low << 32 & full, width << 32
            point = (point << 32 | next(words, 0)) & full
        p = yield symbol
