"""Gradients against a slow reference, when masks are made anew, and what is kept for the backward pass."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s3router.masks import MaskConfig, attach, iterate, masks_of, refresh, weight_mask
from s3router.masks.functions import FrozenLinear
from s3router.masks.weight_mask import WeightMask


class ReferenceMask(torch.autograd.Function):
    """The definition: 1 for all but the k smallest magnitudes; the gradient goes straight through to |S|."""

    @staticmethod
    def forward(ctx, magnitudes: Tensor, k: int) -> Tensor:
        mask = torch.ones(magnitudes.numel())
        mask[magnitudes.flatten().sort(stable=True).indices[:k]] = 0
        return mask.view_as(magnitudes)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def reference_linear(x: Tensor, weight: Tensor, bias: Tensor, scores: Tensor, k: int, estimator: str) -> Tensor:
    magnitudes = scores.abs()
    if estimator == "sigmoid":  # same order, so the same mask; the gradient goes through the sigmoid
        magnitudes = torch.sigmoid(magnitudes)
    return F.linear(x, weight * ReferenceMask.apply(magnitudes, k), bias)


def masked_linear(**config) -> tuple[nn.Linear, WeightMask]:
    torch.manual_seed(0)
    linear = nn.Linear(8, 12)
    [mask] = attach(nn.ModuleDict({"fc1": linear}), MaskConfig(sparsity=0.25, **config))
    return linear, mask


@pytest.mark.parametrize("estimator", ["straight_through", "sigmoid"])
@pytest.mark.parametrize(("granularity", "k"), [("unstructured", 24), ("output", 3), ("input", 2)])
@pytest.mark.parametrize("train", [(), ("weights",)])
@pytest.mark.parametrize("through", ["forward", "weight"])
def test_gradients(estimator, granularity, k, train, through):
    linear, mask = masked_linear(estimator=estimator, granularity=granularity, train=train)
    x = torch.randn(2, 5, 8, requires_grad=True)
    target = torch.randn(2, 5, 12)
    original = linear.parametrizations.weight.original
    leaves = [x.detach().clone(), original.detach().clone(), mask.scores.detach().clone()]
    slow = [leaf.requires_grad_() for leaf in leaves]

    output = linear(x) if through == "forward" else F.linear(x, linear.weight, linear.bias)
    (output * target).sum().backward()
    expected = reference_linear(slow[0], slow[1], linear.bias.detach(), slow[2], k, estimator)
    (expected * target).sum().backward()

    assert torch.allclose(output, expected, atol=1e-6)
    assert torch.allclose(x.grad, slow[0].grad, atol=1e-5)
    assert torch.allclose(mask.scores.grad, slow[2].grad, atol=1e-5)
    if train:
        assert torch.allclose(original.grad, slow[1].grad, atol=1e-5)
    else:
        assert original.grad is None


def test_golden_step():
    """One fixed step with numbers worked out by hand: S' = S - lr * G * W * sign(S), in exact binary fractions."""
    linear = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -2.0, 3.0, 4.0]]))
    [mask] = attach(nn.ModuleDict({"fc1": linear}), MaskConfig(sparsity=0.25, score_init="weight", init_scale=8.0))
    optimizer = torch.optim.SGD([mask.scores], lr=0.125)
    assert linear(torch.ones(4)).item() == 5.0  # the 1 is removed
    linear(torch.tensor([-1.0, 1.0, 1.0, 2.0])).sum().backward()
    optimizer.step()
    # W * x = (-1, -2, 3, 8); signs of S (+, -, +, +): gradient (-1, 2, 3, 8)
    assert mask.scores.tolist() == [[0.25, -0.5, 0.0, -0.5]]
    assert linear(torch.ones(4)).item() == 3.0  # now the 3 is removed


def test_gradient_of_zero_scores_is_not_zero():
    linear, mask = masked_linear(score_init="zero")
    linear(torch.randn(3, 8)).sum().backward()
    assert (mask.scores.grad != 0).all()


