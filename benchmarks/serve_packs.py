"""`s3router serve` with one pack, and with a thousand: throughput, latency, memory, and a pack's first answer.

Clients ask one after the other, each for a route drawn at random: all alike (uniform), or the k-th with a probability
that falls as 1/k (Zipf). The first eleven routes have been asked once before; others are read when they are drawn.
Packs have random masks. A cold start is the first request for a route whose pack the server has never read, less the
same request for a route in memory; besides random masks there are some that lie nearer to magnitude pruning, as
trained ones do, in which codecs have more to decode.

    python benchmarks/serve_packs.py --threads 1
    python benchmarks/serve_packs.py --threads 1 --packs 1 11 --ready-mb 0 --output switched.json
    python benchmarks/serve_packs.py --upstream tiny --packs 1 11 1000 --seconds 3
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import common
from serving_client import (
    RECORDINGS,
    ask,
    joined,
    load_pack,
    metric,
    percentiles,
    random_pack,
    resident,
    serving,
)

TRAFFIC = ("uniform", "zipf")
CODECS = ("bits", "coded", "gaps")
DISTINCT = 11  # masks; further packs have the masks of one of these under another name
MASKS = {"random": 0.0, "near magnitude": 0.3}  # `random_pack`'s magnitude
COLD = 3  # first answers for each codec and kind of masks


@dataclass
class Load:
    """What clients saw during some seconds."""

    latencies: list[float] = field(default_factory=list)
    audio: float = 0.0
    failed: list[str] = field(default_factory=list)


class Packs:
    """Packs of one backbone, with few different masks and as many names as are asked for."""

    def __init__(self, upstream: str, ckpt: str | None = None):
        from s3router.upstreams.hub import build

        self.upstream, self.model = upstream, build(ckpt=ckpt, upstream=upstream)

    def masked(self, count: int, magnitude: float = 0.0) -> list:
        """So many packs of different masks."""
        return [random_pack("r", seed, self.model, self.upstream, 0.1, magnitude) for seed in range(count)]

    def write(self, folder: Path, packs: Sequence, codec: str, prefix: str, count: int | None = None) -> list[str]:
        """Files of these packs, and of the same under further names until there are `count`; returns their routes."""
        from s3router.packs import write_pack
        from s3router.packs.container import read_container, write_container
        from s3router.packs.contents import FORMAT_VERSION

        folder.mkdir(exist_ok=True)
        routes = [f"{prefix}{number:04d}" for number in range(count or len(packs))]
        for number, route in enumerate(routes):
            path = folder / f"{route}.pack"
            if number < len(packs):
                write_pack(path, replace(packs[number], route=route), codec, self.model.backbone)
            else:  # coded once is enough
                like = folder / f"{routes[number % len(packs)]}.pack"
                tensors, description, version, _ = read_container(like, FORMAT_VERSION)
                write_container(path, tensors, version, description | {"route": route})
        return routes


def load(port: int, routes: list[str], traffic: str, args: argparse.Namespace) -> Load:
    """Clients at work until the time is over."""
    sounds = [joined(start, args.audio_seconds) for start in range(len(RECORDINGS))]
    weights = [1.0 if traffic == "uniform" else 1 / (rank + 1) for rank in range(len(routes))]
    found, until, lock = Load(), time.monotonic() + args.seconds, threading.Lock()

    def client(seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < until:
            [route], sound = dice.choices(routes, weights), dice.choice(sounds)
            started = time.monotonic()
            status, body = ask(port, route, sound)
            with lock:
                found.latencies.append(time.monotonic() - started)
                found.audio += args.audio_seconds
                found.failed += [] if status == 200 else [f"{route}: {status} {body[:200]!r}"]

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(args.clients)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return found


def linked(packs: Path, routes: Sequence[str], folder: Path) -> Path:
    """A folder with some of the packs."""
    folder.mkdir()
    for route in routes:
        (folder / f"{route}.pack").hardlink_to(packs / f"{route}.pack")
    return folder


def under_traffic(args: argparse.Namespace, folder: Path, packs: Path, routes: list[str]) -> list[dict]:
    """For each number of packs and kind of traffic; a server of its own each."""
    results = []
    for count in args.packs:
        here = linked(packs, routes[:count], folder / str(count))
        for traffic in TRAFFIC if count > 1 else TRAFFIC[:1]:
            begun = time.monotonic()
            with serving(here, folder / "log", "--ready-mb", str(args.ready_mb)) as (process, port):
                ready = time.monotonic() - begun
                for route in routes[: min(count, DISTINCT)]:
                    ask(port, route, joined(0, args.audio_seconds))
                started = time.monotonic()
                found = load(port, routes[:count], traffic, args)
                taken = time.monotonic() - started
                names = ("s3router_pack_loads_total", "s3router_route_switches_total")
                loads, switches = (metric(port, name) for name in names)
                memory = resident(process.pid)
            if found.failed:
                raise SystemExit(f"{len(found.failed)} requests failed: {found.failed[0]}")
            results.append(
                {
                    **{"packs": count, "traffic": traffic, "answers": len(found.latencies), "ready": ready},
                    **{"audio_per_second": found.audio / taken, "latencies": found.latencies},
                    **{"loads": loads, "switches": switches, "mb": memory / 1e6},
                }
            )
        shutil.rmtree(here)
    return results


def in_memory(args: argparse.Namespace, folder: Path, packs: Path, routes: list[str]) -> list[dict[str, float]]:
    """Resident memory with so many packs read, and seconds that reading one took; one server."""
    found, taken = [], []
    options = ("--allow-loading", "--pack-mb", "1e6")
    with serving(packs, folder / "log", *options) as (process, port):
        for number, route in enumerate(routes[: max(args.packs)], 1):
            started = time.monotonic()
            load_pack(port, route)
            taken.append(time.monotonic() - started)
            if number in args.packs:
                median = statistics.median(taken)
                found.append({"packs": number, "mb": resident(process.pid) / 1e6, "seconds": median})
    return found


def cold_starts(args: argparse.Namespace, folder: Path, packs: Packs) -> list[dict]:
    """For each codec and kind of masks: seconds until the first answer, and until the next one, medians."""
    here, sets = folder / "cold", []
    for kind, (masks, magnitude) in enumerate(MASKS.items()):
        masked = packs.masked(COLD + 1, magnitude)
        sets += [(masks, codec, packs.write(here, masked, codec, f"{codec}{kind}")) for codec in CODECS]
    results = []
    with serving(here, folder / "log", "--ready-mb", "1e6") as (_, port):
        content = joined(0, args.audio_seconds)
        for masks, codec, names in sets:
            ask(port, names[-1], content)  # what every first request of a process pays
            times: list[list[float]] = [[], []]
            for route in names[:COLD]:
                for turn in times:
                    started = time.monotonic()
                    ask(port, route, content)
                    turn.append(time.monotonic() - started)
            first, again = (statistics.median(turn) for turn in times)
            size = (here / f"{names[0]}.pack").stat().st_size
            results.append({"masks": masks, "codec": codec, "bytes": size, "first": first, "again": again})
    shutil.rmtree(here)
    return results


def table(traffic: list[dict], memory: list[dict[str, float]], cold: list[dict], args: argparse.Namespace) -> str:
    """The Markdown page."""
    one = traffic[0]["audio_per_second"]
    lines = [
        f"`{args.upstream}`, {args.clients} clients, recordings of {args.audio_seconds:g} s, {args.seconds:g} s of "
        f"load each, {args.threads} thread(s), codec {args.codec}, weights of routes ready in {args.ready_mb:g} MB.",
        "",
        "| packs | traffic | ready after, s | answers | seconds of audio a second | of one pack "
        "| latency p50, p95, p99, ms | packs read | switches | resident MB |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['packs']:,} | {r['traffic']} | {r['ready']:.1f} | {r['answers']} | {r['audio_per_second']:.1f} "
        f"| {r['audio_per_second'] / one:.2f} | {percentiles(r['latencies'])} | {r['loads']:.0f} | {r['switches']:.0f} "
        f"| {r['mb']:.0f} |"
        for r in traffic
    ]
    lines += ["", "| packs in memory | resident MB | per pack beyond the first, MB | reading one, ms |"]
    lines += ["|---:|---:|---:|---:|"]
    first = memory[0]
    for m in memory:
        more = m["packs"] - first["packs"]
        each = f"{(m['mb'] - first['mb']) / more:.2f}" if more else ""
        lines.append(f"| {m['packs']:,} | {m['mb']:.0f} | {each} | {1000 * m['seconds']:.0f} |")
    lines += ["", "| masks | codec | kB | first answer, ms | the next, ms | cold start, ms |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    lines += [
        f"| {c['masks']} | {c['codec']} | {c['bytes'] / 1000:,.0f} | {1000 * c['first']:.0f} | {1000 * c['again']:.0f} "
        f"| {1000 * (c['first'] - c['again']):.0f} |"
        for c in cold
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", default=common.WHISPER, help="of which packs are made")
    parser.add_argument(
        "--packs", type=int, nargs="+", default=[1, 5, 11, 100, 1000], help="how many; the first is compared with"
    )
    parser.add_argument("--codec", choices=CODECS, default="gaps")
    parser.add_argument("--seconds", type=float, default=15.0, help="of load for each number of packs and traffic")
    parser.add_argument("--audio-seconds", type=float, default=5.0, help="length of a recording")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--ready-mb", type=float, default=600.0, help="of the server, under traffic; its default")
    common.add_common(parser, "serve_packs", dtype=False)
    args = parser.parse_args()
    common.settle(args)
    folder = Path(tempfile.mkdtemp(prefix="serve-packs-"))
    try:
        packs = Packs(args.upstream)
        cold = cold_starts(args, folder, packs)
        most = max(args.packs)
        routes = packs.write(folder / "all", packs.masked(min(most, DISTINCT)), args.codec, "r", most)
        del packs
        traffic = under_traffic(args, folder, folder / "all", routes)
        memory = in_memory(args, folder, folder / "all", routes)
    finally:
        shutil.rmtree(folder)
    common.write(args, {"traffic": traffic, "memory": memory, "cold": cold}, table(traffic, memory, cold, args))


if __name__ == "__main__":
    main()
