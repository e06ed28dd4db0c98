"""Attaching masks to a model, detaching them, and baking them into its weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from s3router.errors import ConfigError
from s3router.masks.config import MaskConfig
from s3router.masks.functions import FrozenLinear
from s3router.masks.groups import Group, find_groups, group_magnitudes, unit_cost
from s3router.masks.scores import initial_scores, ranked_by_removals
from s3router.masks.targets import Target, find_targets
from s3router.masks.weight_mask import GlobalGroup, WeightMask

_RECORD = "_s3router_masks"
_FEATURE_EXTRACTOR = re.compile(r"(^|\.)(feature_extractor|conv_layers|encoder\.conv[12])\.")  # the last: Whisper's
_TRAINABLE = {
    "bias": re.compile(r"(^|\.)(bias|in_proj_bias)$"),
    "layer_norm": re.compile(r"(^|\.)(\w*layer_?norm\w*|norm\w*)\.(weight|bias)$"),
    "pos_conv": re.compile(r"(^|\.)pos_conv(_embed)?\."),
    "feature_projection": re.compile(r"(^|\.)(post_extract_proj|feature_projection|embed)\."),
    "mask_embedding": re.compile(r"(^|\.)(mask_emb|masked_spec_embed|mask_embedding)$"),
}


@dataclass
class _Record:
    """What :func:`detach` needs to give a model back as it was."""

    config: MaskConfig | None
    requires_grad: dict[str, bool]
    input_grad: list[str] = field(default_factory=list)


def attach(
    module: nn.Module,
    config: MaskConfig,
    kind: type[WeightMask] = WeightMask,
    removals: Mapping[str, Tensor] | None = None,
) -> list[WeightMask]:
    """Mask the weights that `config` names, in place.

    Everything in `module` is frozen but the scores and what ``config.train`` names, so a head belongs outside of it.
    Below the first masked layer nothing needs gradients, and nothing is kept for a backward pass. (Layers checkpointed
    in the re-entrant way do need an input that requires grad: use the other one, ``use_reentrant=False``.)

    Args:
        kind: what masks are made of, a class with the same arguments.
        removals: by weight name, how many masks of others remove each weight, whole numbers (rows, columns): what
            `MaskConfig.start_packs` stand for (`s3router.tuners.start`). None: initial scores rank by magnitude.

    Returns:
        the masks, in the order of the model; their scores are parameters called ``….parametrizations.weight.0.scores``.

    Raises:
        ConfigError: nothing matches, masks are attached already, ``config.train`` names what the model lacks, or
            `removals` are of other weights.
    """
    _refuse_attached(module)
    targets = find_targets(module, config)
    if removals is not None and {t.name: t.shape for t in targets} != {n: tuple(r.shape) for n, r in removals.items()}:
        raise ConfigError("removals are to be known of exactly the weights that are masked here")
    groups: dict[str, Group] = {}
    if config.granularity == "group":
        groups = {group.weight: group for group in find_groups(module, [target.name for target in targets])}
        targets = [target for target in targets if target.name in groups]
    modules = dict(module.named_modules())
    group = None if config.scope == "tensor" else GlobalGroup(config.sparsity, by_cost=config.scope == "flops")
    masks: list[WeightMask] = []
    for target in targets:
        weight = modules[target.module]._parameters.get(target.parameter)
        if weight is None:
            raise ConfigError(
                f"{target.name}: it is parametrized already (or pruned, or weight-normed), and cannot be masked on top "
                "of that"
            )
        sparsity = config.sparsity_of(target.role, target.layer)
        values = None
        if groups:
            values = group_magnitudes(module, groups[target.name])
        elif removals is not None:
            values = ranked_by_removals(weight, removals[target.name])
        scores = initial_scores(
            weight.detach(),
            target.name,
            init=config.score_init,
            init_scale=config.init_scale,
            granularity=config.granularity,
            sparsity=sparsity,
            seed=config.seed,
            values=values,
        )
        own = config.has_own_sparsity(target.role, target.layer)
        masks.append(
            kind(
                scores.to(weight.dtype),
                sparsity=sparsity,
                n_m=config.n_m,
                estimator=config.estimator,
                group=None if own else group,
                average=config.score_average,
                gradient_dropout=config.gradient_dropout,
                gradient_rest=config.gradient_rest,
                rows=weight.shape[0] if "row_scale" in config.train else None,
                block=groups[target.name].size if groups else None,
                cost=unit_cost(module, groups[target.name]) if groups else 1,
            )
        )
    masked = {target.name for target in targets}
    kinds = tuple(kind for kind in config.train if kind not in ("weights", "row_scale"))
    trained = trainable_names(module, kinds, masked)
    _register(module, targets, masks, config)
    for name, parameter in module.named_parameters():
        if name in trained:
            parameter.requires_grad_(True)
    if "weights" in config.train:
        for target in targets:
            modules[target.module].parametrizations[target.parameter].original.requires_grad_(True)
    return masks


def _refuse_attached(module: nn.Module) -> None:
    if any(isinstance(sub, WeightMask) for sub in module.modules()):
        raise ConfigError(f"{type(module).__name__} has masks attached already; detach() or bake() them first")


def _register(module: nn.Module, targets: list[Target], masks: list[WeightMask], config: MaskConfig | None) -> None:
    """Freeze the module, register the masks, and write down how it was."""
    record = _Record(config, {name: p.requires_grad for name, p in module.named_parameters()})
    module.requires_grad_(False)
    modules = dict(module.named_modules())
    for name, sub in modules.items():
        # HuggingFace feature extractors otherwise make their input require grad, and so record everything above it.
        if getattr(sub, "_requires_grad", None) is True:
            sub._requires_grad = False
            record.input_grad.append(name)
        if type(sub) is nn.Linear:
            sub.__class__ = FrozenLinear  # the masked ones get a class of their own below
    for target, mask in zip(targets, masks, strict=True):
        sub = modules[target.module]
        plain = type(sub) is FrozenLinear and not parametrize.is_parametrized(sub)
        # unsafe: under autocast the masked weight has the lower dtype
        parametrize.register_parametrization(sub, target.parameter, mask, unsafe=True)
        if plain:
            # On the class that the parametrization has just made for this module: deep copies take it along.
            type(sub).forward = _linear_forward
    module.__dict__[_RECORD] = record


def _linear_forward(self: nn.Linear, input: Tensor) -> Tensor:
    """In place of ``nn.Linear.forward`` in masked linears, to save memory; the same result."""
    chain = self.parametrizations["weight"]
    if len(chain) > 1:  # somebody else's parametrization comes on top
        return F.linear(input, self.weight, self.bias)
    return chain[0].linear(input, chain.original, self.bias)


def trainable_names(module: nn.Module, kinds: tuple[str, ...], masked: Collection[str] = ()) -> set[str]:
    """Parameters of these kinds (``bias``, ``layer_norm`` …, as `MaskConfig.train` names them), ``masked`` left aside.

    Raises:
        ConfigError: a kind matches nothing.
    """
    names = [n for n, _ in module.named_parameters() if n not in masked and not _FEATURE_EXTRACTOR.search(n)]
    trained: set[str] = set()
    problems = []
    for kind in kinds:
        hits = {n for n in names if _TRAINABLE[kind].search(n)}
        if kind == "bias":  # layer norms and the positional convolution have names of their own
            hits = {n for n in hits if not any(_TRAINABLE[other].search(n) for other in ("layer_norm", "pos_conv"))}
        if not hits:
            problems.append(f"train: '{kind}' matches no parameter")
        trained |= hits
    if problems:
        raise ConfigError(f"{type(module).__name__}: {'; '.join(problems)}. Parameters seen: {', '.join(names[:40])}")
    return trained


def _masked_weights(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, WeightMask]]:
    """(weight name, module that owns it, parameter name, mask) of every masked weight, in the order of the model."""
    for name, sub in module.named_modules():
        if parametrize.is_parametrized(sub):
            for parameter, chain in sub.parametrizations.items():
                if isinstance(chain[0], WeightMask):
                    yield f"{name}.{parameter}" if name else parameter, sub, parameter, chain[0]


def iterate(module: nn.Module) -> Iterator[tuple[str, WeightMask]]:
    """(name of the weight in the plain model, like ``encoder.layers.0.fc1.weight``; its mask), in the model's order."""
    for name, _, _, mask in _masked_weights(module):
        yield name, mask


