"""
Refused and broken cluster connections, in the log: one line each, but never a flood.

Source: ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

_logger: Final = logging.getLogger("baoha.cluster")

# A port scanner must not fill the disk: so many lines per period, then a count.
_LINES_MAX: Final = 10
_PERIOD_S: Final = 10.0


class RefusedLog:
    """
    Writes one warning per problem, at most ten in ten seconds; the rest is counted.

    Args:
        on_problem: called with (address, cause) for every problem, whether it is written or not.
    """

    def __init__(self, on_problem: Callable[[str, str], None] | None = None) -> None:
        self._on_problem = on_problem
        self._period_ends_at = 0.0
        self._lines = 0
        self._suppressed = 0

    def report(self, address: str, cause: str) -> None:
        """Report that the connection with ``address`` was refused or broke."""
        if self._on_problem is not None:
            self._on_problem(address, cause)
        now = trio.current_time()
        if now >= self._period_ends_at:
            if self._suppressed:
                _logger.warning("cluster connections refused or broken count=%d", self._suppressed)
            self._period_ends_at = now + _PERIOD_S
            self._lines = self._suppressed = 0
        if self._lines >= _LINES_MAX:
            self._suppressed += 1
            return
        self._lines += 1
        _logger.warning("cluster connection refused or broken peer=%s cause=%s", address, cause)


def peer_address(stream: trio.abc.Stream) -> str:
    """Return "ip:port" of the other end, or a word for streams that have no address."""
    if isinstance(stream, trio.SocketStream):
        try:
            name = stream.socket.getpeername()
        except OSError:
            return "disconnected"
        return f"{name[0]}:{name[1]}"
    return str(getattr(stream, "peer_name", "memory"))
