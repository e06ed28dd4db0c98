"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """One server's metrics, apart from those of any other in the process."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"s3router_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"s3router_{name}", text, registry=registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(f"s3router_{name}_seconds", text, buckets=_SECONDS, registry=registry)

        self.requests = counter("requests", "Transcriptions, by what was asked for and HTTP status.", "model", "status")
        self.audio = counter("audio_seconds", "Seconds of audio that were transcribed.")
        self.pieces = counter("pieces", "Pieces of recordings that went through a route.", "route")
        self.switches = counter("route_switches", "Times that the weights of another route were computed.")
        self.pack_hits = counter("pack_hits", "Uses of a route that was in memory.")
        self.pack_loads = counter("pack_loads", "Packs that were read.")
        self.pack_evictions = counter("pack_evictions", "Packs that made room for others.")
        self.decoder_deaths = counter("decoder_deaths", "Processes that decode audio, and died or were ended.")
        self.in_flight = gauge("requests_in_flight", "Transcriptions that are under way.")
        self.waiting = gauge("waiting_pieces", "Pieces that wait for the model.")
        self.waiting_audio = gauge("waiting_audio_seconds", "Seconds of audio that wait for the model.")
        self.resident = gauge("resident_packs", "Packs in memory.")
        self.resident_bytes = gauge("resident_pack_bytes", "Bytes of packs in memory.")
        self.request = seconds("request", "From the first byte of a transcription to its answer.")
        self.decoding = seconds("decoding", "Decoding of one recording.")
        self.queue = seconds("queue", "Waiting of one piece for the model.")
        self.inference = seconds("inference", "Computing for one piece, all its routes together.")

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
