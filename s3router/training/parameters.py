"""Parameters by training method: which of them train, at which learning rate, and which a checkpoint holds.

Works for every model that names the place of its upstream (`WithUpstream`): the ASR model and the SUPERB model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from s3router.errors import CheckpointError, ConfigError
from s3router.prune.schedule import RESTS
from s3router.tuners.methods import METHODS

if TYPE_CHECKING:
    from torch import Tensor, nn

SCORES, AVERAGED = ".scores", ".averaged"


class WithUpstream(Protocol):
    """A module with an upstream inside.

    Attributes:
        UPSTREAM: dotted name of the upstream; everything outside it is the head.
    """

    UPSTREAM: ClassVar[str]


def role_of(name: str, upstream: str) -> str:
    """``scores``, ``weights`` (of the upstream) or ``head`` for a parameter's name (``upstream``: `WithUpstream`)."""
    if not name.startswith(f"{upstream}."):
        return "head"
    return "scores" if name.endswith(SCORES) else "weights"


def apply_method(model: nn.Module, method: str) -> None:
    """Set ``requires_grad`` in the upstream of a `WithUpstream`; the head is left as it is.

    With methods that are attached (`s3router.tuners`) the upstream comes as they have left it.

    Raises:
        ConfigError: unknown method, or an upstream without what the method trains or freezes.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    upstream = model.get_submodule(model.UPSTREAM)
    inside = list(upstream.named_parameters())
    if METHODS[method].attached and METHODS[method].rate and not any(p.requires_grad for _, p in inside):
        raise ConfigError(
            f"method {method}: nothing was attached to the upstream; it is not the s3prl upstream 's3router', "
            "or it was not told the method"
        )
    if METHODS[method].prunes or not METHODS[method].attached:
        from s3router.upstreams.anatomy import Anatomy

        anatomy, weights = Anatomy.of(upstream), method == "weight" or METHODS[method].prunes
        for name, parameter in inside:
            parameter.requires_grad_(method == "scratch" or (weights and not anatomy.in_front_end(name)))
        if weights and anatomy.front_end is None:
            raise ConfigError(f"method {method}: found no feature extractor to freeze in the upstream")
    if method != "scratch":
        for module in upstream.modules():
            # HuggingFace's feature encoders otherwise ask for gradients of the waveform, in vain
            if hasattr(module, "_requires_grad") and hasattr(module, "_freeze_parameters"):
                module._freeze_parameters()


def learning_rates(method: str, options: Mapping[str, Any], head: float = 0.0) -> dict[str, float]:
    """(Peak) learning rates of `param_groups` out of ``score_lr``, ``weight_lr`` and ``adapter_lr``.

    Weights, biases and layer norms that train beside masks have ``weight_lr``.
    """
    adapter = METHODS[method].rate == "adapter_lr"
    weights = options["adapter_lr" if adapter else "weight_lr"]
    return {"scores": options["score_lr"], "weights": weights, "head": head}


def param_groups(model: nn.Module, lrs: Mapping[str, float]) -> list[dict[str, Any]]:
    """Optimizer groups ``scores``, ``weights``, ``head`` (those that have anything), in this order.

    Args:
        model: a `WithUpstream` after `apply_method`.
        lrs: (peak) learning rate of each of the three.
    """
    members: dict[str, list] = {"scores": [], "weights": [], "head": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[role_of(name, model.UPSTREAM)].append(parameter)
    return [{"params": found, "lr": lrs[role], "name": role} for role, found in members.items() if found]


def trained_names(model: nn.Module) -> Iterator[str]:
    """Names of all that training changes in a `WithUpstream`, and so of all that a checkpoint must hold.

    Buffers change only where weights do: those of a frozen upstream are left out.
    """
    free = False
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or getattr(parameter, RESTS, False):
            free |= role_of(name, model.UPSTREAM) == "weights"
            yield name
    for name, _ in model.named_buffers():
        if free or name.endswith(AVERAGED) or not name.startswith(f"{model.UPSTREAM}."):
            yield name


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What training changes of a `WithUpstream`, and so what its checkpoints hold: name -> tensor."""
    trained = set(trained_names(model))
    return {name: tensor for name, tensor in model.state_dict().items() if name in trained}


def load_trained(model: nn.Module, state: Mapping[str, Tensor], where: Any) -> None:
    """Load what `trained_state` gave.

    Args:
        where: the file that the state comes from, for messages.

    Raises:
        CheckpointError: tensors missing, unexpected, or of another shape.
    """
    try:
        check_fit(trained_state(model), state)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    model.load_state_dict(state, strict=False)


def check_fit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse a state with other names or shapes than ``expected``. Raises CheckpointError with the first five."""
    problems = [f"lacks {name}" for name in expected if name not in state]
    problems += [f"has {name}, which does not train here" for name in state if name not in expected]
    problems += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            f"the checkpoint does not fit the model: {'; '.join(problems[:5])}{more}; "
            "take a checkpoint of the same method, upstream, and tokens or labels"
        )
