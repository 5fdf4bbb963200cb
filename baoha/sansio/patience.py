"""
How long a peer may be silent before its silence means anything.

Rules of this file: it knows no clock; delays are arguments, in seconds. What is allowed is never
less than the configured time and never more than ``PATIENCE_MAX`` times it, so that a verdict may
come late on a busy machine, and still comes.

A fixed limit takes a machine without spare CPU time for a peer that is gone. So the limit follows
what was measured: the peer's delays as TCP smooths them (mean plus four deviations), and by how
much this process's own timers come late, which delays whatever it waits for. When limits pass
unanswered, every second time doubles the next one, until there is an answer: delays that are never
seen to end cannot be measured.

Source: RFC 6298 (SRTT, RTTVAR, the doubling); bounds and own delay are ours.
"""

from __future__ import annotations

from typing import Final

from baoha.timing import PATIENCE_MAX

_MEAN_GAIN: Final = 1 / 8
_DEVIATION_GAIN: Final = 1 / 4
_DEVIATIONS: Final = 4.0
_OWN_FADING: Final = 0.75  # what is left of an own delay at each later observation
_DOUBLINGS_MAX: Final = 8


class PeerPatience:
    """What was measured of one peer and of this process."""

    def __init__(self) -> None:
        self._mean_s: float | None = None
        self._deviation_s = 0.0
        self._own_s = 0.0
        self._expired = 0

    def observe(self, delay_s: float) -> None:
        """Take note of an answer that took, or a message that was late by, so long."""
        delay_s = max(0.0, delay_s)
        self._expired = 0
        if self._mean_s is None:
            self._mean_s = delay_s
            self._deviation_s = delay_s / 2
            return
        error_s = abs(delay_s - self._mean_s)
        self._deviation_s += _DEVIATION_GAIN * (error_s - self._deviation_s)
        self._mean_s += _MEAN_GAIN * (delay_s - self._mean_s)

    def observe_own(self, late_s: float) -> None:
        """Take note that a timer of this process came so late."""
        self._own_s = max(late_s, self._own_s * _OWN_FADING)

    def expired(self) -> None:
        """Take note that what was allowed has passed without an answer."""
        self._expired = min(self._expired + 1, 2 * _DOUBLINGS_MAX)

    def allow(self, base_s: float) -> float:
        """Return how long to wait for what takes ``base_s`` at most on a machine at rest."""
        longest_s = PATIENCE_MAX * base_s
        margin_s = (self._mean_s or 0.0) + _DEVIATIONS * (self._deviation_s + self._own_s)
        return min(longest_s, base_s * 2.0 ** (self._expired // 2) + margin_s)