def test_autocast_gradients_are_close_and_in_float32():
    linear, mask = masked_linear()
    x = torch.randn(64, 8)
    linear(x).square().mean().backward()
    exact = mask.scores.grad.clone()
    mask.scores.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        low = linear(x)
        assert low.dtype == linear.weight.dtype == torch.bfloat16
        loss = low.float().square().mean()
    loss.backward()
    assert mask.scores.grad.dtype == torch.float32
    assert torch.allclose(mask.scores.grad, exact, atol=0.02 * exact.abs().max().item())
    assert linear(x).dtype == torch.float32  # autocast off again, same scores
    with torch.autocast("cpu", torch.bfloat16):  # backward within the context
        linear(x).float().square().mean().backward()
        with torch.autocast("cpu", enabled=False):
            linear(x).square().mean().backward()


@pytest.mark.parametrize("through", ["forward", "weight"])
def test_weights_trained_under_autocast_get_the_gradients_of_the_exact_mask(through):
    linear, mask = masked_linear(train=("weights",))
    with torch.no_grad():
        mask.scores.fill_(1.001)  # 1 in bfloat16
        mask.scores[:3].fill_(1.0)
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.ones(1, 8)
        output = linear(x) if through == "forward" else F.linear(x, linear.weight, linear.bias)
    output.sum().backward()
    assert torch.equal(linear.parametrizations.weight.original.grad != 0, mask.keep())


def test_low_precision_weights_under_autocast():
    linear, mask = masked_linear()
    linear.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        linear(torch.randn(3, 8)).sum().backward()
    assert mask.scores.grad.dtype == torch.bfloat16


@pytest.fixture
def selections(monkeypatch) -> list[int]:
    """Grows by one entry with every selection."""
    calls: list[int] = []
    original = weight_mask.select

    def counted(scores, k):
        calls.append(k)
        return original(scores, k)

    monkeypatch.setattr(weight_mask, "select", counted)
    return calls


def test_selection_once_a_step(encoder, audio, selections):
    attach(encoder, MaskConfig())
    optimizer = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    assert selections == []
    for step in range(1, 4):
        for _ in range(3):  # accumulation
            encoder(audio).square().sum().backward()
        with torch.no_grad():
            encoder(audio)
        with torch.autocast("cpu", torch.bfloat16):
            encoder(audio)
        masks_of(encoder)
        optimizer.step()
        optimizer.zero_grad()
        assert len(selections) == 4 * step


def test_global_selection_once_a_step(encoder, audio, selections):
    attach(encoder, MaskConfig(scope="global"))
    for _ in range(3):
        encoder(audio).square().sum().backward()
    assert len(selections) == 1
    with torch.no_grad():
        next(iterate(encoder))[1].scores.add_(0.01)
    encoder(audio)
    assert len(selections) == 2


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, foreach=False),
    "adam-foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("train", [(), ("weights",)])
def test_every_optimizer_step_is_seen(name, train):
    linear, mask = masked_linear(train=train)
    x = torch.randn(16, 8)
    optimizer = OPTIMIZERS[name]([p for p in linear.parameters() if p.requires_grad])
    for _ in range(3):
        optimizer.zero_grad()
        linear(x).square().sum().backward()
        with torch.no_grad():
            assert torch.allclose(linear(x), expected_output(linear, mask, x), atol=1e-6)
        optimizer.step()
        with torch.no_grad():
            assert torch.allclose(linear(x), expected_output(linear, mask, x), atol=1e-6)


def expected_output(linear: nn.Linear, mask: WeightMask, x: Tensor) -> Tensor:
    """From the scores and weights as they stand, with nothing remembered."""
    k = math.floor(mask.sparsity * mask.scores.numel())
    keep = ReferenceMask.apply(mask.scores.detach().abs(), k)
    return F.linear(x, linear.parametrizations.weight.original * keep, linear.bias)


