"""``s3router serve``: an HTTP server with OpenAI's API for transcription, and a page to try it on.

s3router serve --routes exp/routes                       # a folder of packs: http://127.0.0.1:8000
s3router serve --routes es.pack en.pack --port 9000
S3ROUTER_API_KEY=... s3router serve --routes exp/routes --host 0.0.0.0

Needs the extra [serve] (tools/setup.sh --with-serve). docs/serving.md tells the rest.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from s3router.cli import route_options
from s3router.errors import ConfigError

KEY = "S3ROUTER_API_KEY"
NEEDS = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    what = "mask packs, folders of them (new ones are found), or repositories of packs (USER/NAME@REVISION)"
    add("--routes", nargs="+", action="extend", type=Path, required=True, metavar="PACK", help=what)
    by = "auto by a classifier (s3router langid --fit) instead of the routes' confidences: a part of one pass"
    add("--langid", type=Path, metavar="PACK", help=by)
    add("--analysis", type=Path, metavar="FOLDER", help="of s3router analyze: served, and linked by the page")
    add("--upstream", "--backbone", help="the backbone's name (default: the one that the first pack names)")
    add("--upstream-ckpt", "--backbone-ckpt", help="its checkpoint: path or URL")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 … (%(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    add("--port", type=int, default=8000, help="0: any that is free (%(default)s)")
    open_to_all = f"listen on other addresses than this machine's own without a key ({KEY})"
    add("--without-key", action="store_true", help=open_to_all)
    add("--allow-loading", action="store_true", help="POST /v1/models/ROUTE/load and /unload")
    load = result.add_argument_group("memory and speed")
    add = load.add_argument
    add("--pack-mb", type=float, default=1000.0, help="packs in memory; the longest unused go first (%(default)s)")
    ready = "weights of routes kept ready, beside the backbone's; 0: of one route at a time (%(default)s)"
    add("--ready-mb", type=float, default=600.0, help=ready)
    add("--wait-ms", type=float, default=10.0, help="that the queue waits for requests to group (%(default)s)")
    batch = "audio in a batch, padding included; 0: singly, with the single model's numbers (%(default)s)"
    add("--batch-seconds", type=float, default=0.0, help=batch)
    add("--bf16", action="store_true", help="bfloat16 autocast")
    limits = result.add_argument_group("limits")
    add = limits.add_argument
    add("--upload-mb", type=float, default=100.0, help="size of a request (%(default)s)")
    add("--audio-seconds", type=float, default=3600.0, help="length of a recording (%(default)s)")
    add("--requests", type=int, default=64, help="transcriptions at a time (%(default)s)")
    add("--waiting-seconds", type=float, default=14400.0, help="audio times candidates under way (%(default)s)")
    add("--timeout", type=float, default=600.0, help="seconds until a request is given up (%(default)s)")
    add("--decoders", type=int, default=2, help="processes that decode audio (%(default)s)")
    return result


def main(argv: Sequence[str]) -> int:
    """Load the backbone, listen, and serve until a signal comes."""
    args = parser().parse_args(argv)
    if lacking := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"{', '.join(lacking)} is missing: tools/setup.sh --with-serve, or pip install 's3router[serve]'"
        )
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.server import serve
    from s3router.server.limits import Limits

    key = os.environ.get(KEY) or None
    if args.host not in serve.LOOPBACK and key is None and not args.without_key:
        raise ConfigError(
            f"--host {args.host} lets other machines in: set {KEY} to a key that they have to bring, or add "
            "--without-key"
        )
    names = ("upload_mb", "audio_seconds", "requests", "waiting_seconds", "timeout", "decoders")
    settings = serve.Settings(
        sources=route_options.here(args.routes),
        langid=args.langid,
        upstream=args.upstream,
        ckpt=args.upstream_ckpt,
        device=args.device,
        batches=BatchOptions(batch_seconds=args.batch_seconds, bf16=args.bf16),
        wait=args.wait_ms / 1000,
        pack_mb=args.pack_mb,
        ready_mb=args.ready_mb,
        key=key,
        loading=args.allow_loading,
        analysis=args.analysis,
        limits=Limits(**{name: vars(args)[name] for name in names}),
    )
    with serve.bind(args.host, args.port) as sock, serve.service(settings, args.host) as given:
        serve.log_to_stderr()
        what = f"backbone {given.upstream}, routes {', '.join(given.catalogue.routes)}"
        serve.Server(given, sock, lambda url: print(f"{url}  {what}", flush=True)).run()
    return 0
