"""
What failed attempts to reach the active node prove, on a machine that may be loaded.

Rules of this file:

1. FAILED sends clients elsewhere, so it is said only for reasons that load cannot make: nothing
   came of several whole attempts over a time longer than one handshake.
2. An attempt proves nothing when it may have failed for want of CPU time, here or there.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from baoha.core.view import LinkState
from baoha.sansio.patience import PeerPatience

# So many attempts have to fail, unless the port refuses, before the active node is unreachable.
WHOLE_ATTEMPTS: Final = 3

# A handshake that ran out of time proves nothing unless it had so many times ``handshake_s``. (An
# active node that needs longer for it hardly renews its lock.)
PROOF_FACTOR: Final = 2.0

# An attempt during which this process did not run for a larger share of the time proves nothing.
OWN_SHARE_MAX: Final = 0.25


class DialAttempts:
    """
    The attempts to get one link up: how long each may take, and what those that failed say.

    Args:
        handshake_s: what a handshake takes at most on a machine at rest, in seconds.
    """

    def __init__(self, handshake_s: float) -> None:
        self._handshake_s = handshake_s
        self._patience = PeerPatience()
        # How long this process did not run, in all, and when its next tick is due.
        self._stalled_s = 0.0
        self._tick_due_at = math.inf
        # The failures since the link was last up.
        self._failures = 0
        self._failing_since: float | None = None

    @property
    def handshake_max_s(self) -> float:
        """How long the next handshake may take, in seconds; longer after those that ran out."""
        return self._patience.allow(self._handshake_s)

    @property
    def stalled_s(self) -> float:
        """How long this process did not run, in all, what is not measured yet included."""
        return self._stalled_s + max(0.0, trio.current_time() - self._tick_due_at)

    async def measure_own(self, interval_s: float) -> float:
        """Sleep so long, and return how late this process woke up: no peer is to blame for that."""
        self._tick_due_at = trio.current_time() + interval_s
        await trio.sleep_until(self._tick_due_at)
        late_s = trio.current_time() - self._tick_due_at
        self._stalled_s += late_s
        self._tick_due_at = math.inf
        self._patience.observe_own(late_s)
        return late_s

    def succeeded(self, took_s: float) -> None:
        """Take note that the link is up after so long; former failures are forgotten."""
        self._patience.observe(took_s)
        self._failures = 0
        self._failing_since = None

    def ran_out(self, limit_s: float) -> bool:
        """Take note of a handshake that ran out of its time; return whether it proves anything."""
        self._patience.expired()
        return limit_s >= PROOF_FACTOR * self._handshake_s

    def verdict(self, began: float, *, limit_s: float, stalled_s: float, proves: bool) -> LinkState:
        """
        Take note of an attempt that has failed without being refused.

        Args:
            began: when (trio's clock).
            limit_s: how long it had.
            stalled_s: what ``stalled_s`` was then.
            proves: False when it may have failed for want of CPU time there.
        """
        if self._failing_since is None:
            self._failing_since = began
        self._failures += 1
        if not proves or self.stalled_s - stalled_s > OWN_SHARE_MAX * limit_s:
            return LinkState.CONNECTING
        lasts_s = trio.current_time() - self._failing_since
        if self._failures >= WHOLE_ATTEMPTS and lasts_s > self._handshake_s:
            return LinkState.FAILED
        return LinkState.CONNECTING
