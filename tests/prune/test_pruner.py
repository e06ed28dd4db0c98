"""Every method on a toy, against slow references that follow the papers' definitions word by word."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch.func import functional_call

from s3router.errors import ConfigError, TrainingError
from s3router.masks import MaskConfig, masks_of
from s3router.prune.attach import attach_pruning, check
from s3router.prune.magnitude import keep_largest
from s3router.prune.pruner import Pruner
from s3router.prune.schedule import complete
from s3router.tuners.learnt import learnt
from tests.prune.toy import NAMES, RATE, UPDATES, Reference, batch, loss_of, pruned, toy, trained

X = batch(99)[0]


def assert_is(model, reference: Reference) -> None:
    """Same masks, same weights where they keep, same outputs."""
    masks = masks_of(model)
    assert list(masks) == NAMES
    for name in NAMES:
        assert torch.equal(masks[name], reference.masks[name].bool()), name
    torch.testing.assert_close(model(X), reference.model(X), rtol=1e-5, atol=1e-6)


def test_omp_finetunes_prunes_once_and_finetunes_the_rest():
    reference = Reference()
    for update in range(1, 7):
        reference.update(update)
    reference.prune(0.5)
    for update in range(7, 13):
        reference.update(update, masked=True)
    assert_is(pruned("omp"), reference)


def test_imp_prunes_a_little_in_each_round():
    reference = Reference()
    for update in range(1, 13):
        reference.update(update, masked=True)
        if update in (3, 6, 9):
            reference.prune({3: 0.2, 6: 0.4, 9: 0.6}[update])
    assert_is(pruned("imp", {"rounds": 3}, sparsity=0.6), reference)
    assert_is(pruned("imp", {"step": 0.2}, sparsity=0.6), reference)


def test_imp_on_a_cubic_schedule():
    reference = Reference()
    for update in range(1, 13):
        reference.update(update, masked=True)
        if update in (4, 8):
            reference.prune({4: 0.64 * 0.875, 8: 0.64}[update])
    assert_is(pruned("imp", {"rounds": 2, "schedule": "cubic"}, sparsity=0.64), reference)


def test_parp_lets_what_was_removed_come_back_until_it_prunes_again():
    reference = Reference()
    reference.prune(0.5)
    first = copy.deepcopy(reference.masks)
    for update in range(1, 13):
        reference.update(update)
        if update % 5 == 0 or update == 12:
            reference.prune(0.5)
    assert_is(pruned("parp", {"every": 5}), reference)
    back = sum(int(((first[name] == 0) & (reference.masks[name] == 1)).sum()) for name in NAMES)
    assert back > 20, "nothing has come back, so the test says nothing"


def test_parp_p_prunes_more_each_time():
    reference = Reference()
    reference.prune(0.3)
    for update in range(1, 13):
        reference.update(update)
        if update in (3, 6, 9, 12):
            reference.prune({3: 0.45, 6: 0.6, 9: 0.6, 12: 0.6}[update])
    assert_is(pruned("parp_p", {"every": 3, "initial": 0.3, "until": 0.5}, sparsity=0.6), reference)


def router_p_by_hand(reference, source, share_of=lambda update: 1.0, together=False) -> dict[str, torch.Tensor]:
    """The second half of S3-Router-P, from the weights that the first has left; `source`: whose magnitudes scores are.

    Returns the masks that magnitudes alone would have made, and leaves weights and masks in the reference.
    """
    before = by_magnitude(source)
    scores = {name: (source.get_parameter(name).detach() / 2).requires_grad_() for name in NAMES}
    weights = dict(reference.model.named_parameters())

    def masked(share: float) -> dict[str, torch.Tensor]:
        found = dict(weights)
        for name, score in scores.items():
            order = score.detach().abs().flatten().argsort(stable=True)
            mask = torch.ones(score.numel())
            mask[order[: int(score.numel() * share / 2)]] = 0
            reference.masks[name] = mask.view_as(score)
            through = reference.masks[name] + score.abs() - score.abs().detach()  # straight-through
            found[name] = through * (weights[name] if together else weights[name].detach())
        return found

    optimizer = torch.optim.Adam(scores.values(), lr=RATE)
    for update in range(7, 13):
        optimizer.zero_grad()
        reference.optimizer.zero_grad()
        x, target = batch(update)
        (functional_call(reference.model, masked(share_of(update)), (x,)) - target).square().mean().backward()
        optimizer.step()
        if together:
            reference.optimizer.step()
    for name, weight in masked(1.0).items():
        reference.model.get_parameter(name).data.copy_(weight.detach())
    return before


@pytest.mark.parametrize("start", ["pretrained", "finetuned"])
def test_router_p_learns_masks_on_finetuned_weights(start):
    reference = Reference()
    for update in range(1, 7):
        reference.update(update)
    before = router_p_by_hand(reference, reference.model if start == "finetuned" else reference.start)
    assert_is(pruned("router_p", {"start": start}, init_scale=2.0), reference)
    moved = sum(int((reference.masks[name] != mask).sum()) for name, mask in before.items())
    assert moved > 20, "no mask has moved, so the test says nothing"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("schedule", [None, "linear", "cubic"])
def test_router_p_whose_masks_rise_and_whose_weights_go_on(together, schedule):
    def share(update: int) -> float:
        done = min(1.0, (update - 6) / 4)
        return {None: 1.0, "linear": done, "cubic": 1 - (1 - done) ** 3}[schedule]

    reference = Reference()
    for update in range(1, 7):
        reference.update(update)
    router_p_by_hand(reference, reference.model, share, together)
    conf = {"finetune": 0.5, "together": together} | ({"schedule": schedule, "until": 0.6} if schedule else {})
    assert_is(pruned("router_p", conf, init_scale=2.0), reference)


@pytest.mark.parametrize("mask", [{"scope": "global"}, {"granularity": "group", "scope": "flops"}])
def test_masks_with_one_threshold_rise_together(mask):
    model = toy()
    given = MaskConfig(targets=("ffn",), sparsity=0.5, score_init="weight", **mask)
    attach_pruning(model, "router_p", given, {"schedule": "linear", "until": 1.0})
    model.requires_grad_(True)
    pruner = Pruner(model, UPDATES)
    pruner.begin(0)
    removed = []
    for update in range(1, UPDATES + 1):
        pruner.after(update)
        masks = masks_of(model.train()).values()
        removed.append(sum(int((~keep).sum()) for keep in masks) / sum(keep.numel() for keep in masks))
    assert removed[5:] == pytest.approx([0.5 * n / 6 for n in range(1, 7)] + [0.5], abs=0.06)
    assert sorted(removed[5:]) == removed[5:]


def by_magnitude(model) -> dict[str, torch.Tensor]:
    return {name: keep_largest([model.get_parameter(name)], 0.5)[0] for name in NAMES}


def test_router_p_trains_masks_and_all_weights_together():
    model = pruned("router_p", {"together": True})
    plain = dict(toy().named_parameters())
    found = learnt(model)
    assert found.masks.keys() == set(NAMES)
    assert found.delta.keys() == plain.keys()
    assert all(not torch.equal(found.delta[name], plain[name]) for name in plain)
    assert any(not torch.equal(found.masks[name], mask) for name, mask in by_magnitude(toy()).items())


@pytest.mark.parametrize("method", ["omp", "imp", "parp", "parp_p", "router_p"])
@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("sparsity", [0.1, 0.29, 0.7])
def test_shares_are_exact(method, scope, sparsity):
    masks = masks_of(pruned(method, sparsity=sparsity, scope=scope))
    removed = [(int((~mask).sum()), mask.numel()) for mask in masks.values()]
    exact = round(100 * sparsity)
    if scope == "tensor":
        assert [count for count, _ in removed] == [exact * size // 100 for _, size in removed]
    else:
        total = sum(size for _, size in removed)
        assert sum(count for count, _ in removed) == exact * total // 100
        assert len({count / size for count, size in removed}) > 2


def test_sparsities_of_layers_and_roles_of_their_own():
    masks = masks_of(pruned("imp", role_sparsity={"attention": 0.25}, layer_sparsity={1: 0.75}))
    assert [int((~mask).sum()) for mask in masks.values()] == [9, 9, 30, 30, 27, 27, 45, 45]


@pytest.mark.parametrize("method", ["omp", "imp", "parp", "parp_p", "router_p"])
def test_in_evaluation_it_is_as_sparse_as_in_the_end_from_the_start(method):
    """What validation sees is a model of the final size, so the best checkpoint is one, too."""
    model = toy()
    mask = MaskConfig(targets=("ffn", "attention"), sparsity=0.5, score_init="weight")
    attach_pruning(model, method, mask, {})
    model.requires_grad_(True)
    pruner = Pruner(model, UPDATES)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    pruner.begin(0)
    for update in range(1, UPDATES + 1):
        model.eval()
        for name, keep in masks_of(model).items():
            assert int((~keep).sum()) == keep.numel() // 2
            owner, _, parameter = name.rpartition(".")
            assert not model.get_submodule(owner).weight[~keep].any(), parameter
        model.train()
        optimizer.zero_grad()
        loss_of(model, update).backward()
        optimizer.step()
        pruner.after(update)


@pytest.mark.parametrize(
    ("method", "conf"),
    [
        ("omp", {}),
        ("imp", {}),
        ("parp", {"every": 5}),
        ("parp_p", {"every": 5}),
        ("router_p", {}),
        ("router_p", {"finetune": 0.25, "together": True, "schedule": "cubic"}),
        ("router_p", {"together": True, "schedule": "linear", "until": 0.8}),
    ],
)
def test_stopped_anywhere_it_goes_on_as_if_it_had_not_been(method, conf):
    mask = MaskConfig(targets=("ffn", "attention"), sparsity=0.5, score_init="weight")

    def made():
        model = toy()
        attach_pruning(model, method, mask, conf)
        model.requires_grad_(True)
        return model, Pruner(model, UPDATES), torch.optim.Adam(model.parameters(), lr=RATE)

    whole = trained(made()[0]).state_dict()
    model, pruner, optimizer = made()
    pruner.begin(0)
    for update in range(1, UPDATES + 1):
        model.train()
        optimizer.zero_grad()
        loss_of(model, update).backward()
        optimizer.step()
        pruner.after(update)
        states = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        model, pruner, optimizer = made()
        model.load_state_dict(states[0])
        optimizer.load_state_dict(states[1])
        pruner.begin(update)
    assert whole.keys() == model.state_dict().keys()
    assert all(torch.equal(whole[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_learnt_is_zero_where_it_is_removed():
    model = pruned("parp", {"every": 4})
    found, plain = learnt(model), toy()
    assert not found.adapter
    for name, mask in found.masks.items():
        assert not found.delta[name][~mask].any()
    plain.load_state_dict(found.delta)
    torch.testing.assert_close(plain(X), model(X))


@pytest.mark.parametrize("method", ["imp", "router_p"])
def test_copies_stand_on_their_own(method):
    model = pruned(method)
    wanted = model(X)
    other = copy.deepcopy(model)
    torch.testing.assert_close(other(X), wanted)
    with torch.no_grad():
        for name in NAMES:
            owner = other.get_submodule(name.removesuffix(".weight"))
            owner.parametrizations.weight.original.normal_(generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(other(X), wanted)
    torch.testing.assert_close(model(X), wanted)
    for name, mask in masks_of(other).items():
        assert int((~mask).sum()) == mask.numel() // 2, name


def test_the_end_is_checked():
    model = pruned("router_p")
    model.layers[0].fc1.parametrizations.weight[0].sparsity = 0.4
    model.layers[0].fc1.parametrizations.weight[0].refresh()
    with pytest.raises(TrainingError, match="24 of 60 are removed, and 30 should be"):
        Pruner(model, UPDATES).end()


def test_what_was_removed_stays_removed_and_counts():
    weight = torch.tensor([5.0, -1.0, 0.0, 3.0, 2.0, -4.0])
    first = torch.tensor([False, True, True, True, True, True])
    assert keep_largest([weight], 0.5, [first])[0].tolist() == [False, False, False, True, True, True]
    assert keep_largest([weight], 0.1, [first])[0].tolist() == first.tolist()  # more is removed than is asked for
    assert keep_largest([weight], 0.5)[0].tolist() == [True, False, False, True, False, True]
    one, other = keep_largest([weight, 10 * weight[:4]], 0.5)
    assert (one.tolist(), other.tolist()) == ([True, False, False, False, False, True], [True, True, False, True])


@pytest.mark.parametrize(
    ("method", "conf", "mask", "message"),
    [
        ("omp", {}, {"granularity": "output"}, "granularity 'output' was asked for; leave it out, or take .*router_p"),
        ("parp", {}, {"granularity": "2:4"}, "removes single weights"),
        ("imp", {}, {"train": ("bias",)}, "all weights train anyway"),
        ("router_p", {"schedule": "cubic"}, {"granularity": "2:4"}, "has its share from the start; leave schedule out"),
        ("parp_p", {"initial": 0.9}, {}, "initial 0.9 is above the sparsity 0.5"),
        ("router_p", {"start": "importance"}, {}, "start importance is for granularity group, not unstructured"),
        (
            "router_p",
            {"start": "finetuned"},
            {"score_init": "ori"},
            "finetuned is for score_init weight, not ori",
        ),
    ],
)
def test_what_does_not_go_together(method, conf, mask, message):
    with pytest.raises(ConfigError, match=message):
        pruned(method, conf, **mask)


@pytest.mark.parametrize(("score_init", "start"), [("weight", "finetuned"), ("ori", "pretrained")])
def test_where_scores_start_follows_from_how_they_start(score_init, start):
    mask = MaskConfig(sparsity=0.5, score_init=score_init)
    assert check("router_p", {}, mask)["start"] == start
    assert check("router_p", complete("router_p", {}), mask)["start"] == start  # as whoever attaches it does


def importance_by_hand() -> dict[str, torch.Tensor]:
    """|sum of gradient · weight| of each hidden unit, over the batches of the first part: (units,) by weight."""
    reference, importance = Reference(), {name: torch.zeros(10) for name in NAMES if name.endswith("fc2.weight")}
    for update in range(1, 7):
        reference.model.zero_grad()
        loss_of(reference.model, update).backward()
        for name, total in importance.items():
            weight = reference.model.get_parameter(name)
            total += (weight.grad * weight.detach()).sum(0).abs()
        reference.update(update)
    return importance


def test_router_p_starts_from_first_order_importance():
    importance = importance_by_hand()
    model = toy()
    mask = MaskConfig(granularity="group", sparsity=0.3, score_init="weight")
    attach_pruning(model, "router_p", mask, {"start": "importance"})
    model.requires_grad_(True)
    trained(model, until=6)
    for name, masked in masks_of(model).items():
        gone = importance[name].argsort()[:3]
        assert set((~masked[0]).nonzero().flatten().tolist()) == set(gone.tolist()), name
        member = model.get_submodule(name.removesuffix(".weight")).parametrizations.weight[0]
        torch.testing.assert_close(member.importance[0], importance[name], rtol=1e-4, atol=1e-7)


def test_an_update_that_is_skipped_does_not_count_as_importance():
    model = toy()
    mask = MaskConfig(granularity="group", sparsity=0.3, score_init="weight")
    attach_pruning(model, "router_p", mask, {"start": "importance"})
    model.requires_grad_(True)
    model.train()
    Pruner(model, UPDATES).begin(0)
    loss_of(model, 1).backward()
    members = [model.get_submodule(f"layers.{n}.fc2").parametrizations.weight[0] for n in (0, 1)]
    before = [member.importance.clone() for member in members]
    (torch.nan * loss_of(model, 2)).backward()
    assert all(torch.equal(member.importance, old) for member, old in zip(members, before, strict=True))
    assert all(old.sum() > 0 for old in before)


def test_averages_begin_with_the_scores_own_training():
    model, plain = (toy() for _ in range(2))
    for one, average in ((model, 0.9), (plain, 0.0)):
        mask = MaskConfig(targets=("ffn",), sparsity=0.5, score_init="weight", score_average=average)
        attach_pruning(one, "router_p", mask, {"start": "finetuned"})
        one.requires_grad_(True)
        trained(one, until=6)
    wanted = masks_of(plain)
    assert all(torch.equal(found, wanted[name]) for name, found in masks_of(model).items())


@pytest.mark.parametrize("scope", ["global", "flops"])
def test_importance_is_compared_between_layers_where_these_share_a_threshold(scope):
    importance = importance_by_hand()
    model = toy()
    mask = MaskConfig(granularity="group", sparsity=0.35, score_init="weight", scope=scope)
    attach_pruning(model, "router_p", mask, {"start": "importance"})
    model.requires_grad_(True)
    trained(model, until=6)
    gone = torch.cat(list(importance.values())).argsort()[:7].tolist()  # all units cost the same here
    kept = torch.cat([mask[0] for mask in masks_of(model).values()])
    assert sorted(gone) == (~kept).nonzero().flatten().tolist()
    assert sum(unit < 10 for unit in gone) not in (3, 4), "as many of each layer, so the test says nothing"


@pytest.mark.parametrize("start", ["pretrained", "finetuned", "importance"])
def test_router_p_removes_whole_units(start, caplog):
    caplog.set_level(logging.INFO)
    model = pruned("router_p", {"start": start}, targets=("ffn",), granularity="group", sparsity=0.3)
    for mask in masks_of(model).values():
        assert torch.equal(mask, mask[:1].expand_as(mask))
        assert int((~mask[0]).sum()) == 3
    assert "removed are 6 of 20 hidden units (30.00%) in 2 matrices" in caplog.text


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_have_diverged_are_named(value):
    weight = torch.randn(10, generator=torch.Generator().manual_seed(0))
    weight[3] = value
    with pytest.raises(TrainingError, match="lower the rate of the weights"):
        keep_largest([torch.ones(4), weight], 0.5)
