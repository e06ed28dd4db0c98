"""What benchmarks of `s3router serve` share: random packs, a server as a process, requests, its memory and metrics."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import common
import numpy as np

RECORDINGS = sorted((common.ROOT / "tests/fixtures/five/audio").iterdir())
TOKENS = ("<blank>", "<unk>", "<space>", *"abcdefghijklmnopqrstuvwxyz", "<sos/eos>")


def random_pack(route: str, seed: int, model, name: str = "tiny", sparsity: float = 0.2, magnitude: float = 0.0):
    """Masks of an upstream (`hub.build` of its name), and an output layer that says something.

    Args:
        magnitude: how far a weight's magnitude decides on its removal, the *c* of `packs.correlated_masks`; 0: the
            places are random.
    """
    import torch
    from packs import correlated_masks

    from s3router.masks import MaskConfig, attach, detach, masks_of
    from s3router.packs import MaskPack, PackMeta

    generator = torch.Generator().manual_seed(seed)
    attach(model.backbone, MaskConfig(sparsity=sparsity, targets=("ffn",), seed=seed, score_init="uniform"))
    masks = masks_of(model.backbone)
    detach(model.backbone)
    if magnitude:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            masks = correlated_masks(model.backbone, sparsity, magnitude, masks)
    width = model([torch.zeros(1600)])["last_hidden_state"].size(-1)
    meta = PackMeta(
        name,
        model.backbone_fingerprint,
        preprocessing={"sample_rate": 16000, "features": "last", "token_type": "char"},
        metrics={"dev": {"confidence": -0.5 - 0.1 * seed, "cer": 0.1}},
    )
    head = {"weight": torch.randn(len(TOKENS), width, generator=generator)}
    return MaskPack(route, masks, {}, {}, head, TOKENS, meta)


def joined(start: int, seconds: float) -> bytes:
    """The recordings one after the other, from one of them on, again and again, for so many seconds: a flac file."""
    import soundfile

    from s3router.data.audio import SAMPLE_RATE, read_audio

    wave = np.concatenate([read_audio(path) for path in (*RECORDINGS[start:], *RECORDINGS[:start])])
    file = io.BytesIO()
    soundfile.write(file, np.resize(wave, round(seconds * SAMPLE_RATE)), SAMPLE_RATE, format="FLAC")
    return file.getvalue()


@contextlib.contextmanager
def serving(packs: Path, log: Path, *options: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """The server's process and port; it has as many threads as this process, and is told to stop at the end."""
    import torch

    command = [sys.executable, "-m", "s3router", "serve", "--routes", str(packs), "--port", "0", *options]
    with log.open("w") as file:
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=os.environ | threads)
    try:
        yield process, int(process.stdout.readline().split()[0].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def ask(port: int, route: str, content: bytes, **fields: str) -> tuple[int, bytes]:
    """Status and body of a transcription."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    body = multipart(content, model=route, **fields)
    connection.request("POST", "/v1/audio/transcriptions", body, {"Content-Type": "multipart/form-data; boundary=XXXX"})
    reply = connection.getresponse()
    found = reply.status, reply.read()
    connection.close()
    return found


def load_pack(port: int, route: str) -> None:
    """Have a route in memory; the server allows that."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", f"/v1/models/{route}/load")
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    if reply.status != 200:
        raise SystemExit(f"{route} was not loaded: {reply.status} {body[:200]!r}")


def multipart(content: bytes, **fields: str) -> bytes:
    """The body of a request, with boundary XXXX."""
    parts = [f'--XXXX\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    head = b'--XXXX\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
    return b"".join(parts) + head + content + b"\r\n--XXXX--\r\n"


def resident(pid: int) -> int:
    """Bytes in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def metric(port: int, name: str) -> float:
    """One of the server's metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def percentiles(seconds: list[float]) -> str:
    """The 50th, 95th and 99th, in milliseconds."""
    ordered = sorted(seconds)
    at = [1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99)]
    return ", ".join(f"{value:.0f}" for value in at)
