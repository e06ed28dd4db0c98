"""A process that imports ESPnet once and forks a child for every training run that a test asks for.

Run as a script by the fixture ``zygote`` of conftest.py. A line of JSON in, a line out:
{"argv": [...], "screen": path, "env": {...}, "kill": {"in": ..., "of": name, "nth": n}} -> {"pid": ...};
{"wait": pid} -> {"status": exit status, or minus the signal that ended it}.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import signal
import sys

import torch

from s3router import cli
from s3router.asr import train


def kill_in(where: str, of: str, nth: int) -> None:
    """End this process without warning the nth time that it saves, moves or links the file ``of``.

    ``where`` is ``save`` (half of the file is written), ``move`` or ``link``. ESPnet saves and links in its own folder;
    what is finished is moved.
    """
    times = itertools.count(1)
    save, replace, symlink_to = torch.save, os.replace, pathlib.Path.symlink_to

    def is_it(path) -> bool:
        return os.path.basename(path) == of and next(times) == nth

    def save_or_die(obj, path) -> None:
        save(obj, path)
        if is_it(path):
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def replace_or_die(source, path) -> None:
        if is_it(path):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, path)

    def link_or_die(self: pathlib.Path, *args, **kwargs) -> None:
        if is_it(self):
            os.kill(os.getpid(), signal.SIGKILL)  # ESPnet has unlinked the old one
        symlink_to(self, *args, **kwargs)

    if where == "save":
        torch.save = save_or_die
    elif where == "move":
        os.replace = replace_or_die
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
    train.routed_task()
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
