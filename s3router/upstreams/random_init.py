"""Fresh weights for an upstream of s3prl, for the control ``--method scratch``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError

_UNIFORM = ("mask_emb", "mask_embedding", "masked_spec_embed", "label_embs_concat", "vars", "codevectors")
_ONES = ("grep_a", "gru_rel_pos_const")


@torch.no_grad()
def reinitialise(model: nn.Module) -> None:
    """Draw every weight anew from torch's generator, in place.

    Convolutions: Kaiming normal; weight-normed positional convolution: normal with standard deviation
    √(4 / (kernel · width)); linears and embeddings: normal with 0.02; norms: 1; biases: 0. So fairseq and transformers
    start wav2vec 2.0 and HuBERT.

    Raises:
        ConfigError: the model has a parameter that none of these rules is for.
    """
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if "weight_g" in own:
            _weight_norm(own.pop("weight_g"), own.pop("weight_v"))
        elif name.endswith("parametrizations.weight") and "original1" in own:
            _weight_norm(own.pop("original0"), own.pop("original1"))
        elif isinstance(module, nn.Conv1d | nn.Conv2d) and "weight" in own:
            nn.init.kaiming_normal_(own.pop("weight"))
        elif isinstance(module, nn.Linear | nn.Embedding) and "weight" in own:
            nn.init.normal_(own.pop("weight"), std=0.02)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d) and "weight" in own:
            nn.init.ones_(own.pop("weight"))
        for key, parameter in own.items():
            _single(f"{name}.{key}".lstrip("."), key, parameter)


def _weight_norm(size: Tensor, direction: Tensor) -> None:
    kept = [dim for dim in range(direction.dim()) if size.size(dim) > 1] or [direction.dim() - 1]
    width, kernel = direction.size(0), direction.size(-1)
    nn.init.normal_(direction, std=math.sqrt(4 / (kernel * width)))
    others = [dim for dim in range(direction.dim()) if dim not in kept]
    size.copy_(torch.linalg.vector_norm(direction, dim=others, keepdim=True))


def _single(name: str, key: str, parameter: Tensor) -> None:
    if key in _ONES:
        nn.init.ones_(parameter)
    elif key in _UNIFORM:
        nn.init.uniform_(parameter)
    elif key.endswith("bias"):
        nn.init.zeros_(parameter)
    else:
        raise ConfigError(f"random_init: no rule for the parameter {name} {tuple(parameter.shape)} of this upstream.")
