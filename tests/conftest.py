"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell starts its background jobs with SIGINT ignored, and their children inherit that; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
