"""
As many requests as a server answers, over a fixed number of connections, one at a time on each.

Rules of this file:

1. As little work per request as Python allows: the measuring thread shares the machine with the
   servers. No event loop, no HTTP library; requests are made before, answers are only delimited.
2. Every answer's status is looked at. A wrong one ends the measurement.

Theory of operation. One thread, one ``epoll``. Answers must carry ``Content-Length``; both servers
measured here send it for small answers.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

RECEIVE_BYTES = 65_536
_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class HammerError(Exception):
    """A server did something else than answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strokes:
    """
    What was measured.

    Attributes:
        latencies_s: one for each request, sorted.
        duration_s: from the first request to the last answer.
    """

    latencies_s: Sequence[float]
    duration_s: float

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return len(self.latencies_s) / self.duration_s

    def percentile_ms(self, fraction: float) -> float:
        """Return a latency in milliseconds that this fraction of the requests did not exceed."""
        index = min(len(self.latencies_s) - 1, int(fraction * len(self.latencies_s)))
        return self.latencies_s[index] * 1000


def request_bytes(method: str, host: str, path: str, token: str, body: bytes = b"") -> bytes:
    """Return one request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Vault-Token: {token}\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def hammer(
    address: tuple[str, int],
    requests: Sequence[bytes],
    *,
    connections: int,
    duration_s: float,
    timeout_s: float = 10.0,
) -> Strokes:
    """
    Send the requests round and round for a while. Blocks; run it in a thread.

    Raises:
        HammerError: an answer that is not 200, or none within ``timeout_s``.
    """
    poll = select.epoll()
    lanes: dict[int, _Lane] = {}
    try:
        for number in range(connections):
            lane = _Lane(address, requests, number)
            lanes[lane.fileno] = lane
            poll.register(lane.fileno, select.EPOLLIN)
        return _strike(poll, lanes, duration_s, timeout_s)
    except OSError as error:
        raise HammerError(str(error)) from error
    finally:
        for lane in lanes.values():
            lane.close()
        poll.close()


def _strike(
    poll: select.epoll, lanes: dict[int, _Lane], duration_s: float, timeout_s: float
) -> Strokes:
    latencies: list[float] = []
    start = time.perf_counter()
    end = start + duration_s
    for lane in lanes.values():
        lane.send()
    busy = len(lanes)
    while busy:
        events = poll.poll(timeout_s)
        if not events:
            raise HammerError(f"no answer within {timeout_s:g} s")
        for fileno, _ in events:
            lane = lanes[fileno]
            if not lane.receive():
                continue
            now = time.perf_counter()
            latencies.append(now - lane.sent)
            if now < end:
                lane.send()
            else:
                busy -= 1
    return Strokes(latencies_s=sorted(latencies), duration_s=time.perf_counter() - start)


class _Lane:
    """One connection."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes], first: int) -> None:
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fileno = self._socket.fileno()
        self.sent = 0.0
        self._requests = requests
        self._next = first
        self._data = b""

    def send(self) -> None:
        message = self._requests[self._next % len(self._requests)]
        # A prime, so that the connections do not walk in step.
        self._next += 7919
        self.sent = time.perf_counter()
        self._socket.sendall(message)

    def receive(self) -> bool:
        """Return whether the answer is complete."""
        part = self._socket.recv(RECEIVE_BYTES)
        if not part:
            raise HammerError("closed before the answer")
        self._data += part
        end = self._data.find(_END)
        if end < 0:
            return False
        head = self._data[:end].lower()
        place = head.find(_LENGTH)
        if head[9:12] != b"200" or place < 0:
            raise HammerError(self._data[:500].decode(errors="replace"))
        length = int(head[place + len(_LENGTH) :].partition(b"\r\n")[0])
        if len(self._data) < end + len(_END) + length:
            return False
        self._data = b""
        return True

    def close(self) -> None:
        self._socket.close()
