"""`s3router serve` with one pack, and with hundreds: throughput, latency, memory, and a pack's first answer.

Clients ask one after the other, each for a route drawn at random: all alike (uniform), or the k-th with a probability
that falls as 1/k (Zipf). Packs have random masks. A cold start is the first request for a route whose pack the server
has never read, less the same request for a route in memory.

    python benchmarks/serve_packs.py
    python benchmarks/serve_packs.py --upstream tiny --packs 1 11 1000 --seconds 10
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import common
from serving_client import RECORDINGS, ask, joined, metric, percentiles, random_pack, resident, serving

TRAFFIC = ("uniform", "zipf")
CODECS = ("bits", "coded", "gaps")
DISTINCT = 11  # masks; further packs have the masks of one of these under another name
COLD = 3  # first answers for each codec


@dataclass
class Load:
    """What clients saw during some seconds."""

    latencies: list[float] = field(default_factory=list)
    audio: float = 0.0
    failed: list[str] = field(default_factory=list)


def write_packs(folder: Path, count: int, args: argparse.Namespace, codec: str, prefix: str = "r") -> list[str]:
    """That many packs; their routes."""
    from s3router.packs import write_pack
    from s3router.upstreams.hub import build

    model = build(upstream=args.upstream)
    folder.mkdir(exist_ok=True)
    masks = [random_pack(prefix, seed, model, args.upstream, 0.1) for seed in range(min(count, DISTINCT))]
    routes = [f"{prefix}{number:04d}" for number in range(count)]
    for number, route in enumerate(routes):
        write_pack(folder / f"{route}.pack", replace(masks[number % len(masks)], route=route), codec, model.backbone)
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


def under_traffic(args: argparse.Namespace, folder: Path) -> list[dict]:
    """For each number of packs and kind of traffic; a server of its own each."""
    results = []
    for count in args.packs:
        packs = folder / str(count)
        routes = write_packs(packs, count, args, args.codec)
        for traffic in TRAFFIC if count > 1 else TRAFFIC[:1]:
            with serving(packs, folder / "log") as (process, port):
                ask(port, routes[0], joined(0, args.audio_seconds))
                before, started = resident(process.pid), time.monotonic()
                found = load(port, routes, traffic, args)
                taken = time.monotonic() - started
                names = ("s3router_pack_loads_total", "s3router_route_switches_total")
                loads, switches = (metric(port, name) for name in names)
                memory = resident(process.pid)
            if found.failed:
                raise SystemExit(f"{len(found.failed)} requests failed: {found.failed[0]}")
            results.append(
                {
                    **{"packs": count, "traffic": traffic, "answers": len(found.latencies)},
                    **{"audio_per_second": found.audio / taken, "latencies": found.latencies},
                    **{"loads": loads, "switches": switches, "mb": memory / 1e6, "grown_mb": (memory - before) / 1e6},
                }
            )
        shutil.rmtree(packs)
    return results


def cold_starts(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """For each codec: seconds until the first answer, and until the next one, medians."""
    packs = folder / "cold"
    routes = {codec: write_packs(packs, COLD + 1, args, codec, codec) for codec in CODECS}
    size = {codec: (packs / f"{names[0]}.pack").stat().st_size for codec, names in routes.items()}
    found = {}
    with serving(packs, folder / "log", "--working-copies", str(len(CODECS) * (COLD + 1))) as (_, port):
        content = joined(0, args.audio_seconds)
        for codec, names in routes.items():
            ask(port, names[-1], content)  # what every first request of a process pays
            times: list[list[float]] = [[], []]
            for route in names[:COLD]:
                for turn in times:
                    started = time.monotonic()
                    ask(port, route, content)
                    turn.append(time.monotonic() - started)
            first, again = (statistics.median(turn) for turn in times)
            found[codec] = {"first": first, "again": again, "cold": first - again, "bytes": size[codec]}
    return found


def table(traffic: list[dict], cold: dict[str, dict[str, float]], args: argparse.Namespace) -> str:
    one = traffic[0]["audio_per_second"]
    lines = [
        f"`{args.upstream}`, {args.clients} clients, recordings of {args.audio_seconds:g} s, {args.seconds:g} s of "
        f"load each, {args.threads} thread(s), codec {args.codec}.",
        "",
        "| packs | traffic | seconds of audio a second | of one pack | latency p50, p95, p99, ms | packs read "
        "| switches | resident MB | grown by |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['packs']:,} | {r['traffic']} | {r['audio_per_second']:.1f} | {r['audio_per_second'] / one:.2f} "
        f"| {percentiles(r['latencies'])} | {r['loads']:.0f} | {r['switches']:.0f} | {r['mb']:.0f} "
        f"| {r['grown_mb']:.0f} |"
        for r in traffic
    ]
    lines += ["", "| codec | kB | first answer, ms | the next, ms | cold start, ms |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {codec} | {c['bytes'] / 1000:,.0f} | {1000 * c['first']:.0f} | {1000 * c['again']:.0f} "
        f"| {1000 * c['cold']:.0f} |"
        for codec, c in cold.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", default=common.WHISPER, help="of which packs are made")
    parser.add_argument(
        "--packs", type=int, nargs="+", default=[1, 5, 11, 100], help="how many; the first is compared with"
    )
    parser.add_argument("--codec", choices=CODECS, default="gaps")
    parser.add_argument("--seconds", type=float, default=30.0, help="of load for each number of packs and traffic")
    parser.add_argument("--audio-seconds", type=float, default=5.0, help="length of a recording")
    parser.add_argument("--clients", type=int, default=8)
    common.add_common(parser, "serve_packs", dtype=False)
    args = parser.parse_args()
    common.settle(args)
    folder = Path(tempfile.mkdtemp(prefix="serve-packs-"))
    try:
        cold = cold_starts(args, folder)
        traffic = under_traffic(args, folder)
    finally:
        shutil.rmtree(folder)
    common.write(args, {"traffic": traffic, "cold": cold}, table(traffic, cold, args))


if __name__ == "__main__":
    main()
