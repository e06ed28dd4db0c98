"""When weights are removed, against the definitions of the methods."""

from __future__ import annotations

from fractions import Fraction

import pytest

from s3router.errors import ConfigError
from s3router.prune.schedule import CONF, METHODS, Schedule, check_sparsity, complete


def steps(method: str, sparsity: float, updates: int, **conf) -> dict[int, float]:
    """Update -> sparsity."""
    found = Schedule.of(method, complete(method, conf), sparsity, updates).steps
    return {update: float(share * Fraction(str(sparsity))) for update, share in found.items()}


def test_one_shot():
    assert steps("omp", 0.7, 100) == {50: 0.7}
    assert steps("omp", 0.7, 100, at=0.25) == {25: 0.7}
    assert steps("omp", 0.7, 1) == {1: 0.7}


def test_rounds_are_of_equal_length_and_remove_equal_shares():
    assert steps("imp", 0.7, 80, rounds=7) == {10 * n: pytest.approx(0.1 * n) for n in range(1, 8)}
    assert steps("imp", 0.7, 80, step=0.1) == steps("imp", 0.7, 80, rounds=7)
    assert list(steps("imp", 0.65, 80, step=0.1).values()) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65])
    assert list(steps("imp", 0.5, 60)) == [10, 20, 30, 40, 50]
    assert steps("imp", 0.5, 2)[2] == 0.5  # too few updates: what falls on one of them is one


def test_the_cubic_schedule_is_that_of_the_paper():
    """s_t = s_f + (s_i - s_f) (1 - t / n)^3 with s_i = 0 (arXiv 1710.01878, equation 1)."""
    found = steps("imp", 0.8, 90, rounds=8, schedule="cubic")
    assert found == {10 * n: pytest.approx(0.8 - 0.8 * (1 - n / 8) ** 3) for n in range(1, 9)}


def test_parp_prunes_before_the_first_update_and_every_so_many():
    assert steps("parp", 0.6, 35, every=10) == dict.fromkeys((0, 10, 20, 30, 35), 0.6)


def test_parp_p_rises():
    found = steps("parp_p", 0.8, 100, every=10, initial=0.4, until=0.5)
    rising = {10 * n: pytest.approx(0.4 + 0.08 * n) for n in range(5)}
    assert found == rising | {10 * n: 0.8 for n in range(5, 11)}
    assert steps("parp_p", 0.8, 10)[0] == 0.4
    assert steps("parp_p", 0.0, 10, initial=0)[10] == 0


def test_router_p_finetunes_first():
    assert Schedule.of("router_p", complete("router_p", {}), 0.5, 21).switch == 10
    assert Schedule.of("router_p", complete("router_p", {"finetune": 0}), 0.5, 21).switch == 0
    together = Schedule.of("router_p", complete("router_p", {"together": True}), 0.5, 21)
    assert (together.switch, together.rests) == (None, False)
    both = Schedule.of("router_p", complete("router_p", {"together": True, "finetune": 0.5}), 0.5, 21)
    assert (both.switch, both.rests) == (10, False)


def test_masks_rise_after_the_switch():
    def shares(updates, held=0, **conf):
        schedule = Schedule.of("router_p", complete("router_p", conf), 0.5, updates, held)
        return [float(schedule.share(update)) for update in range(updates)]

    assert shares(8, schedule="linear", until=1) == [0, 0, 0, 0.0, 0.25, 0.5, 0.75, 1]
    assert shares(10, held=2, schedule="linear")[6:] == [0.5, 1, 1, 1]
    assert shares(4, together=True, schedule="cubic", until=1) == pytest.approx(
        [1 - (1 - n / 4) ** 3 for n in range(1, 5)]
    )
    assert shares(4) == [1, 1, 1, 1]


def test_shares_are_of_the_updates_in_which_weights_train():
    def found(method, **conf):
        schedule = Schedule.of(method, complete(method, conf), 0.5, 100, held=20)
        return schedule.switch or list(schedule.steps)

    assert found("omp") == [60]
    assert found("imp", rounds=3) == [40, 60, 80]
    assert found("parp", every=30) == [
        0,
        50,
        80,
        100,
    ]  # 0: by the pretrained weights
    assert found("router_p") == 60
    assert found("router_p", finetune=0.001) == 21  # at least one update, where scores start from what it leaves


def test_scores_start_from_the_finetuned_weights_where_there_are_such():
    assert complete("router_p", {})["start"] is None  # follows from the scores: tests/prune/test_pruner.py
    assert complete("router_p", {"finetune": 0})["start"] == "pretrained"
    assert complete("router_p", {"together": True})["start"] == "pretrained"
    assert complete("router_p", {"together": True, "finetune": 0.3})["start"] is None


def test_every_method_ends_at_its_sparsity():
    for method in METHODS:
        for updates in (1, 2, 7, 400):
            found = Schedule.of(method, complete(method, {}), 0.3, updates).steps
            shares = [found[update] for update in sorted(found)]
            assert shares == sorted(shares)
            assert not shares or shares[-1] == 1
            assert all(0 <= update <= updates for update in found)


def test_null_is_the_default():
    for method, defaults in CONF.items():
        conf = complete(method, dict.fromkeys(defaults))
        assert conf == complete(method, {})
        assert Schedule.of(method, conf, 0.5, 20) == Schedule.of(method, complete(method, {}), 0.5, 20)


@pytest.mark.parametrize(
    ("method", "conf", "message"),
    [
        ("omp", {"at": 1}, "at must be a number between 0 and 1, found 1"),
        ("imp", {"rounds": 0}, "rounds must be a whole number above 0, found 0"),
        ("imp", {"rounds": 3, "step": 0.1}, "rounds and step: .* give one of them"),
        ("imp", {"schedule": "cubed"}, "schedule: 'cubed' is unknown .known: linear, cubic"),
        ("parp", {"every": 2.5}, "every must be a whole number"),
        ("parp_p", {"until": 0, "every": 0}, "every must be .*; until must be a number above 0"),
        ("router_p", {"start": "random"}, "known: pretrained, finetuned"),
        ("router_p", {"together": True, "start": "finetuned"}, "together and no finetune, there is no first part"),
        ("router_p", {"until": 0.5}, "until: without a schedule masks have the final sparsity at once"),
        ("router_p", {"together": 1}, "together must be true or false, found 1"),
        ("router_p", {"schedule": "square"}, "schedule: 'square' is unknown .known: linear, cubic"),
        (
            "router_p",
            {"finetune": 0, "start": "importance"},
            "finetune: start importance needs updates in which weights",
        ),
    ],
)
def test_what_cannot_be(method, conf, message):
    with pytest.raises(ConfigError, match=f"method_conf of {method}: .*{message}"):
        complete(method, conf)


def test_a_schedule_that_starts_above_its_end():
    with pytest.raises(ConfigError, match=r"initial 0.8 is above the sparsity 0.5 at which it ends"):
        check_sparsity("parp_p", complete("parp_p", {"initial": 0.8}), 0.5)


def test_the_table_of_methods_has_them_all():
    from s3router.tuners import METHODS as TABLE

    assert {name for name, method in TABLE.items() if method.prunes} == set(METHODS) == set(CONF)