def masks_of(module: nn.Module) -> dict[str, Tensor]:
    """The current masks by weight name: new bool tensors of the weights' shapes (rows, columns), True = kept."""
    return {
        name: mask.keep().expand(sub.parametrizations[parameter].original.shape).contiguous()
        for name, sub, parameter, mask in _masked_weights(module)
    }


def row_scales(module: nn.Module) -> dict[str, Tensor]:
    """The factors of rows by weight name, new tensors (rows,); {} where none train."""
    return {
        name: mask.row_scale.detach().clone().squeeze(1)
        for name, _, _, mask in _masked_weights(module)
        if mask.row_scale is not None
    }


def load_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Use these masks from now on, unchanged ("freeze masks"): their scores, if any, are dropped.

    A plain module gets them attached (and is frozen as by :func:`attach`). Scores loaded later with
    ``load_state_dict`` make masks trainable again.

    Args:
        masks: weight name -> mask (rows, columns), bool or 0/1, True = kept: exactly the masked weights of `module`.

    Raises:
        ConfigError: names, shapes or values do not fit; the module is left as it was.
    """
    attached = dict(iterate(module))
    modules = dict(module.named_modules())
    problems: list[str] = []
    shapes: dict[str, torch.Size] = {}
    devices: dict[str, torch.device] = {}
    for name in attached or masks:
        owner, _, parameter = name.rpartition(".")
        sub = modules.get(owner)
        weight = None
        if sub is not None:
            weight = sub.parametrizations[parameter].original if attached else sub._parameters.get(parameter)
        if weight is None or weight.dim() != 2:
            problems.append(f"'{name}' is no matrix of this model")
        else:
            shapes[name], devices[name] = weight.shape, weight.device
    if attached:
        problems += [f"no mask for '{name}'" for name in attached if name not in masks]
        problems += [f"'{name}' is not masked here" for name in masks if name not in attached]
    if not masks:
        problems.append("no masks given")
    checked: dict[str, Tensor] = {}
    for name, mask in masks.items():
        if name in shapes and mask.shape != shapes[name]:
            problems.append(f"'{name}': expected shape {list(shapes[name])}, found {list(mask.shape)}")
        elif mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            problems.append(f"'{name}': holds values other than 0 and 1")
        elif name in shapes:
            checked[name] = mask.to(devices[name], torch.bool, copy=True)
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ConfigError(f"masks do not fit {type(module).__name__}: {'; '.join(problems[:10])}{more}")
    if attached:
        for name, mask in attached.items():
            mask.fix(checked[name])
        return
    targets = []
    for name, shape in shapes.items():
        owner, _, parameter = name.rpartition(".")
        targets.append(Target(owner, parameter, None, None, tuple(shape)))
    _register(module, targets, [WeightMask(mask=checked[target.name]) for target in targets], None)


def detach(module: nn.Module) -> nn.Module:
    """Take the masks off: the untouched model again, with the weights and ``requires_grad`` it had (in place).

    Weights that were trained along (``train=("weights",)``) stay as trained, without zeros.
    """
    return _take_off(module, write=False)


def bake(module: nn.Module) -> nn.Module:
    """Write the zeros into the weights and take the masks off: a plain model, whose outputs equal the masked one's.

    In place; the scores are gone afterwards.
    """
    return _take_off(module, write=True)


def _take_off(module: nn.Module, write: bool) -> nn.Module:
    found = list(_masked_weights(module))
    if not found:
        raise ConfigError(f"{type(module).__name__} has no masks attached")
    if write:  # all of them first: masks with a common threshold depend on one another
        with torch.no_grad():
            for _, sub, parameter, mask in found:
                original = sub.parametrizations[parameter].original
                original.masked_fill_(~mask.keep(), 0)
                if mask.row_scale is not None:
                    original.mul_(mask.row_scale)
    for _, sub, parameter, mask in found:
        mask.leave_group()
        _unparametrize(sub, parameter)
    for owner in list(module.modules()):
        if type(owner) is FrozenLinear:
            owner.__class__ = nn.Linear
        record = owner.__dict__.pop(_RECORD, None)
        if record is None:
            continue
        for name, parameter in owner.named_parameters():
            if name in record.requires_grad:  # others have been added since
                parameter.requires_grad_(record.requires_grad[name])
        for name, sub in owner.named_modules():
            if name in record.input_grad:
                sub._requires_grad = True
    return module


def _unparametrize(module: nn.Module, parameter: str) -> None:
    """As ``parametrize.remove_parametrizations`` does, which breaks the other deep copies of the module.

    (Copies share the class that the parametrization made, and it takes the property off that class.)
    """
    original = module.parametrizations[parameter].original
    made = type(module)
    del module.parametrizations[parameter]
    if module.parametrizations:
        drop = {parameter, "forward", "__dict__", "__weakref__"}
        module.__class__ = type(made.__name__, made.__bases__, {k: v for k, v in vars(made).items() if k not in drop})
    else:
        del module.parametrizations
        module.__class__ = made.__bases__[0]
    module.register_parameter(parameter, original)
    # Back to its old place: optimizers and state dicts go by order.
    module._parameters = {parameter: module._parameters.pop(parameter)} | module._parameters


def refresh(module: nn.Module) -> None:
    """Make all masks anew at the next forward pass: needed after edits through ``.data`` only."""
    for _, mask in iterate(module):
        mask.refresh()
