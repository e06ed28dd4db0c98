"""Upstreams built by s3prl's own hub, with the reading of their checkpoints under our control.

s3prl's experts open the checkpoint themselves, some of them load it with ``strict=False``, and names such as
``xls_r_300m`` download it. While one is being built, `torch.load`, `Module.load_state_dict` and s3prl's downloader are
replaced by stand-ins that read safely, count the keys, and say where a file must be put that cannot be downloaded.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from s3router.errors import CheckpointError, ConfigError, S3RouterError
from s3router.upstreams.checkpoint import first_line, read_torch_file, refuse_partial, rename_weight_norm

_NEED_A_FILE = ("_custom", "_local", "_url")
_building = threading.Lock()  # the stand-ins are global while they are in place


def known_names() -> list[str]:
    """Every upstream name that s3prl's hub offers (without ours)."""
    from s3prl import hub

    return sorted(
        name
        for name, value in vars(hub).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__.endswith(".hubconf")
        if not name.startswith("load_")
    )


def unknown_name(name: str, known: list[str]) -> ConfigError:
    """The error for a mistyped upstream, with the names it may have been meant for."""
    close = (
        difflib.get_close_matches(name, known, n=6, cutoff=0.5) or [k for k in known if name.lower() in k.lower()][:6]
    )
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."
    return ConfigError(f"upstream {name!r} is not known. {hint} (python -m s3router.upstreams.hub lists all names)")


def load_s3prl(
    name: str, source: str | None, refresh: bool = False, options: dict[str, Any] | None = None
) -> nn.Module:
    """Build s3prl's upstream ``name``.

    Args:
        source: checkpoint file (or URL); None for names that s3prl knows a download for. With a source, such a name
            stands for its family's architecture: ``xls_r_300m`` with a local file downloads nothing.
        refresh: download again.
        options: further keyword arguments of s3prl's function.

    Raises:
        ConfigError: the name needs a checkpoint and has none, or options do not fit.
        CheckpointError: the checkpoint is missing, unsafe, damaged, or does not fill the model.
    """
    from s3prl import hub

    build = getattr(hub, name)
    arguments: dict[str, Any] = dict(options or {})
    if source is not None:
        build = _takes_a_file(build, name)
        if not source.startswith("http") and not Path(source).is_file():
            raise CheckpointError(f"{source}: no such checkpoint file for upstream {name}.")
        arguments["ckpt"] = source
    elif name.endswith(_NEED_A_FILE):
        raise ConfigError(f"upstream {name} needs a checkpoint: give its file as path_or_url (--upstream_ckpt).")
    if refresh:
        arguments["refresh"] = True
    with _building, _guarded(name):
        try:
            return build(**arguments)
        except S3RouterError:
            raise
        except TypeError as error:
            raise ConfigError(f"upstream {name} cannot be built with {arguments}: {first_line(error)}") from error
        except Exception as error:  # s3prl's experts raise whatever the missing piece leads to (KeyError, Assertion...)
            raise CheckpointError(
                f"upstream {name} cannot be built from {source or 'its download'}: "
                f"{type(error).__name__}: {first_line(error)}. Is it a checkpoint of this family?"
            ) from error


def _takes_a_file(build: Callable, name: str) -> Callable:
    """The function of the same family that takes a checkpoint, for a name that would download its own."""
    if name.endswith(_NEED_A_FILE):
        return build
    hubconf = importlib.import_module(build.__module__)
    family = build.__module__.split(".")[-2]
    for candidate in (f"{family}_custom", f"{family}_local"):
        function = getattr(hubconf, candidate, None)
        if function is not None and _required(function) <= {"ckpt"}:
            return function
    raise ConfigError(f"upstream {name} of s3prl does not take a checkpoint; leave path_or_url out.")


def _required(function: Callable) -> set[str]:
    return {
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }


@contextlib.contextmanager
def _guarded(name: str) -> Iterator[None]:
    from s3prl.util import download

    fetch, fill = download._download, nn.Module.load_state_dict

    def checked_fetch(filepath: Path, url: str, refresh: bool, new_enough_secs: float = 2.0) -> None:
        try:
            fetch(filepath, url, refresh=refresh, new_enough_secs=new_enough_secs)
        except Exception as error:
            raise CheckpointError(
                f"upstream {name}: {url} cannot be downloaded ({first_line(error)}). Fetch it elsewhere, then "
                f"give the file as path_or_url (--upstream_ckpt), or put it at {filepath}."
            ) from error

    def checked_load(file: Any, *_: Any, **__: Any) -> Any:
        return read_torch_file(file)

    def checked_fill(module: nn.Module, state: Any, *_: Any, **__: Any) -> Any:
        renamed = rename_weight_norm(state, module.state_dict())
        state = {renamed.get(key, key): value for key, value in state.items()}
        result = fill(module, state, strict=False)
        refuse_partial(f"upstream {name}", result.missing_keys, result.unexpected_keys)
        return result

    with (
        mock.patch.object(download, "_download", checked_fetch),
        mock.patch.object(torch, "load", checked_load),
        mock.patch.object(nn.Module, "load_state_dict", checked_fill),
    ):
        yield
