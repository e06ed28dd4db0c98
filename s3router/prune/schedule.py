"""Schedules of pruning: after which updates weights are removed, and how many are then. Needs no torch.

A schedule says shares of the way to the final sparsity, as exact fractions: 1 is the final sparsity itself. So tensors
whose final sparsities differ are pruned at the same updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from s3router.errors import ConfigError

METHODS = ("router_p", "omp", "imp", "parp", "parp_p")
REVIVING = ("parp", "parp_p")
"""Methods in which all weights train until the next step, so that removed ones may come back."""
RESTS = "rests"
"""Attribute of a parameter that trains in another part of a schedule, but not now; checkpoints hold it."""
SHAPES: Mapping[str, Callable[[Fraction], Fraction]] = MappingProxyType(
    {
        "linear": lambda done: done,
        "cubic": lambda done: 1 - (1 - done) ** 3,  # arXiv 1710.01878, equation 1
    }
)
"""Share of the schedule that is over -> share of the way to the final sparsity; both from 0 to 1."""
STARTS = ("pretrained", "finetuned", "importance")

CONF: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "omp": {"at": 0.5},
        "imp": {"rounds": None, "step": None, "schedule": "linear"},
        "parp": {"every": 50},
        "parp_p": {"every": 50, "initial": None, "until": 0.5, "schedule": "linear"},
        # start: finetuned where there is a choice
        "router_p": {"finetune": None, "start": None, "together": False, "schedule": None, "until": None},
    }
)
"""Method -> the fields of its configuration (``method_conf``) with their defaults; see `Schedule.of`."""
ROUNDS = 5
FINETUNE = 0.5
UNTIL = 0.5


@dataclass(frozen=True)
class Schedule:
    """What happens to the weights of one training.

    Attributes:
        steps: update -> share of the way to the final sparsity that is removed once it is done; 0: before the first.
        switch: the updates in which weights train and nothing is removed, after which scores train (S3-Router-P); None:
            there is no such switch.
        rests: whether the weights rest after the switch.
        rise: the updates between which masks by scores rise to the final sparsity, and how; None: they have it at once.
    """

    steps: Mapping[int, Fraction]
    switch: int | None = None
    rests: bool = True
    rise: tuple[int, int, str] | None = None

    def share(self, update: int) -> Fraction:
        """Share of the way to the final sparsity that scores remove in the update after so many."""
        if self.rise is None:
            return Fraction(1)
        first, last, shape = self.rise
        done = Fraction(update - first + 1, max(1, last - first))
        return SHAPES[shape](min(Fraction(1), max(Fraction(0), done)))

    @classmethod
    def of(cls, method: str, conf: Mapping[str, Any], sparsity: float, updates: int, held: int = 0) -> Schedule:
        """The schedule of a method. Its shares and numbers of updates are of those in which the weights may train.

        - ``omp``: finetune for the share ``at`` of the updates, remove, finetune what is left.
        - ``imp``: the same in ``rounds`` (5), each after as many updates; or in rounds that remove ``step`` each (0.1 =
          a tenth of all weights), the last one what is left to the final sparsity.
        - ``parp`` (arXiv 2106.05933): remove by the pretrained magnitudes before the first update, then again after
          ``every`` so many, and at the end; in between all weights train.
        - ``parp_p``: the same from sparsity ``initial`` (half of the final one) on, up to the final one after the share
          ``until`` of the updates.
        - ``router_p`` (arXiv 2211.01522): weights train for the share ``finetune`` of the updates (0.5), scores of
          masks on the finetuned weights in the rest; ``together``: there both train, and with no ``finetune`` from the
          first update on. With a ``schedule`` masks rise to the final sparsity, over the share ``until`` (0.5) of the
          updates in which scores train.

        Args:
            conf: as `complete` leaves it.
            sparsity: the final one.
            updates: of the whole training.
            held: of the first of these, in which the head trains alone.
        """
        updates -= held
        steps = {n + held if n else 0: share for n, share in cls._steps(method, conf, sparsity, updates).items()}
        if method != "router_p":
            return cls(steps)
        switch, begins = None, held
        if conf["finetune"] or not conf["together"]:
            share = FINETUNE if conf["finetune"] is None else conf["finetune"]
            finetuned = int(Fraction(str(share)) * updates)
            switch = begins = held + (max(1, finetuned) if conf["start"] != "pretrained" else finetuned)
        rise = None
        if conf["schedule"] is not None:
            until = Fraction(str(UNTIL if conf["until"] is None else conf["until"]))
            rise = (begins, begins + math.ceil(until * (held + updates - begins)), conf["schedule"])
        return cls(steps, switch, not conf["together"], rise)

    @staticmethod
    def _steps(method: str, conf: Mapping[str, Any], sparsity: float, updates: int) -> dict[int, Fraction]:
        shape = SHAPES[conf.get("schedule") or "linear"]
        if method == "omp":
            return {_within(Fraction(str(conf["at"])) * updates, updates): Fraction(1)}
        if method == "imp":
            rounds = conf["rounds"] or ROUNDS
            shares = [shape(Fraction(n, rounds)) for n in range(1, rounds + 1)]
            if conf["step"] is not None and sparsity:
                each = Fraction(str(conf["step"])) / Fraction(str(sparsity))
                shares = [min(Fraction(1), n * each) for n in range(1, math.ceil(1 / each) + 1)]
            every = Fraction(updates, len(shares) + 1)
            return {_within(n * every, updates): share for n, share in enumerate(shares, 1)}
        if method in REVIVING:
            first, end = Fraction(1), Fraction(updates)
            if method == "parp_p":
                half = conf["initial"] is None
                first = Fraction(1, 2) if half else Fraction(str(conf["initial"])) / Fraction(str(sparsity or 1))
                end = Fraction(str(conf["until"])) * updates
            when = (*range(0, updates, conf["every"]), updates)
            return {n: first + (1 - first) * shape(min(Fraction(1), n / end)) for n in when}
        if method == "router_p":
            return {}
        raise ConfigError(f"{method!r} is no method of pruning; known: {', '.join(METHODS)}")


def _within(update: Fraction, updates: int) -> int:
    """The nearest whole update after the first one; what falls on the same one is one step, the later."""
    return min(max(1, round(update)), updates)


def complete(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A method's configuration with its defaults, for null, too.

    Raises:
        ConfigError: a value that cannot be; all problems at once.
    """
    conf = {**CONF[method], **{name: value for name, value in given.items() if value is not None}}
    unchanged = not conf.get("finetune") and (conf.get("together") is True or conf.get("finetune") == 0)
    if method == "router_p" and conf["start"] is None and unchanged:
        conf["start"] = "pretrained"
    problems = []

    def number(name: str, fits: Callable[[float], bool], range_: str) -> None:
        value = conf.get(name)
        if value is not None and not (type(value) in (int, float) and fits(value)):
            problems.append(f"{name} must be a number {range_}, found {value!r}")

    def one_of(name: str, known: tuple) -> None:
        if name in conf and conf[name] not in known:
            problems.append(f"{name}: {conf[name]!r} is unknown (known: {', '.join(map(str, known))})")

    for name in ("rounds", "every"):
        value = conf.get(name)
        if value is not None and not (type(value) is int and value > 0):
            problems.append(f"{name} must be a whole number above 0, found {value!r}")
    number("at", lambda v: 0 < v < 1, "between 0 and 1")
    number("step", lambda v: 0 < v < 1, "between 0 and 1")
    number("initial", lambda v: 0 <= v < 1, "from 0 up to 1")
    number("until", lambda v: 0 < v <= 1, "above 0, at most 1")
    number("finetune", lambda v: 0 <= v < 1, "from 0 up to 1")
    for name, known in (("schedule", tuple(SHAPES)), ("start", STARTS)):
        if conf.get(name) is not None:
            one_of(name, known)
    if not isinstance(conf.get("together", False), bool):
        problems.append(f"together must be true or false, found {conf['together']!r}")
    if conf.get("rounds") is not None and conf.get("step") is not None:
        problems.append("rounds and step: the one follows from the other and the sparsity; give one of them")
    if conf.get("step") is not None and conf["schedule"] != "linear":
        problems.append("step: rounds that remove as much each are of schedule linear; give rounds instead")
    if method == "router_p" and conf["until"] is not None and conf["schedule"] is None:
        problems.append("until: without a schedule masks have the final sparsity at once; give both or neither")
    if conf.get("finetune") == 0 and conf["start"] != "pretrained":
        problems.append(f"finetune: start {conf['start']} needs updates in which weights are finetuned; leave one out")
    elif unchanged and method == "router_p" and conf["start"] != "pretrained":
        problems.append(
            f"start: with together and no finetune, there is no first part to start from; leave {conf['start']} out"
        )
    if problems:
        raise ConfigError(f"method_conf of {method}: {'; '.join(problems)}")
    return conf


def check_sparsity(method: str, conf: Mapping[str, Any], sparsity: float) -> None:
    """Refuse a schedule that does not lead to a sparsity.

    Raises:
        ConfigError: it starts above where it ends.
    """
    if conf.get("initial") is not None and conf["initial"] > sparsity:
        raise ConfigError(
            f"method_conf of {method}: initial {conf['initial']:g} is above the sparsity {sparsity:g} at which it "
            "ends; take a lower one, or a higher --sparsity"
        )
