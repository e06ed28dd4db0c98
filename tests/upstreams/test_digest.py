from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm as new_weight_norm

from s3router.packs.fingerprint import weights_hash
from s3router.upstreams import fingerprint, hub


def test_masks_and_types_do_not_change_the_fingerprint(hf_folder):
    folder = str(hf_folder())
    plain = hub.build(folder, upstream="hf_hubert_custom")
    masked = hub.build(folder, upstream="hf_hubert_custom", mask={"sparsity": 0.4, "targets": ["ffn", "attention"]})
    assert fingerprint(plain) == fingerprint(masked) == masked.backbone_fingerprint == fingerprint(masked.backbone)
    assert fingerprint(nn.Sequential(masked)) == fingerprint(plain)  # inside of a larger model
    half = copy.deepcopy(plain.backbone).half()
    assert weights_hash(half) == weights_hash(copy.deepcopy(half).float()) != fingerprint(plain)


def test_every_change_of_a_weight_changes_it():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    before = fingerprint(model)
    assert fingerprint(copy.deepcopy(model)) == before
    with torch.no_grad():
        model[1].bias[2] += 1e-6
    assert fingerprint(model) != before
    assert fingerprint(nn.Sequential(model[0])) != fingerprint(model)


def test_order_does_not_count_but_names_and_shapes_do():
    class Pair(nn.Module):
        def __init__(self, names, tensors):
            super().__init__()
            for name in names:
                self.register_parameter(name, nn.Parameter(tensors[name]))

    tensors = {"a": torch.ones(2, 3), "b": torch.zeros(6)}
    swapped = {"a": tensors["b"], "b": tensors["a"]}
    reshaped = {"a": torch.ones(3, 2), "b": tensors["b"]}
    first = fingerprint(Pair("ab", tensors))
    assert fingerprint(Pair("ba", tensors)) == first
    assert first not in (fingerprint(Pair("ab", swapped)), fingerprint(Pair("ab", reshaped)))


def test_both_namings_of_weight_norm_are_one():
    conv = nn.Conv1d(4, 4, 3)
    old, new = nn.utils.weight_norm(copy.deepcopy(conv), dim=2), new_weight_norm(copy.deepcopy(conv), dim=2)
    assert {name for name, _ in old.named_parameters()} != {name for name, _ in new.named_parameters()}
    assert fingerprint(old) == fingerprint(new)
