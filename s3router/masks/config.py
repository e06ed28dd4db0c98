"""The configuration of masks: which weights, how many, and what trains besides the scores."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from s3router.errors import ConfigError

ROLES = ("ffn", "attention", "projection")
GRANULARITIES = ("unstructured", "output", "input", "group")
SCOPES = ("tensor", "global", "flops")
ESTIMATORS = ("straight_through", "sigmoid")
TRAINABLE = ("bias", "layer_norm", "row_scale", "pos_conv", "feature_projection", "mask_embedding", "weights")

DEFAULT_SPARSITY = 0.1
"""Of masks that are not N:M, where nothing else is said."""


def parse_n_m(granularity: str) -> tuple[int, int] | None:
    """``"2:4"`` -> ``(2, 4)`` (keep 2 of each 4 along the input); None where it is not of that form."""
    match = re.fullmatch(r"(\d+):(\d+)", granularity)
    return (int(match[1]), int(match[2])) if match else None


def fixes_sparsity(granularity: object) -> bool:
    """Whether a granularity is N:M, in one of the forms that YAML gives it."""
    try:
        return MaskConfig.from_dict({"granularity": granularity}).n_m is not None
    except ConfigError:
        return False


@dataclass(frozen=True)
class MaskConfig:
    """How weights are masked, and what trains besides the scores.

    Raises :class:`~s3router.errors.ConfigError` with every problem found, not only the first.

    Attributes:
        sparsity: share of weights removed, 0 <= s < 1. None: `DEFAULT_SPARSITY`, or 1 - N/M where the granularity is
            N:M, which allows no other.
        targets: roles (``ffn``, ``attention``, ``projection``) and/or shell patterns of weight or module names
            (``encoder.layers.*.fc1``).
        layers: only these transformer layers (0-based). Targets outside any layer (the projection) stay included.
        granularity: ``unstructured`` (one score per weight), ``output`` (one per row), ``input`` (one per column),
            ``group`` (one per hidden unit or attention head, `s3router.masks.groups`; what is removed can go for good)
            or ``N:M`` (of each M neighbours along the input, N are kept).
        scope: ``tensor`` (one threshold per tensor, as in the paper), ``global`` (one threshold for all targets that
            have no sparsity of their own) or ``flops`` (the same for granularity ``group``, where the sparsity is the
            share not of units, but of the multiplications that all of them do: a head counts for as much as it takes).
        layer_sparsity: layer index -> sparsity; goes before `role_sparsity` and `sparsity`.
        role_sparsity: role -> sparsity; goes before `sparsity`.
        score_init: a name in :data:`s3router.masks.scores.SCORE_INITS`.
        init_scale: initial scores are divided by it.
        start_packs: mask packs (paths) of the same backbone and targets. Initial scores rank a weight the lower, the
            more of them remove it, and by magnitude where these are equal; the spacing is that of ``ori``. Training
            alone reads them: a checkpoint holds the scores.
        estimator: ``straight_through`` (d loss/d|S| = d loss/d mask) or ``sigmoid`` (times the slope of sigmoid(|S|)).
        score_average: decay per update of an average of the scores, which decides the mask in evaluation; 0: there is
            none, and the scores do. In training they always do.
        gradient_dropout: share of the scores' gradients that each backward pass leaves out, at random; the others are
            scaled up for it (R-AMT, arXiv 2305.16597, section 3.3).
        gradient_rest: share of the masked weights whose scores rest in a training pass; which ones is drawn for each
            anew, by torch's generator of the CPU. Their gradient is not computed and the optimizer leaves them as they
            are, so that a step is cheaper.
        train: what else trains: any of ``bias``, ``layer_norm``, ``row_scale`` (a factor for each row of a masked
            weight), ``pos_conv``, ``feature_projection``, ``mask_embedding`` (what stands for masked frames),
            ``weights`` (the masked weights themselves). The convolutional feature extractor is always frozen.
        seed: initial scores depend on this and on the weight's name alone.
    """

    sparsity: float | None = None
    targets: tuple[str, ...] = ("ffn",)
    layers: tuple[int, ...] | None = None
    granularity: str = "unstructured"
    scope: str = "tensor"
    layer_sparsity: Mapping[int, float] = field(default_factory=dict)
    role_sparsity: Mapping[str, float] = field(default_factory=dict)
    score_init: str = "ori"
    init_scale: float = 1.0
    start_packs: tuple[str, ...] = ()
    estimator: str = "straight_through"
    score_average: float = 0.0
    gradient_dropout: float = 0.0
    gradient_rest: float = 0.0
    train: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        problems = _normalise(self) or _problems(self)
        if problems:
            raise ConfigError("mask configuration: " + "; ".join(problems))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MaskConfig:
        """Build from a plain mapping, as read from YAML or a command line. Unknown keys are an error."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"mask configuration: expected a mapping, found {type(values).__name__} ({values!r})")
        known = [f.name for f in fields(cls)]
        unknown = [f"unknown key '{key}' (known: {', '.join(known)})" for key in values if key not in known]
        try:
            config = cls(**{key: value for key, value in values.items() if key in known})
        except ConfigError as error:
            raise ConfigError("; ".join([str(error), *unknown])) from None
        if unknown:
            raise ConfigError("mask configuration: " + "; ".join(unknown))
        return config

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping that :meth:`from_dict` takes back; ``start_packs`` and ``gradient_rest`` only if given."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: v for key, v in values.items() if v or key not in ("start_packs", "gradient_rest")}

    @property
    def n_m(self) -> tuple[int, int] | None:
        """(N, M) where the granularity is N:M, else None."""
        return parse_n_m(self.granularity)

    def sparsity_of(self, role: str | None, layer: int | None) -> float:
        """The sparsity of one target: its layer's, else its role's, else the general one."""
        if layer in self.layer_sparsity:
            return self.layer_sparsity[layer]
        if role in self.role_sparsity:
            return self.role_sparsity[role]
        return self.sparsity

    def has_own_sparsity(self, role: str | None, layer: int | None) -> bool:
        """Whether one target is left out of a global threshold because a layer or role sparsity names it."""
        return layer in self.layer_sparsity or role in self.role_sparsity