CHANGES = {
    "in place": lambda linear, mask, new: mask.scores.copy_(new),
    "one entry": lambda linear, mask, new: mask.scores.__setitem__((0, 0), new[0, 0]),
    "view": lambda linear, mask, new: mask.scores.view(-1)[:40].mul_(-3),
    "new parameter": lambda linear, mask, new: setattr(mask, "scores", nn.Parameter(new)),
    "weight": lambda linear, mask, new: linear.parametrizations.weight.original.mul_(2),
    "double": lambda linear, mask, new: linear.double().float(),
    "state dict": lambda linear, mask, new: linear.load_state_dict(
        linear.state_dict() | {"parametrizations.weight.0.scores": new}
    ),
    "data with refresh": lambda linear, mask, new: (mask.scores.data.copy_(new), refresh(linear)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(change):
    linear, mask = masked_linear()
    x = torch.randn(16, 8)
    with torch.no_grad():
        linear(x)
        CHANGES[change](linear, mask, torch.randn(mask.scores.shape, generator=torch.Generator().manual_seed(9)))
        assert torch.allclose(linear(x), expected_output(linear, mask, x), atol=1e-6)


def test_inference_mode_leaves_nothing_behind(encoder, audio):
    attach(encoder, MaskConfig(granularity="2:4"))
    with torch.inference_mode():
        first = encoder(audio)
        masks_of(encoder)
    second = encoder(audio)
    second.sum().backward()
    assert torch.equal(first, second)


def test_scores_changed_between_forward_and_backward_are_an_error(encoder, audio):
    """As with any other parameter: the gradient would be of another function."""
    masks = attach(encoder, MaskConfig())
    loss = encoder(audio).sum()
    with torch.no_grad():
        masks[0].scores.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_nothing_is_kept_for_backward_but_inputs_weights_and_scores(encoder, audio):
    attach(encoder, MaskConfig())
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        encoder(audio)
    own = {p.data_ptr() for p in encoder.parameters()}
    # Neither the masked weights nor copies of the frozen ones (attention: 8 x 8) in the lower dtype.
    assert [t.shape for t in kept if t.dim() == 2 and t.data_ptr() not in own] == []
    assert all(not mask._masked for _, mask in iterate(encoder))


def test_frozen_linears_pass_gradients_on_as_torch_does(make_encoder, audio):
    def gradient(frozen: bool) -> Tensor:
        encoder = make_encoder()
        attach(encoder, MaskConfig(layers=(0,)))
        if not frozen:
            for module in encoder.modules():
                if type(module) is FrozenLinear:
                    module.__class__ = nn.Linear
        with torch.autocast("cpu", torch.bfloat16):
            loss = encoder(audio).float().square().sum()
        loss.backward()
        return next(iterate(encoder))[1].scores.grad

    assert gradient(True).abs().sum() > 0
    assert torch.equal(gradient(True), gradient(False))


def test_no_autograd_below_the_first_masked_layer(make_encoder, audio):
    encoder = make_encoder(layers=3)
    attach(encoder, MaskConfig(layers=(1, 2)))
    seen = []
    encoder.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    encoder.layers[1].fc2.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    encoder(audio)
    assert seen == [False, True]


def test_deep_copies_are_independent(encoder, audio):
    attach(encoder, MaskConfig())
    encoder(audio)
    copied = copy.deepcopy(encoder)
    before = encoder(audio)
    with torch.no_grad():
        for _, mask in iterate(copied):
            mask.scores.neg_().add_(0.1)
    assert not torch.equal(copied(audio), before)
    assert torch.equal(encoder(audio), before)
    copied(audio).sum().backward()
    assert next(iterate(encoder))[1].scores.grad is None


def test_hundred_steps_with_accumulation_learn(make_encoder, audio):
    """Masks alone bring the output nearer to that of another encoder."""
    encoder = make_encoder(width=16, layers=1)
    torch.manual_seed(5)
    goal = torch.randn(2, 5, 16)
    attach(encoder, MaskConfig(sparsity=0.3))
    optimizer = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        for i in range(2):
            loss = (encoder(audio[i : i + 1]) - goal[i : i + 1]).square().mean()
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def train_a_few(linear: nn.Linear, mask: WeightMask, steps: int = 3) -> list[Tensor]:
    """Scores after each update."""
    optimizer = torch.optim.SGD([p for p in linear.parameters() if p.requires_grad], lr=0.5)
    seen = []
    for step in range(steps):
        optimizer.zero_grad()
        linear(torch.randn(5, 8, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        optimizer.step()
        seen.append(mask.scores.detach().clone())
    return seen


def test_the_average_of_the_scores_decides_in_evaluation():
    linear, mask = masked_linear(score_average=0.75)
    average = mask.scores.detach().clone()
    for scores in train_a_few(linear.train(), mask):
        average = 0.75 * average + 0.25 * scores
    linear.eval()
    kept = average.abs() > average.abs().flatten().kthvalue(24).values
    assert torch.equal(mask.keep(), kept)
    assert not torch.equal(mask.keep(), linear.train() and mask.keep())
    linear.eval()
    x = torch.randn(3, 8)
    with torch.no_grad():
        wanted = F.linear(x, linear.parametrizations.weight.original * kept, linear.bias)
        torch.testing.assert_close(linear(x), wanted)
        torch.testing.assert_close(linear(x), wanted)  # a second use takes nothing in
    torch.testing.assert_close(mask.averaged, average)


def test_the_average_survives_checkpoints_and_copies_at_any_moment():
    whole, of_whole = masked_linear(score_average=0.5)
    train_a_few(whole, of_whole, 4)
    cut, of_cut = masked_linear(score_average=0.5)
    train_a_few(cut, of_cut, 2)
    twin = copy.deepcopy(cut)  # before the last update was taken in
    again, _ = masked_linear(score_average=0.5)
    again.load_state_dict(cut.state_dict())
    for linear in (again, twin):
        mask = linear.parametrizations.weight[0]
        optimizer = torch.optim.SGD([mask.scores], lr=0.5)
        for step in (2, 3):
            optimizer.zero_grad()
            linear(torch.randn(5, 8, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            optimizer.step()
        assert torch.equal(linear.state_dict()["parametrizations.weight.0.averaged"], mask.averaged)
        of_whole.take_in()
        torch.testing.assert_close(mask.averaged, of_whole.averaged)


def test_a_share_of_the_gradients_is_dropped_and_the_rest_scaled_up():
    plain, of_plain = masked_linear()
    dropped, of_dropped = masked_linear(gradient_dropout=0.25)
    x = torch.randn(5, 8)
    for linear in (plain, dropped):
        linear.train()(x).square().sum().backward()
    left = of_dropped.scores.grad != 0
    assert 0.5 < float(left.float().mean()) < 0.95
    torch.testing.assert_close(of_dropped.scores.grad[left], of_plain.scores.grad[left] / 0.75)
    of_dropped.scores.grad = None
    dropped.eval()(x).square().sum().backward()
    torch.testing.assert_close(of_dropped.scores.grad, of_plain.scores.grad)


@pytest.mark.parametrize("through", ["forward", "weight"])
@pytest.mark.parametrize("granularity", ["unstructured", "output"])
def test_scores_rest_in_a_share_of_the_passes(through, granularity):
    linear, mask = masked_linear(gradient_rest=0.5, granularity=granularity)
    plain, of_plain = masked_linear(granularity=granularity)
    optimizer = torch.optim.Adam([mask.scores], lr=0.01)
    rested = []
    for _ in range(40):
        x = torch.randn(5, 8, requires_grad=True)
        before = mask.scores.detach().clone()
        optimizer.zero_grad()
        output = linear(x) if through == "forward" else F.linear(x, linear.weight, linear.bias)
        output.square().sum().backward()
        assert x.grad is not None
        rested.append(mask.scores.grad is None)
        if not rested[-1]:
            with torch.no_grad():
                of_plain.scores.copy_(mask.scores)
            plain.zero_grad()
            plain(x.detach()).square().sum().backward()
            torch.testing.assert_close(mask.scores.grad, of_plain.scores.grad)
        optimizer.step()
        assert torch.equal(mask.scores, before) == rested[-1]
    assert 10 < sum(rested) < 30
    linear.eval()(torch.randn(5, 8)).square().sum().backward()  # nothing rests in evaluation
    assert mask.scores.grad is not None


@pytest.mark.parametrize("through", ["forward", "weight"])
def test_a_factor_for_each_row(through):
    linear, mask = masked_linear(train=("row_scale",))
    x, target = torch.randn(2, 5, 8), torch.randn(2, 5, 12)
    with torch.no_grad():
        mask.row_scale.uniform_(0.5, 2.0)
    scale, keep = mask.row_scale.detach().clone().requires_grad_(), mask.keep()
    expected = F.linear(x, linear.parametrizations.weight.original * keep * scale, linear.bias)
    output = linear(x) if through == "forward" else F.linear(x, linear.weight, linear.bias)
    torch.testing.assert_close(output, expected)
    (expected * target).sum().backward()
    (output * target).sum().backward()
    torch.testing.assert_close(mask.row_scale.grad, scale.grad, atol=1e-5, rtol=1e-5)
