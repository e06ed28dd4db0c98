"""The routes in memory: loaded at first use, loaded again when their file has changed, evicted by a budget of bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import replace

from s3router.errors import PackError, S3RouterError
from s3router.packs import MaskPack, read_pack
from s3router.server.catalogue import Found
from s3router.server.metrics import Metrics
from s3router.serving.routed_model import RoutedModel
from s3router.upstreams.memory import give_back_memory

logger = logging.getLogger(__name__)


class Residents:
    """Used by one thread, which also runs the model.

    Args:
        model: without routes.
        budget: bytes of packs in memory; the route in use stays, whatever its size.
    """

    def __init__(self, model: RoutedModel, budget: int, metrics: Metrics):
        self._model, self._budget, self._metrics = model, budget, metrics
        self._held: OrderedDict[str, tuple[Found, int]] = OrderedDict()  # the one used last at the end

    @property
    def nbytes(self) -> dict[str, int]:
        """Route -> bytes in memory."""
        return {route: size for route, (_, size) in list(self._held.items())}

    def bring(self, found: Found) -> None:
        """Have a route in memory, as its file is; one that is there stays where the model refuses its file.

        Pieces of a long recording come with what was found when it began; what is newer than that stays.

        Raises:
            PackError: the file is damaged or refused, and nothing of the route is in memory.
        """
        held = self._held.get(found.route)
        if held is not None and (held[0].stamp == found.stamp or held[0].seen > found.seen):
            self._held.move_to_end(found.route)
            self._metrics.pack_hits.inc()
            return
        try:
            backbone, fingerprint = self._model.backbone_for(found.meta.whole, str(found.path))
            pack = read_pack(found.path, backbone, fingerprint=fingerprint)
            if pack.route != found.route:
                raise PackError(f"{found.path}: it is of route {pack.route!r} now, and was of {found.route!r}")
            if held is not None:
                self._try(pack)
        except Exception as error:
            if held is None:
                raise
            unforeseen = None if isinstance(error, S3RouterError) else error  # with a traceback
            fields = {"route": found.route, "reason": str(error)}
            logger.warning("pack not replaced", exc_info=unforeseen, extra={"fields": fields})
            if not isinstance(error.__context__, OSError):  # which may pass
                self._held[found.route] = (found, held[1])  # do not read it again for every request
            return
        if held is not None:
            self.drop(found.route)
        before = self._weights()
        self._model.add(pack)
        head = sum(tensor.nbytes for tensor in self._model.head(found.route).buffers())
        self._held[found.route] = (found, self._weights() - before + head)
        del pack
        self._metrics.pack_loads.inc()
        while len(self._held) > 1 and sum(self.nbytes.values()) > self._budget:
            self.drop(next(iter(self._held)))
            self._metrics.pack_evictions.inc()
        give_back_memory()

    def drop(self, route: str) -> None:
        """Forget a route that is in memory."""
        del self._held[route]
        self._model.remove(route)

    def _try(self, pack: MaskPack) -> None:
        """See that the model takes a pack, under another name: its route is there until the new one can be."""
        self._model.remove(self._model.add(replace(pack, route=f"{pack.route} (new)")))

    def _weights(self) -> int:
        """Bytes of what is kept of all routes besides their heads."""
        whole = 0 if self._model.whole is None else self._model.whole.routes.nbytes["routes"]
        return whole + self._model.upstream.routes.nbytes["routes"]
