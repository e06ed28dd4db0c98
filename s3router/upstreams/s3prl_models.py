"""Upstreams built by s3prl's own hub, from checkpoints that are read safely and must be whole.

s3prl's experts open the checkpoint themselves, some of them load it with ``strict=False``, and names such as
``xls_r_1b`` download it. So s3prl's own modules, and nothing outside of them, are given a ``torch`` whose ``load``
reads safely, a ``load_state_dict`` that refuses a partial checkpoint while an upstream is built in the same thread, and
a downloader that says where to put a file that cannot be downloaded.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import logging
import sys
import types
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s3router.errors import CheckpointError, ConfigError, S3RouterError
from s3router.upstreams.checkpoint import first_line, read_torch_file, refuse_partial, rename_weight_norm

logger = logging.getLogger(__name__)

_NEED_A_FILE = ("_custom", "_local", "_url")


@functools.cache
def known_names() -> list[str]:
    """Every upstream name that s3prl's hub offers (without ours): read off its files, as its import takes seconds."""
    place = importlib.util.find_spec("s3prl")
    folder = Path(place.submodule_search_locations[0])
    names: set[str] = set()
    for imported in _imports(folder / "hub.py"):
        offered = _offered(folder.joinpath(*imported.module.split(".")[1:]).with_suffix(".py"))
        wanted = {alias.asname or alias.name for alias in imported.names}
        names |= offered if "*" in wanted else wanted
    return sorted(name for name in names if not name.startswith(("_", "load_")))


def _imports(file: Path) -> list[ast.ImportFrom]:
    """What a module of s3prl takes over from the parts of its hub."""
    statements = ast.parse(file.read_text(encoding="utf-8")).body
    return [s for s in statements if isinstance(s, ast.ImportFrom) and (s.module or "").endswith("hubconf")]


def _offered(hubconf: Path) -> set[str]:
    """The functions of a part of the hub, its own and those that it takes over."""
    functions = {s.name for s in ast.parse(hubconf.read_text(encoding="utf-8")).body if isinstance(s, ast.FunctionDef)}
    return functions | {alias.asname or alias.name for taken in _imports(hubconf) for alias in taken.names}


def unknown_name(name: str, known: list[str]) -> ConfigError:
    """The error for a mistyped upstream, with the names it may have been meant for."""
    close = (
        difflib.get_close_matches(name, known, n=6, cutoff=0.5) or [k for k in known if name.lower() in k.lower()][:6]
    )
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    if Path(name).exists():
        hint = "It is a path: name a family, or auto, and give the path as the checkpoint (--upstream-ckpt). "
    return ConfigError(f"upstream {name!r} is not known. {hint}(s3router upstream list --all names them all)")


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
    build = getattr(_hub(), name)
    arguments: dict[str, Any] = dict(options or {})
    if source is not None:
        build = _takes_a_file(build, name)
        if not source.startswith("http") and not Path(source).is_file():
            raise CheckpointError(f"{source}: no such checkpoint file for upstream {name}.")
        arguments["ckpt"] = source
    elif name.endswith(_NEED_A_FILE):
        raise ConfigError(f"upstream {name} needs a checkpoint: give its file as path_or_url (--upstream-ckpt).")
    if refresh:
        arguments["refresh"] = True
    running = _Build(name)
    token = _BUILD.set(running)
    try:
        expert = build(**arguments)
    except S3RouterError:
        raise
    except TypeError as error:
        raise ConfigError(f"upstream {name} cannot be built with {arguments}: {first_line(error)}") from error
    except Exception as error:  # s3prl's experts raise whatever the missing piece leads to (KeyError, Assertion...)
        raise CheckpointError(
            f"upstream {name} cannot be built from {source or 'its download'}: "
            f"{type(error).__name__}: {first_line(error)}. Is it a checkpoint of this family?"
        ) from error
    finally:
        _BUILD.reset(token)
    if not running.read and next(expert.parameters(), None) is not None:
        logger.warning("upstream %s: s3prl fills it in its own way; whether weights are lacking was not checked", name)
    return expert


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


@functools.cache
def _hub() -> types.ModuleType:
    """s3prl's hub, once s3prl's own modules read checkpoints as `load_s3prl` says."""
    from s3prl import hub
    from s3prl.util import download

    for name, module in list(sys.modules.items()):
        if not name.startswith("s3prl.") or not isinstance(module, types.ModuleType):
            continue
        if vars(module).get("torch") is torch and "torch.load(" in inspect.getsource(module):
            module.torch = _SafelyLoading("torch")
        for value in list(vars(module).values()):
            if _own_model(value, name):
                value.load_state_dict = _fill
    download._download = functools.partial(_download, download._download)
    return hub


def _own_model(value: Any, module: str) -> bool:
    """Whether it is a model class of that module which fills itself as torch does."""
    return (
        inspect.isclass(value)
        and value.__module__ == module
        and issubclass(value, nn.Module)
        and not issubclass(value, torch.jit.ScriptModule)
        and "load_state_dict" not in vars(value)
    )


class _SafelyLoading(types.ModuleType):
    """What s3prl's modules know as ``torch``: torch, except that its ``load`` builds tensors and plain values only."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: Any, *_: Any, **__: Any) -> Any:
        """As `read_torch_file`."""
        return read_torch_file(file)


@dataclass
class _Build:
    """An upstream that is being built in this thread."""

    name: str
    read: bool = False  # a model of s3prl's was filled under our eyes


_BUILD: ContextVar[_Build | None] = ContextVar("s3router_s3prl_build", default=None)


def _fill(model: nn.Module, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
    """``load_state_dict`` of s3prl's models: while an upstream is built, all weights must be there and fit."""
    build = _BUILD.get()
    if build is None:
        return nn.Module.load_state_dict(model, state, strict, assign)
    renamed = rename_weight_norm(state, model.state_dict())
    state = {renamed.get(key, key): value for key, value in state.items()}
    result = nn.Module.load_state_dict(model, state, strict=False)
    refuse_partial(f"upstream {build.name}", result.missing_keys, result.unexpected_keys)
    build.read = True
    return result


def _download(fetch: Callable, filepath: Path, url: str, refresh: bool, new_enough_secs: float = 2.0) -> None:
    """s3prl's downloader; an error says where the file can be put by hand."""
    try:
        fetch(filepath, url, refresh=refresh, new_enough_secs=new_enough_secs)
    except Exception as error:
        build = _BUILD.get()
        raise CheckpointError(
            f"{f'upstream {build.name}: ' if build else ''}{url} cannot be downloaded ({first_line(error)}). Fetch it "
            f"elsewhere, then give the file as path_or_url (--upstream-ckpt), or put it at {filepath}."
        ) from error
