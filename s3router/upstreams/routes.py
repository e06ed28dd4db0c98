"""Any number of packs on one backbone.

Each pack stays in memory as it is: masks at one bit per weight, adapters as their factors, values or signs. The
weights of one route (or of `working_copies` routes) are kept ready; they take the place of the backbone's own for the
length of a forward pass, in which bottlenecks stand behind their layers, too. Outside of it the backbone has its own
weights: its state dict, its fingerprint and its copies know nothing of routes. A backbone with routes is frozen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError, PackError
from s3router.masks import iterate
from s3router.masks.functions import compute_dtype
from s3router.packs.adapters import by_target, check, resident
from s3router.packs.bits import BitMasks
from s3router.packs.contents import MaskPack
from s3router.packs.fingerprint import plain_name, weights_hash
from s3router.upstreams.anatomy import Anatomy
from s3router.upstreams.bottlenecks import attached, check_layer
from s3router.upstreams.route_weights import RouteWeights, WorkingCopy
from s3router.upstreams.thread_choice import ThreadChoice


class Routes:
    """The routes of one backbone.

    Each thread (and each asyncio task) selects its own route. Forward passes of different threads take turns: one lock
    is held while a route's weights are in the backbone, so that `working_copies` copies of the changed weights (or
    `working_bytes` of them) are all the memory it takes, however many threads there are.

    Args:
        backbone: the bare model; without masks attached.
        fingerprint: `s3router.upstreams.fingerprint` of it where it is known already.
        working_copies: routes whose changed weights are kept at a time, the last used ones; at least 1.
        working_bytes: memory in which more of them are kept than that, as long as there is room.
        beside: routes of another module that shares parameters with this one; forward passes of both take turns.
    """

    def __init__(
        self,
        backbone: nn.Module,
        fingerprint: str | None = None,
        working_copies: int = 1,
        working_bytes: int = 0,
        beside: Routes | None = None,
    ):
        if working_copies < 1:
            raise ConfigError(f"working_copies must be at least 1, found {working_copies}")
        self.backbone = backbone
        self.working_copies = working_copies
        self.working_bytes = working_bytes
        self._fingerprint = fingerprint
        self._beside = beside
        self._routes: dict[str, RouteWeights] = {}
        self._trainable: tuple[str, ...] = ()  # parameters that were frozen when the first route came
        self._choice = ThreadChoice()
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.RLock() if self._beside is None else self._beside._lock
        self._places = _places(self.backbone)
        self._copies: list[WorkingCopy] = []  # the one used last at the end
        self._versions = _versions(self.backbone)
        self._guards = {name: self._guard(name) for route in self._routes.values() for name in route.made_from}

    @property
    def names(self) -> tuple[str, ...]:
        """The known routes, in the order in which they were added."""
        return tuple(self._routes)

    def add(self, pack: MaskPack) -> None:
        """Take in a pack, as compact as it is. The first one freezes the backbone, until the last is removed.

        Raises:
            ConfigError: the route is known already, or the backbone has masks attached.
            PackError: the pack is for another backbone, or changes what routes share.
        """
        pack = dataclasses.replace(pack, masks=BitMasks.of(pack.masks))
        with self._lock:
            route = self._kept(pack, self._fitting(pack))
            self._guards |= {name: self._guard(name) for name in route.made_from if name not in self._guards}
            if not self._routes:
                self._freeze()
            self._routes[pack.route] = route

    def _kept(self, pack: MaskPack, names: Mapping[str, str]) -> RouteWeights:
        """What stays in memory of a pack that fits, whose masks are `BitMasks`; `names` as of `_fitting`."""
        settings = dict(pack.meta.adapter)
        targets = by_target({name: tensor.detach().clone() for name, tensor in pack.adapter.items()}, settings)
        kept = RouteWeights(
            {names[name]: torch.from_numpy(bits.copy()) for name, bits in pack.masks.bits.items()},
            {names[name]: tensor.detach().clone() for name, tensor in pack.delta.items()},
            settings,
        )
        if settings.get("method") == "houlsby":
            kept.bottlenecks = targets
        else:
            for target, parts in targets.items():
                shape = _parameter(self.backbone, names[target]).shape
                kept.adapter[names[target]] = resident(settings, target, shape, parts)
        return kept

    def _freeze(self) -> None:
        """Routes are for these weights. And torch multiplies by a weight that requires grad in another way than by a
        frozen one, even under `no_grad` (it folds a batch into one product), which may round differently: only a
        frozen backbone computes exactly what one with attached masks does.
        """
        self._trainable = tuple(name for name, p in self.backbone.named_parameters() if p.requires_grad)
        self.backbone.requires_grad_(False)

    def _fitting(self, pack: MaskPack) -> dict[str, str]:
        """Names in packs -> in the module (they differ in weight norm), after all that `add` refuses was looked for."""
        where = f"route {pack.route!r}"
        if pack.route in self._routes:
            raise ConfigError(f"{where} is there already; remove it first, or give the other pack another route")
        if next(iterate(self.backbone), None) is not None:
            raise ConfigError("the backbone has masks attached; detach() or bake() them before adding routes")
        if self._fingerprint is None or self._versions != _versions(self.backbone):
            self._fingerprint, self._versions = weights_hash(self.backbone), _versions(self.backbone)
        if pack.meta.fingerprint != self._fingerprint:
            raise PackError(
                f"{where}: its pack is for another backbone ({pack.meta.backbone}, fingerprint "
                f"{pack.meta.fingerprint}; this one is {self._fingerprint}). Load that backbone, or take another pack."
            )
        names, shapes = {}, {}
        for name, parameter in self.backbone.named_parameters():
            plain = plain_name(name)
            names[plain], shapes[plain] = name, tuple(parameter.shape)
        changed = pack.masks.shapes | {name: tuple(tensor.shape) for name, tensor in pack.delta.items()}
        wrong = [f"{name} {list(shape)}" for name, shape in changed.items() if shapes.get(name) != shape]
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise PackError(f"{where}: the backbone has no {', '.join(wrong[:5])}{more}; it cannot be that pack's")
        check(where, pack.adapter, pack.meta.adapter, shapes)
        targets = list(by_target(pack.adapter, pack.meta.adapter))
        if pack.meta.adapter.get("method") == "houlsby":
            for layer in targets:
                check_layer(self.backbone, layer, where)
        anatomy = Anatomy.of(self.backbone)
        inside = [name for name in (*changed, *targets) if anatomy.in_front_end(name)]
        if inside:
            raise PackError(f"{where}: changes {inside[0]}, but all routes share the feature extractor; train without")
        return names

    def remove(self, name: str) -> None:
        """Forget a route; where it was selected, another has to be."""
        with self._lock:
            self.check(name)
            del self._routes[name]
            left = {weight for route in self._routes.values() for weight in route.made_from}
            self._guards = {weight: guard for weight, guard in self._guards.items() if weight in left}
            for copy in self._copies:  # those of other routes stay ready, and this memory is for the next one
                if copy.is_of(name):
                    copy.made_of = None
            if not self._routes:
                self._copies.clear()
                for weight, parameter in self.backbone.named_parameters():
                    parameter.requires_grad_(parameter.requires_grad or weight in self._trainable)

    def check(self, name: str | None) -> str | None:
        """The name itself (None stands for the bare backbone). Raises ConfigError for one that is not known."""
        if name is None or name in self._routes:
            return name
        raise unknown_route(name, self._routes)

    @property
    def selected(self) -> str | None:
        """The route of this thread or task; None: the bare backbone.

        Raises:
            ConfigError: there are routes, and this thread or task has selected none of them.
        """
        if self._choice.made:
            return self.check(self._choice.current)
        if self._routes:
            raise ConfigError(
                f"no route is selected in this thread; select one with route(name) or using(name), or the bare "
                f"backbone with route(None). Known: {', '.join(self._routes)}"
            )
        return None

    def select(self, name: str | None) -> None:
        """Use this route from now on, in this thread or task; None: the bare backbone."""
        self._choice.set(self.check(name))

    def using(self, name: str | None) -> contextlib.AbstractContextManager[None]:
        """`select` for the length of a ``with`` block; after it, what was selected before."""
        return self._choice.using(self.check(name))

    @contextlib.contextmanager
    def applied(self, name: str | None) -> Iterator[None]:
        """The backbone with this route's weights, for the length of a ``with`` block; other threads wait.

        Raises:
            PackError: the backbone's weights were changed since the route was added.
        """
        with self._lock:
            if self.check(name) is None:
                yield
                return
            weights = self.prepare(name)
            bottlenecks = self._copies[-1].bottlenecks(self._routes[name])
            places = [
                (*_owner(self.backbone, place), tensor)
                for weight, tensor in weights.items()
                for place in self._places.get(weight, (weight,))
            ]
            own = [owner._parameters[key] for owner, key, _ in places]
            try:
                for owner, key, tensor in places:
                    owner._parameters[key] = tensor
                with attached(self.backbone, bottlenecks):
                    yield
            finally:
                for (owner, key, _), parameter in zip(places, own, strict=True):
                    owner._parameters[key] = parameter

    def prepare(self, name: str) -> dict[str, Tensor]:
        """Make the working copy of a route now instead of in its first forward pass; weights by parameter name.

        The tensors belong to the working copy: they change when another route takes it over.
        """
        with self._lock:
            route = self._routes[self.check(name)]
            parameters = {weight: self._unchanged(weight) for weight in route.made_from}
            made_of = name, *((p.data_ptr(), p.device, compute_dtype(p)) for p in parameters.values())
            copy = next((copy for copy in self._copies if copy.made_of == made_of), None)
            if copy is None:
                copy = self._room()
                copy.fill(made_of, route, parameters)
            else:
                self._copies.remove(copy)
            self._copies.append(copy)
            return {weight: copy.tensors[weight] for weight in route.names}

    def _room(self) -> WorkingCopy:
        """A working copy to be filled, of no route, or of the one used longest ago; it is taken off the list."""
        free = next((place for place, copy in enumerate(self._copies) if copy.made_of is None), None)
        if free is None:
            sizes = [copy.nbytes for copy in self._copies]
            more = len(sizes) < self.working_copies or sum(sizes) + max(sizes) <= self.working_bytes
            free = None if more else 0
        return WorkingCopy() if free is None else self._copies.pop(free)

    @property
    def ready(self) -> tuple[str, ...]:
        """The routes whose changed weights are in memory."""
        made_of = [copy.made_of for copy in list(self._copies)]  # other threads may be at work on them
        return tuple(made[0] for made in made_of if made is not None)

    @property
    def nbytes(self) -> dict[str, int]:
        """Memory besides the backbone's: ``routes`` (what is kept of packs), ``working`` (working copies)."""
        copies = sum(copy.nbytes for copy in self._copies)
        return {"routes": sum(route.nbytes for route in self._routes.values()), "working": copies}

    def _guard(self, name: str) -> tuple[nn.Parameter, int, int]:
        """A parameter, which one it is, and how often it had been changed."""
        parameter = _parameter(self.backbone, name)
        return parameter, id(parameter), _version(parameter)

    def _unchanged(self, name: str) -> nn.Parameter:
        try:
            changed = self._guards[name][1:] != self._guard(name)[1:]
        except (KeyError, AttributeError):  # masks were attached to it, say
            changed = True
        if changed:
            raise PackError(
                f"the backbone's {name} was changed after the routes were added, and they are for the old weights; "
                "bring those back and add the routes again"
            )
        return self._guards[name][0]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_copies", "_guards")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has its own lock, working copy and selection."""
        self.__dict__ |= state
        self._fresh()


def unknown_route(name: str, known: Collection[str]) -> ConfigError:
    """The error that names a close one, and all."""
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return ConfigError(f"unknown route {name!r}; {hint}known: {', '.join(known) or 'none, add a pack first'}")


def _version(parameter: Tensor) -> int:
    return 0 if parameter.is_inference() else parameter._version


def _versions(backbone: nn.Module) -> list[int]:
    """How often each parameter was changed in place."""
    return [_version(parameter) for parameter in backbone.parameters()]


def _places(backbone: nn.Module) -> dict[str, tuple[str, ...]]:
    """A parameter's name -> all its names: an output layer may be the embedding of tokens."""
    names: dict[int, list[str]] = {}
    for name, parameter in backbone.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {found[0]: tuple(found) for found in names.values()}


def _owner(backbone: nn.Module, name: str) -> tuple[nn.Module, str]:
    owner, _, key = name.rpartition(".")
    return backbone.get_submodule(owner), key


def _parameter(backbone: nn.Module, name: str) -> nn.Parameter:
    owner, key = _owner(backbone, name)
    return owner._parameters[key]
