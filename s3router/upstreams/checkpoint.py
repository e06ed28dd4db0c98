"""Reading checkpoints without running code in them, and refusing the ones that do not fill the model."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from s3router.errors import CheckpointError

_NEW_STYLE = re.compile(r"parametrizations\.(?P<tensor>\w+)\.original(?P<part>[01])$")
_OLD_STYLE = re.compile(r"(?P<tensor>\w+)_(?P<part>[gv])$")
_loading = threading.Lock()  # torch keeps one list of allowed classes for all threads
OTHER_MODELS = (
    "Models of other kinds train with masks, too: load yours and call s3router.masks.attach on it (docs/upstreams.md, "
    "Other models)."
)
ATTACH = (
    "load it with the library it comes from and call s3router.masks.attach on it (docs/upstreams.md, Other models)."
)
_SHOWN = 8  # keys listed in a message before it says "and n more"


def read_torch_file(path: str | os.PathLike) -> Any:
    """What ``torch.save`` wrote: tensors, containers, plain values and `argparse.Namespace`; nothing else is built.

    Raises:
        CheckpointError: the file is missing, cut short, no torch file, or a pickle with other objects (code) in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file. Check the path given as the upstream's checkpoint.")
    try:
        return restricted_load(path, [argparse.Namespace])
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise CheckpointError(unsafe_message(path, found[1] if found else "")) from error
    except Exception as error:  # torch's reader trusts its input: assertions, struct.error, KeyError ...
        raise CheckpointError(
            f"{path}: cannot be read as a torch checkpoint ({first_line(error)}). "
            "It may be cut short or of another format: copy or download it again."
        ) from error


def restricted_load(path: Path, allowed: list, mmap: bool = False) -> Any:
    """torch's unpickler of tensors and plain values, which besides them builds what is in ``allowed`` only.

    Args:
        allowed: classes, or (class, the name that stands for it in the file).
        mmap: leave the tensors on disk until they are used (files of torch 1.6 and later).
    """
    with _loading, torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def unsafe_message(path: Path, name: str) -> str:
    """Why a pickle was not read; ``name`` is the class or function that it asks for, "" where it is no pickle."""
    if not name:
        return f"{path}: not a torch checkpoint, or a damaged one. Copy or download it again."
    if name.startswith(("fairseq.", "omegaconf.")):
        return (
            f"{path}: a raw fairseq checkpoint (it holds {name}), which s3prl cannot read without running its "
            "code. Give it to --upstream auto, which reads it safely, or convert it once: "
            f"s3router upstream convert {path} DIR, then --upstream auto --upstream-ckpt DIR."
        )
    return (
        f"{path}: refused, because it is a pickle that runs code when it is read (it asks for {name}). "
        "Nothing in it was executed. Use a safetensors file, or save the plain tensors again with torch.save."
    )


def read_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` file or of a torch file that holds one flat state dict."""
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: cannot be read as safetensors ({first_line(error)}). Copy or download it again."
            ) from error
    state = read_torch_file(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected a state dict (names to tensors), found {type(state).__name__}.")
    return dict(state)


def refuse_espnet(path: Path) -> CheckpointError:
    """The error for a model of ESPnet, such as XEUS."""
    return CheckpointError(
        f"{path}: a model of ESPnet (XEUS and its like) is no upstream here, because transformers has no class for it; "
        f"{ATTACH}"
    )


def rename_weight_norm(names: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """Old name -> new name where a checkpoint and a model differ only in torch's two namings of weight norm.

    ``conv.weight_g``/``conv.weight_v`` (torch.nn.utils.weight_norm) are the tensors that torch's parametrization
    calls ``conv.parametrizations.weight.original0``/``original1``.
    """
    wanted = set(wanted)
    renamed = {}
    for name in names:
        if name not in wanted and (other := _other_style(name)) in wanted:
            renamed[name] = other
    return renamed


def _other_style(name: str) -> str | None:
    if match := _NEW_STYLE.search(name):
        return name[: match.start()] + f"{match['tensor']}_{'gv'[int(match['part'])]}"
    if match := _OLD_STYLE.search(name):
        return name[: match.start()] + f"parametrizations.{match['tensor']}.original{'gv'.index(match['part'])}"
    return None


def refuse_partial(
    where: str, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str] = ()
) -> None:
    """Raise a CheckpointError that lists the keys, unless all three are empty."""
    parts = [
        f"{len(keys)} {what}: {_listed(keys)}"
        for what, keys in (
            ("missing from the checkpoint", sorted(missing)),
            ("in the checkpoint but not in the model", sorted(unexpected)),
            ("of another shape than the model's", sorted(mismatched)),
        )
        if keys
    ]
    if parts:
        raise CheckpointError(
            f"{where}: the checkpoint does not fit the model. Weights " + "; weights ".join(parts) + ". "
            "A partly loaded upstream is refused: use the whole checkpoint of this architecture."
        )


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
