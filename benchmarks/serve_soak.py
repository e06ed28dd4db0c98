"""`s3router serve` under mixed load with faults: nothing lost, nothing crossed, memory flat.

Clients ask for routes at random, some by auto, some for subtitles or a stream, and compare every text and confidence
with those of the same packs without a server, bit by bit. Meanwhile connections are cut, garbage is uploaded, decoders
are killed, packs are replaced on disk by others of their route or by damaged files, and the budget of memory holds half
the packs. In the end the server is told to stop while requests are under way; all of them have to be answered.

    python benchmarks/serve_soak.py                    # 30 minutes
    python benchmarks/serve_soak.py --seconds 180 --clients 4

Packs are random, on the shipped upstream: weak masks and output layers, which change no part of what is tried.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import common
from serving_client import RECORDINGS, ask, joined, metric, multipart, percentiles, random_pack, resident, serving

ROUTES = ("aa", "bb", "cc", "dd", "ee", "ff")
CHANGING = "ff"
"""Its pack is replaced by another one, and that by the first, all the time."""
STOPPING = 4
"""Requests that are under way when the server is told to stop."""


def expected_of(packs: list[Path]) -> dict[str, tuple[str, float | None]]:
    """Recording -> text and confidence, without a server; of one pack, each recording alone."""
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.data.recordings import find_recordings
    from s3router.serving.loading import load_routes
    from s3router.serving.transcribe import transcribe

    model = load_routes(packs, "tiny")
    found = transcribe(model, find_recordings(RECORDINGS), model.routes, BatchOptions(batch_seconds=0))
    return {
        Path(transcript.source).name: (transcript.text, transcript.heard.confidence if transcript.text else None)
        for _, transcript in found
    }


class Soak:
    """The load, the faults, and what came of them."""

    def __init__(self, port: int, pid: int, folder: Path, versions: list[Path], expected: dict, seconds: float):
        self.port, self.pid, self.folder, self.versions = port, pid, folder, versions
        self.expected, self.until = expected, time.monotonic() + seconds
        self.counts: collections.Counter[str] = collections.Counter()
        self.latencies: list[float] = []
        self.wrong: list[str] = []
        self.memory: list[tuple[float, int]] = []
        self.lock = threading.Lock()

    def note(self, what: str, wrong: str | None = None) -> None:
        with self.lock:
            self.counts[what] += 1
            if wrong is not None:
                self.wrong.append(wrong)

    def ask(self, route: str, content: bytes, **fields: str) -> tuple[int, bytes]:
        """Status and body."""
        return ask(self.port, route, content, **fields)

    def client(self, seed: int) -> None:
        """One client's requests, until the end."""
        dice = random.Random(seed)
        while time.monotonic() < self.until:
            kind = dice.choices(("whole", "auto", "stream", "srt", "cut", "garbage"), (60, 10, 10, 5, 8, 7))[0]
            path, route = dice.choice(RECORDINGS), dice.choice(ROUTES)
            try:
                getattr(self, f"_{kind}")(dice, path, route)
            except Exception as error:
                self.note("lost", f"{kind} {route} {path.name}: {error!r}")

    def _whole(self, dice: random.Random, path: Path, route: str) -> None:
        started = time.monotonic()
        status, body = self.ask(route, path.read_bytes(), response_format="verbose_json")
        self.latencies.append(time.monotonic() - started)
        if self._failed(status, body):
            return
        found = json.loads(body)
        answer = found["text"], found["segments"][0]["avg_logprob"]
        right = [each[path.name] for each in self.expected[route]]
        self.note("answered", None if answer in right else f"{route} {path.name}: {answer} is none of {right}")

    def _auto(self, dice: random.Random, path: Path, route: str) -> None:
        candidates = dice.sample(ROUTES, 3)
        status, body = self.ask(
            "auto", path.read_bytes(), response_format="verbose_json", candidates=",".join(candidates)
        )
        if self._failed(status, body):
            return
        found = json.loads(body)
        answer = found["text"], found["segments"][0]["avg_logprob"]
        right = [each[path.name] for each in self.expected[found["route"]]]
        fine = answer in right and set(found["scores"]) == set(candidates)
        self.note("answered", None if fine else f"auto {path.name}: {found['route']} {answer}")

    def _stream(self, dice: random.Random, path: Path, route: str) -> None:
        status, body = self.ask(route, path.read_bytes(), stream="true")
        if self._failed(status, body):
            return
        lines = [line for line in body.decode().split("\n\n") if line]
        done = json.loads(lines[-2].removeprefix("data: "))
        fine = lines[-1] == "data: [DONE]" and done["text"] in [each[path.name][0] for each in self.expected[route]]
        self.note("answered", None if fine else f"stream {route} {path.name}: {lines[-2:]}")

    def _srt(self, dice: random.Random, path: Path, route: str) -> None:
        status, body = self.ask(route, path.read_bytes(), response_format="srt")
        if self._failed(status, body):
            return
        lines = body.decode().splitlines()
        text = " ".join(line for line in lines if line and "-->" not in line and not line.isdigit())
        fine = text in [each[path.name][0] for each in self.expected[route]]
        self.note("answered", None if fine else f"srt {route} {path.name}: {text}")

    def _cut(self, dice: random.Random, path: Path, route: str) -> None:
        """A connection that ends in the middle of the upload, or before the answer."""
        body = multipart(path.read_bytes(), model=route)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest("POST", "/v1/audio/transcriptions")
        connection.putheader("Content-Type", "multipart/form-data; boundary=XXXX")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.send(body[: dice.choice((len(body), len(body) // 2, 10))])
        time.sleep(dice.random() / 5)
        connection.close()
        self.note("cut by the client")

    def _garbage(self, dice: random.Random, path: Path, route: str) -> None:
        content = path.read_bytes()
        spoilt = dice.choice((dice.randbytes(5000), content[: len(content) // 2], b"", b"RIFF" + dice.randbytes(500)))
        status, body = self.ask(route, spoilt)
        self.note("garbage refused", None if status == 400 else f"garbage: {status} {body[:200]!r}")

    def _failed(self, status: int, body: bytes) -> bool:
        if status != 200:
            self.note("lost", f"{status} {body[:200]!r}")
        return status != 200

    def faults(self) -> None:
        """Kill decoders, and replace packs, until the end."""
        dice, turn = random.Random(0), 0
        while time.monotonic() < self.until:
            time.sleep(2)
            turn += 1
            if turn % 5 == 0 and (pids := decoders(self.pid)):
                os.kill(dice.choice(pids), signal.SIGKILL)
                self.note("decoders killed")
            place = self.folder / f"{CHANGING}.pack"
            replace(place, self.versions[turn % len(self.versions)].read_bytes())
            self.note("packs replaced")
            if turn % 7 == 0:  # a damaged file, never of a route that is asked for
                replace(self.folder / "zz.pack", dice.randbytes(1000))

    def watch(self) -> None:
        """The server's memory, once a second."""
        started = time.monotonic()
        while time.monotonic() < self.until:
            self.memory.append((time.monotonic() - started, resident(self.pid)))
            time.sleep(1)

    def stop(self, process: subprocess.Popen) -> int:
        """Tell the server to stop while requests are under way; returns how many of them were answered."""
        answered: list[int] = []
        recording = joined(0, 60.0)

        def ask() -> None:
            answered.append(self.ask("aa", recording)[0])

        asking = [threading.Thread(target=ask) for _ in range(STOPPING)]
        for thread in asking:
            thread.start()
        while metric(self.port, "s3router_requests_in_flight") < STOPPING and any(t.is_alive() for t in asking):
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join()
        return answered.count(200)


def replace(path: Path, content: bytes) -> None:
    """Whole or not at all, as `s3router pack` writes."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.rename(path)


def decoders(server: int) -> list[int]:
    """The server's processes that decode audio."""
    found = []
    for task in Path(f"/proc/{server}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def soak(args: argparse.Namespace, folder: Path) -> tuple[Soak, dict]:
    from s3router.packs import write_pack
    from s3router.upstreams.hub import build

    upstream = build(upstream="tiny")
    packs, versions = folder / "packs", [folder / "first.pack", folder / "second.pack"]
    packs.mkdir()
    for seed, route in enumerate(ROUTES):
        write_pack(packs / f"{route}.pack", random_pack(route, seed, upstream))
    for seed, path in enumerate(versions):
        write_pack(path, random_pack(CHANGING, 100 + seed, upstream))
    expected = {route: [expected_of([packs / f"{route}.pack"])] for route in ROUTES}
    expected[CHANGING] += [expected_of([path]) for path in versions]
    half = sum(path.stat().st_size for path in packs.iterdir()) / 2e6
    with serving(packs, folder / "log", "--pack-mb", str(half)) as (process, port):
        run, figures = under_load(args, process, port, packs, versions, expected)
    tracebacks = [line for line in (folder / "log").read_text().splitlines() if "traceback" in line.lower()]
    for line in tracebacks[:3]:
        print(line, file=sys.stderr)
    figures["tracebacks in the log"] = len(tracebacks)
    return run, figures


def under_load(args, process, port: int, packs: Path, versions: list[Path], expected: dict) -> tuple[Soak, dict]:
    run = Soak(port, process.pid, packs, versions, expected, args.seconds)
    threads = [threading.Thread(target=run.client, args=(seed,)) for seed in range(args.clients)]
    threads += [threading.Thread(target=run.faults), threading.Thread(target=run.watch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = ("s3router_pack_loads_total", "s3router_pack_evictions_total", "s3router_decoder_deaths_total")
    figures = {name: metric(port, name) for name in (*names, "s3router_route_switches_total")}
    figures["answered while stopping"] = run.stop(process)
    figures["exit status"] = process.wait(60)
    return run, figures


def table(run: Soak, figures: dict, args: argparse.Namespace) -> str:
    settled = [size for when, size in run.memory if when > args.seconds / 5]
    quarter = max(1, len(settled) // 4)
    first, last = (statistics.median(part) / 1e6 for part in (settled[:quarter], settled[-quarter:]))
    rows = [
        ("seconds, clients", f"{args.seconds:g}, {args.clients}"),
        *((what, str(count)) for what, count in sorted(run.counts.items())),
        ("answers that were wrong", str(len(run.wrong) - run.counts["lost"])),
        ("latency p50, p95, p99, ms", percentiles(run.latencies)),
        ("resident memory, first and last quarter after the first fifth, MB", f"{first:.0f}, {last:.0f}"),
        ("largest, MB", f"{max(settled) / 1e6:.0f}"),
        *((name, f"{value:g}") for name, value in figures.items()),
    ]
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--clients", type=int, default=8)
    common.add_common(parser, "serve_soak", dtype=False)
    args = parser.parse_args()
    common.settle(args)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # the numbers of both are the same only on as many threads
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        run, figures = soak(args, folder)
        for wrong in run.wrong[:20]:
            print(wrong, file=sys.stderr)
        result = {"counts": dict(run.counts), "figures": figures, "wrong": run.wrong, "memory": run.memory}
        common.write(args, result | {"latencies": run.latencies}, table(run, figures, args))
        stopped = figures["answered while stopping"] == STOPPING and figures["exit status"] == 0
        return 0 if stopped and not run.wrong and not figures["tracebacks in the log"] else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
