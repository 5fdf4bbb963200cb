"""
How long to wait before a store that does not answer is asked again.

Rule of this file: it counts and never waits: what ends a wait early is for the caller to know.
"""

from __future__ import annotations


class Backoff:
    """
    Pauses between attempts: each is twice as long as the one before, up to a limit.

    Args:
        first_s: the pause after the first failure, in seconds.
        max_s: no pause is longer.
    """

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the seconds to wait after one more failure."""
        pause_s = self._next_s
        self._next_s = min(pause_s * 2, self._max_s)
        return pause_s

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self._next_s = self._first_s
