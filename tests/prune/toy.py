"""A toy model and its training, plain and pruned, for tests that compare with slow references."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from s3router.masks import MaskConfig
from s3router.prune.attach import attach_pruning
from s3router.prune.pruner import Pruner

UPDATES = 12
RATE = 0.05


class Block(nn.Module):
    """Attention projections (without attention, which is of no matter here) and a feed-forward layer."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width) for name in ("v", "out")})
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn["out_proj"](torch.tanh(self.self_attn["v_proj"](x)))
        return x + self.fc2(torch.relu(self.fc1(x)))


class Toy(nn.Module):
    """(batch, 6) -> (batch, 6)"""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block(6, 10) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


NAMES = [
    f"layers.{n}.{part}.weight" for n in (0, 1) for part in ("self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2")
]
"""The weights that are pruned."""


def toy() -> Toy:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Toy()


def batch(update: int) -> tuple[Tensor, Tensor]:
    """Input and target (8, 6) of an update, the first of which is 1."""
    generator = torch.Generator().manual_seed(update)
    x = torch.randn(8, 6, generator=generator)
    return x, x.flip(1).sin()


def loss_of(model: nn.Module, update: int) -> Tensor:
    x, target = batch(update)
    return (model(x) - target).square().mean()


def pruned(method: str, conf: dict | None = None, updates: int = UPDATES, rate: float = RATE, **mask) -> nn.Module:
    """The toy after a training with the method, in evaluation mode."""
    model = toy()
    given = {"targets": ("ffn", "attention"), "sparsity": 0.5}
    given |= {"score_init": "weight"} if method == "router_p" else {}
    attach_pruning(model, method, MaskConfig(**(given | mask)), conf or {})
    model.requires_grad_(True)
    return trained(model, updates, rate)


def trained(model: nn.Module, updates: int = UPDATES, rate: float = RATE, until: int | None = None) -> nn.Module:
    """Train from the start to the end (or ``until`` an update), as the trainers do."""
    pruner = Pruner(model, updates)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    pruner.begin(0)
    for update in range(1, (until or updates) + 1):
        model.train()
        optimizer.zero_grad()
        loss_of(model, update).backward()
        optimizer.step()
        pruner.after(update)
    pruner.end()
    return model.eval()


class Reference:
    """The toy with plain weights, trained in a plain loop: what tests prune by hand.

    Attributes:
        model: the weights.
        masks: name -> 0/1, by which the forward pass and the gradients are multiplied.
    """

    def __init__(self, rate: float = RATE):
        self.model = toy()
        self.start = copy.deepcopy(self.model)
        self.masks = {name: torch.ones_like(self.weight(name)) for name in NAMES}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)

    def weight(self, name: str) -> Tensor:
        return self.model.get_parameter(name).detach()

    def update(self, number: int, masked: bool = False) -> None:
        """One optimizer step; ``masked``: of what is left alone."""
        self.optimizer.zero_grad()
        loss_of(self.model, number).backward()
        if masked:
            for name in NAMES:
                self.model.get_parameter(name).grad.mul_(self.masks[name])
        self.optimizer.step()
        if masked:
            self.zero()

    def prune(self, sparsity: float) -> None:
        """Remove the smallest of each matrix, one after the other by a full sort; what is removed counts as zero."""
        for name in NAMES:
            flat = self.weight(name).flatten().tolist()
            order = sorted(range(len(flat)), key=lambda index: abs(flat[index]))
            mask = torch.ones(len(flat))
            mask[order[: int(sparsity * len(flat) + 1e-9)]] = 0
            self.masks[name] = mask.view_as(self.masks[name])
        self.zero()

    def zero(self) -> None:
        for name in NAMES:
            self.model.get_parameter(name).data.mul_(self.masks[name])
