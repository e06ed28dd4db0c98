"""Reading the .pt files that fairseq writes, without fairseq and without running anything that is in them.

Such a file is a pickle: tensors, the configuration (``cfg``: OmegaConf objects or plain mappings; in older files
``args``, an `argparse.Namespace`), and whatever the trainer kept (dictionaries, optimizer state). It is read by torch's
``weights_only`` unpickler, which builds nothing but what it is told of. For the classes of fairseq and OmegaConf it is
told of stand-ins, which keep what was stored and do nothing; any other class or function is refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import first_line, restricted_load, unsafe_message

# What may stand in a file as a recorded name. Nothing of these is imported or called.
_RECORDED = re.compile(
    r"(fairseq|fairseq_cli|omegaconf|examples)\.[\w.]+"
    r"|argparse\.Namespace|typing\.\w+|_?operator\.getitem|collections\.defaultdict"
    r"|pathlib\.(Pure)?(Posix|Windows)?Path"
    r"|numpy\.(core|_core)\.multiarray\.(scalar|_reconstruct)|numpy\.(dtype|ndarray)"
    r"|builtins\.(dict|list|tuple|int|float|str|bool|bytes|object|type|NoneType)"
)
_REFUSED_NAME = re.compile(r"GLOBAL ([\w.]+)")
_FILLED = re.compile(r"Can only (SETITEMS?|append|extend) .*<class '([\w.]+)'>")  # torch's words: items for a stand-in
_MOST_NAMES = 100  # a checkpoint names about ten


class Recorded:
    """Stands in for an object of a class that is not imported: what it was made from, and nothing it could do."""

    def __new__(cls, *args: Any) -> Recorded:
        made = super().__new__(cls)
        made.arguments, made.state = args, None
        return made

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Mapping:
    """Stands in for a class that is a dict, too: torch's unpickler fills plain ones only."""

    def __new__(cls, *_: Any) -> OrderedDict:
        return OrderedDict()


class _Sequence:
    """Stands in for a class that is a list, too."""

    def __new__(cls, *_: Any) -> list:
        return []


@dataclass(frozen=True)
class FairseqFile:
    """What is needed of a fairseq checkpoint.

    Args:
        model: configuration of the model, plain values.
        task: configuration of the task (``normalize``, ``sample_rate``), plain values.
        weights: parameter name in fairseq's naming -> tensor.
    """

    model: dict[str, Any]
    task: dict[str, Any]
    weights: dict[str, Tensor]


def read_pickle(path: Path) -> Any:
    """The content of a torch file, with `Recorded` objects in place of fairseq's and OmegaConf's.

    Raises:
        CheckpointError: missing, damaged, or a pickle that names anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file. Check the path given as the upstream's checkpoint.")
    names: dict[str, type] = {"collections.defaultdict": _Mapping}
    mapped = zipfile.is_zipfile(path)  # then tensors that are not used (the optimizer's) are never read
    while True:
        try:
            return restricted_load(path, [(stand_in, name) for name, stand_in in names.items()], mmap=mapped)
        except pickle.UnpicklingError as error:
            name, stand_in = _wanted(str(error), names)
            if names.get(name) is stand_in or not _RECORDED.fullmatch(name) or len(names) >= _MOST_NAMES:
                raise CheckpointError(unsafe_message(path, name)) from error
            names[name] = stand_in
        except Exception as error:  # torch's reader trusts its input: assertions, struct.error, KeyError ...
            raise CheckpointError(
                f"{path}: cannot be read as a torch checkpoint ({first_line(error)}). "
                "It may be cut short or of another format: copy or download it again."
            ) from error


def _wanted(message: str, names: dict[str, type]) -> tuple[str, type]:
    """(name, stand-in for it) that torch asked for when it gave up; ("", ...) where it was something else."""
    if filled := _FILLED.search(message):  # a class of fairseq's that is a dict or a list
        by_class = {f"{stand_in.__module__}.{stand_in.__qualname__}": name for name, stand_in in names.items()}
        return by_class.get(filled[2], ""), _Mapping if filled[1].startswith("SETITEM") else _Sequence
    found = _REFUSED_NAME.search(message)
    name = found[1] if found else ""
    name = name if "." in name or not name else f"builtins.{name}"  # torch leaves that part out
    return name, names[name] if name in names else type(name, (Recorded,), {})


def fairseq_parts(content: Any, path: Path) -> FairseqFile:
    """Configuration and weights out of what `read_pickle` gave.

    It may be a file of fairseq ({"cfg" or "args", "model"}), of Microsoft's WavLM ({"cfg", "model"}), or one that s3prl
    made of a fairseq checkpoint ({"task_cfg", "model_cfg", "model_weight"}).

    Raises:
        CheckpointError: parts are missing.
    """
    weights = content.get("model_weight", content.get("model"))
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path}: no weights: expected them under 'model' (or 'model_weight').")
    weights = {key: value for key, value in weights.items() if isinstance(value, Tensor) and isinstance(key, str)}
    try:
        model, task = (plain(content.get(key)) for key in ("model_cfg", "task_cfg"))
        if model is None:
            model, task = nested(plain(content.get("cfg")) or plain(content.get("args")))
    except RecursionError as error:
        raise CheckpointError(f"{path}: the configuration contains itself. Copy or download it again.") from error
    if model is None:
        raise CheckpointError(
            f"{path}: no configuration: expected it under 'cfg' or 'args'. The weights alone will not do."
        )
    task = {} if task is None else task
    if not isinstance(model, dict) or not isinstance(task, dict):
        raise CheckpointError(f"{path}: the configuration is no mapping of names to values.")
    return FairseqFile(model, task, weights)


def nested(config: Any) -> tuple[Any, Any]:
    """(of the model, of the task) out of a configuration that has both as parts, or (older) is both in one."""
    if isinstance(config, dict) and isinstance(config.get("model"), dict):
        return config["model"], config.get("task")
    return config, config


def plain(value: Any) -> Any:
    """Mappings, lists and values out of what was recorded; what is neither (functions, arrays) becomes None."""
    if isinstance(value, Recorded):
        state = value.state
        if isinstance(state, tuple) and state and isinstance(state[0], dict):  # (attributes, slots)
            state = state[0]
        if isinstance(state, dict):
            for key in ("_content", "_val"):  # OmegaConf's containers and leaves
                if key in state:
                    return plain(state[key])
            return plain(state)
        return plain(value.arguments[0]) if len(value.arguments) == 1 else None  # a member of an enumeration
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else None


def is_tensor_mapping(content: Any) -> bool:
    """Whether the file holds one flat state dict."""
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, torch.Tensor) for v in content.values())
