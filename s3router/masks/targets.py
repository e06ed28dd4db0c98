"""Finding the linear weights of a speech encoder by role, in the naming of any vendor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.utils import parametrize

from s3router.errors import ConfigError
from s3router.masks.config import MaskConfig, is_pattern

# How each role's weights are called, as the end of the weight's name. Checked in order: the first role that fits wins.
ROLE_PATTERNS: dict[str, tuple[str, ...]] = {
    "attention": (
        r"self_attn\.(q|k|v|out)_proj",  # s3prl and fairseq: wav2vec2, HuBERT, data2vec, WavLM
        r"attention\.(q|k|v|out)_proj",  # HuggingFace, torchaudio
        r"(self_)?attn\.linear_(q|k|v|out)",  # ESPnet, HuggingFace and fairseq conformers
        r"(self_attn|attention)\.in_proj_weight",  # nn.MultiheadAttention (torchaudio WavLM): q, k and v in one
        r"attention\.(self\.(query|key|value)|output\.dense)",  # BERT-like s3prl upstreams
    ),
    "ffn": (
        r"fc[12]",  # s3prl and fairseq
        r"(feed_forward|ffn[12])\.(intermediate_dense|output_dense)",  # HuggingFace, torchaudio
        r"(feed_forward|feed_forward_macaron|ffn[12])\.w_[12]",  # ESPnet, fairseq conformers
        r"cgmlp\.(channel_proj1\.0|channel_proj2)",  # ESPnet (E-)Branchformer: the gated MLP's two linears
        r"(layers|encoders)\.\d+\.linear[12]",  # nn.TransformerEncoderLayer
        r"(intermediate|output)\.dense",  # BERT-like s3prl upstreams
    ),
    "projection": (
        r"post_extract_proj",  # s3prl and fairseq
        r"feature_projection\.projection",  # HuggingFace, torchaudio
        r"embed\.(0|out|out\.0)",  # ESPnet: the linear after the subsampling
    ),
}
_ROLES = {role: re.compile(rf"(?:.*\.)?(?:{'|'.join(ends)})") for role, ends in ROLE_PATTERNS.items()}
_LAYER = re.compile(r"(?:^|\.)(?:layers?|encoders|blocks|h)\.(\d+)(?=\.)")
_DECODER = re.compile(r"(?:^|\.)decoders?(?=\.)")


@dataclass(frozen=True)
class Target:
    """One weight to mask: `parameter` (``weight`` or ``in_proj_weight``) of the module called `module`."""

    module: str
    parameter: str
    role: str | None
    layer: int | None
    shape: tuple[int, int]

    @property
    def name(self) -> str:
        """The weight's name in the plain model, like ``encoder.layers.0.fc1.weight``."""
        return f"{self.module}.{self.parameter}" if self.module else self.parameter


def find_targets(module: nn.Module, config: MaskConfig) -> list[Target]:
    """The weights that `config` masks in `module`, in the order of the model.

    Decoders are left out of the roles (name them by pattern if wanted).

    Raises:
        ConfigError: a role, pattern, layer or sparsity of one fits nothing here; the message lists the linears seen.
    """
    seen = list(_weights(module))
    problems: list[str] = []
    wanted: set[str] = set()
    for target in config.targets:
        hits = {w.name for w in seen if _fits(w, target)}
        if not hits:
            problems.append(f"{'pattern' if is_pattern(target) else 'role'} '{target}' matches nothing")
        wanted |= hits
    chosen = [w for w in seen if w.name in wanted]
    present = sorted({w.layer for w in chosen if w.layer is not None})
    if config.layers is not None and not problems:
        lacking = [layer for layer in config.layers if layer not in present]
        problems += [f"layers: no target in layer {layer} (there are: {present})" for layer in lacking]
        chosen = [w for w in chosen if w.layer is None or w.layer in config.layers]
    if not problems:
        here = {w.layer for w in chosen} | {w.role for w in chosen}
        lacking = [key for key in (*config.layer_sparsity, *config.role_sparsity) if key not in here]
        problems += [f"layer_sparsity/role_sparsity: '{key}' has no target" for key in lacking]
    if config.n_m:
        m = config.n_m[1]
        problems += [f"{w.name} has {w.shape[1]} inputs, not a multiple of {m}" for w in chosen if w.shape[1] % m]
    if problems:
        names = [f"{w.name} {list(w.shape)}" for w in seen]
        shown = ", ".join(names[:40]) + (f", … and {len(names) - 40} more" if len(names) > 40 else "")
        raise ConfigError(
            f"mask targets in {type(module).__name__}: {'; '.join(problems)}. Linear weights seen: {shown or 'none'}. "
            "Name them by pattern in 'targets', or correct the layer."
        )
    return chosen


def _weights(module: nn.Module) -> Iterator[Target]:
    """Every two-dimensional weight of a linear or multi-head attention, masked already or not."""
    for name, sub in module.named_modules():
        if isinstance(sub, nn.Linear):
            parameter = "weight"
        elif isinstance(sub, nn.MultiheadAttention) and sub.in_proj_weight is not None:
            parameter = "in_proj_weight"
        else:
            continue
        rows, columns = _shape(sub, parameter)
        full = f"{name}.{parameter}" if name else parameter
        yield Target(name, parameter, *role_and_layer(full), (rows, columns))


def _shape(module: nn.Module, parameter: str) -> tuple[int, int]:
    if isinstance(module, nn.MultiheadAttention):
        return 3 * module.embed_dim, module.embed_dim
    # Read past a parametrization: evaluating it here would compute a mask.
    weight = module._parameters.get(parameter)
    if weight is None and parametrize.is_parametrized(module, parameter):
        weight = getattr(module.parametrizations[parameter], "original", None)  # weight norm has two of them
    if weight is None:  # the result of torch's pruning, or of weight norm
        weight = getattr(module, parameter)
    return tuple(weight.shape)


def role_and_layer(name: str) -> tuple[str | None, int | None]:
    """The role and the layer that a weight's name (``encoder.layers.0.fc1.weight``) tells; None where it tells none."""
    layers = _LAYER.findall(name)
    end = name.removesuffix(".weight")
    fitting = (role for role, pattern in _ROLES.items() if pattern.fullmatch(end) and not _DECODER.search(name))
    return next(fitting, None), int(layers[-1]) if layers else None


def _fits(weight: Target, target: str) -> bool:
    if is_pattern(target):
        return fnmatchcase(weight.name, target) or fnmatchcase(weight.module, target)
    return weight.role == target
