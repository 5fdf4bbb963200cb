"""
What SIGINT does before anything has begun, and from then on.

Rule of this file: it imports next to nothing, see `entry`.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130  # Source: exits.TABLE; that module is not loaded yet


def leave(number: int, frame: FrameType | None) -> None:
    """End the process at once; there is nothing to clean up."""
    os._exit(INTERRUPTED)


def begin() -> None:
    """Let SIGINT raise KeyboardInterrupt from now on, where `main` had changed that."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