def _normalise(config: MaskConfig) -> list[str]:
    """Bring values as they come from YAML or a command line to their types; the problems met on the way."""
    problems: list[str] = []

    def put(name: str, convert: Any, expected: str) -> None:
        value = getattr(config, name)
        try:
            object.__setattr__(config, name, convert(value))
        except (TypeError, ValueError, AttributeError, OverflowError):  # the last of infinity as a whole number
            problems.append(f"{name}: expected {expected}, found {value!r}")

    def strings(value: Any) -> tuple[str, ...]:
        value = tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else tuple(value)
        if not all(isinstance(part, str) for part in value):
            raise TypeError
        return tuple(part for part in value if part)

    def integer(value: Any) -> int:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
        return int(value)

    def number(value: Any) -> float:
        if isinstance(value, bool):
            raise ValueError
        return float(value)

    def layers(value: Any) -> tuple[int, ...] | None:
        if value is None:
            return None
        value = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
        return tuple(integer(part) for part in value)

    def granularity(value: Any) -> str:
        if isinstance(value, int) and value >= 60:  # YAML reads 2:4 without quotes as 2 · 60 + 4
            return f"{value // 60}:{value % 60}"
        if not isinstance(value, str):
            raise TypeError
        return value

    put("granularity", granularity, f"{', '.join(GRANULARITIES)} or N:M as in 2:4")
    n_m = parse_n_m(config.granularity) if isinstance(config.granularity, str) else None
    if config.sparsity is None:
        default = 1 - n_m[0] / n_m[1] if n_m and n_m[1] else DEFAULT_SPARSITY
        object.__setattr__(config, "sparsity", default)
    put("sparsity", number, "a number")
    put("init_scale", number, "a number")
    put("score_average", number, "a number")
    put("gradient_dropout", number, "a number")
    put("gradient_rest", number, "a number")
    put("seed", integer, "a whole number")
    put("targets", strings, "a list of roles or name patterns")
    put("train", strings, f"a list out of {', '.join(TRAINABLE)}")
    put("start_packs", strings, "a list of mask packs")
    put("layers", layers, "a list of layer numbers")
    put("layer_sparsity", lambda d: {integer(k): number(v) for k, v in d.items()}, "a mapping layer number: sparsity")
    put("role_sparsity", lambda d: {str(k): number(v) for k, v in d.items()}, "a mapping role: sparsity")
    return problems


