"""
Telling systemd how the service is: ready, reloading, stopping, alive.

Rule of this file: a supervisor that does not listen never disturbs the server. A message that
cannot be sent at once is lost.

Theory of operation. One datagram per message to the socket named by ``NOTIFY_SOCKET``; a name that
begins with "@" is in the abstract name space. Without that variable nothing is sent.

Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) ``Type=notify-reload``.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

import trio

logger = logging.getLogger("baoha.server.notify")

# systemd shows one line.
STATUS_CHARACTERS_MAX = 200


class Notifier:
    """The connection to the supervisor; every method returns at once and never fails."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``."""
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._complained = False
        self.watchdog_interval_s = _watchdog_interval_s(environ)

    @property
    def enabled(self) -> bool:
        """Return whether somebody supervises this process."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Say that the listeners are up, or that a reload is over."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """Say in one line what the node is doing."""
        self._send(_status(status))

    def reloading(self) -> None:
        """Say that a reload begins; ``ready`` ends it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1", _status(status))

    def extend_timeout(self, seconds: float) -> None:
        """Ask for patience: the current step may take this long from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    async def run_watchdog(self) -> None:
        """
        Say "alive" twice in every watchdog interval, from the event loop: when the loop is stuck,
        the message does not come. Returns at once when no watchdog is set.
        """
        if self.watchdog_interval_s is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog_interval_s / 2)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._complained:
                logger.warning("cannot notify the supervisor: cause=%s", error.strerror)
            self._complained = True


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())[:STATUS_CHARACTERS_MAX]


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Return the watchdog's interval in seconds, or None when it is off or meant for another."""
    value = environ.get("WATCHDOG_USEC", "")
    owner = environ.get("WATCHDOG_PID", "")
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        return None
    if owner and owner != str(os.getpid()):
        return None
    return int(value) / 1_000_000
