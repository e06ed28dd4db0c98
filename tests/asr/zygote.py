"""A process that imports ESPnet once and forks a child for every training run that a test asks for.

Run as a script by the fixture ``zygote`` of conftest.py. A line of JSON in, a line out:
{"argv": [...], "screen": path, "env": {...}, "kill": {"in": "save" | "link", "of": name, "nth": n}} -> {"pid": ...};
{"wait": pid} -> {"status": exit status, or minus the signal that ended it}.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import signal
import sys

from s3router import cli
from s3router.asr import train
from s3router.training import checkpoints as files


def kill_in(where: str, of: str, nth: int) -> None:
    """End this process without warning in the middle of the nth time that it saves, or links, the file ``of``."""
    times = itertools.count(1)
    fsync, symlink_to = os.fsync, pathlib.Path.symlink_to

    def fsync_or_die(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        if name.startswith(f".{of}.") and next(times) == nth:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def link_or_die(self: pathlib.Path, *args, **kwargs) -> None:
        if self.name == of and next(times) == nth:
            os.kill(os.getpid(), signal.SIGKILL)  # ESPnet has unlinked the old one
        symlink_to(self, *args, **kwargs)

    if where == "save":
        files.os.fsync = fsync_or_die
    else:
        pathlib.Path.symlink_to = link_or_die


def child(request: dict) -> None:
    screen = os.open(request["screen"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(screen, 1)
    os.dup2(screen, 2)
    os.environ.update(request.get("env", {}))
    if kill := request.get("kill"):
        kill_in(kill["in"], kill["of"], kill["nth"])
    status = 99
    try:
        status = cli.main(["train", *request["argv"]])
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    train.preload()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            reply = {"status": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        else:
            reply = {"pid": os.fork()}
            if not reply["pid"]:
                child(request)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