def _problems(config: MaskConfig) -> list[str]:
    from s3router.masks.scores import SCORE_INITS

    problems: list[str] = []

    def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
        if value not in known:
            problems.append(f"{name}: '{value}' is unknown (known: {', '.join(known)})")

    def share(name: str, value: float) -> None:
        if not 0 <= value < 1:
            problems.append(f"{name}: {value} is out of range (the share of weights removed: 0 <= sparsity < 1)")

    share("sparsity", config.sparsity)
    for layer, value in config.layer_sparsity.items():
        share(f"layer_sparsity[{layer}]", value)
    for role, value in config.role_sparsity.items():
        one_of("role_sparsity", role, ROLES)
        share(f"role_sparsity[{role}]", value)
    if not config.targets:
        problems.append(f"targets: empty (give roles out of {', '.join(ROLES)}, or name patterns)")
    for target in config.targets:
        if not is_pattern(target):
            one_of("targets", target, ROLES)
    if config.layers is not None and (not config.layers or min(config.layers) < 0):
        problems.append(f"layers: {list(config.layers)} (give at least one layer number from 0 up, or leave it out)")
    one_of("scope", config.scope, SCOPES)
    one_of("score_init", config.score_init, tuple(SCORE_INITS))
    one_of("estimator", config.estimator, ESTIMATORS)
    for name in ("score_average", "gradient_dropout", "gradient_rest"):
        if not 0 <= getattr(config, name) < 1:
            problems.append(f"{name}: {getattr(config, name)} is out of range (a share from 0 up to 1)")
    for name in config.train:
        one_of("train", name, TRAINABLE)
    if config.scope == "flops" and config.granularity != "group":
        problems.append(
            f"scope: flops is for granularity group, not {config.granularity}: single weights take no time of their own"
        )
    if config.granularity == "group" and "row_scale" in config.train:
        problems.append("train: row_scale does not go with granularity group; leave it out")
    if not (config.init_scale > 0 and math.isfinite(config.init_scale)):
        problems.append(f"init_scale: {config.init_scale} (must be above 0)")
    if config.start_packs and config.score_init != "ori":
        problems.append(f"start_packs: for score_init ori, not {config.score_init}; leave one of the two out")
    if config.start_packs and config.granularity in ("output", "input", "group"):
        problems.append(f"start_packs: they rank single weights, and granularity {config.granularity} does not")
    if twice := [path for path, count in Counter(config.start_packs).items() if count > 1]:
        problems.append(f"start_packs: {twice[0]} stands there twice; name each pack once")
    return problems + _n_m_problems(config)


def _n_m_problems(config: MaskConfig) -> list[str]:
    if config.n_m is None:
        if config.granularity in GRANULARITIES:
            return []
        return [f"granularity: '{config.granularity}' is unknown (known: {', '.join(GRANULARITIES)}, N:M as in 2:4)"]
    n, m = config.n_m
    if not 0 < n < m:
        return [f"granularity: {config.granularity} keeps {n} of {m}; 0 < N < M is needed"]
    problems = []
    if not math.isclose(config.sparsity, 1 - n / m, abs_tol=1e-6):
        problems.append(
            f"sparsity: {config.sparsity:g} contradicts granularity {config.granularity}, which removes {m - n} of {m} "
            f"({1 - n / m:g}); leave the sparsity out, or take another granularity"
        )
    if config.scope == "global" or config.layer_sparsity or config.role_sparsity:
        problems.append(
            f"granularity: {config.granularity} fixes the sparsity of every tensor; "
            "leave out scope 'global', layer_sparsity and role_sparsity"
        )
    return problems


def is_pattern(target: str) -> bool:
    """Whether an entry of `targets` is a name pattern, not a role: it has a dot or a wildcard in it."""
    return any(char in target for char in ".*?[")
