"""What a server takes on."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from s3router.data.audio import Seconds
from s3router.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Of one request, and of all together.

    Attributes:
        upload_mb: size of a request, in units of 1e6 bytes.
        audio_seconds: length of a recording.
        requests: transcriptions at a time, uploads included; one more is refused.
        waiting_seconds: audio that was accepted and is not done, of all requests together, each counted as often as it
            goes through the model: once for each candidate. A request that is alone is taken whatever its size.
        timeout: from the first byte of a request to its answer.
        decoders: recordings that are decoded at a time.
    """

    upload_mb: float = 100.0
    audio_seconds: Seconds = 3600.0
    requests: int = 64
    waiting_seconds: Seconds = 14400.0
    timeout: Seconds = 600.0
    decoders: int = 2

    def __post_init__(self) -> None:
        bad = [
            f"--{field.name.replace('_', '-')} {getattr(self, field.name)}: expected a number above 0"
            for field in fields(self)
            if not 0 < getattr(self, field.name) < math.inf
        ]
        if bad:
            raise ConfigError("; ".join(bad))

    @property
    def upload_bytes(self) -> int:
        """Bytes of a request."""
        return round(self.upload_mb * 1e6)
