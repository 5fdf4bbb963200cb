"""
Where requests wait for a new active node, bounded in count and bytes.

Rule of this file: a place is taken and given back, never waited for; a full lot is an answer (503).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ParkingLot:
    """Counts parked requests and their bytes."""

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self.requests = 0
        self.bytes = 0

    @contextmanager
    def place(self, size_bytes: int) -> Iterator[bool]:
        """Take a place for the block; yields False, and takes nothing, when there is none."""
        if self.requests >= self._requests_max or self.bytes + size_bytes > self._bytes_max:
            yield False
            return
        self.requests += 1
        self.bytes += size_bytes
        try:
            yield True
        finally:
            self.requests -= 1
            self.bytes -= size_bytes
