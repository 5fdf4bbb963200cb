"""
One attacker without a token, at full speed against all nodes, in a process of its own.

    python -m benchmarks.attackers ATTACK SECONDS RESULT HOST:PORT...

It is started by ``benchmarks.attack``.

Rules of this file:

1. Bounded in time, and only against loopback.
2. What the attacker achieved is reported: an attack that the machine could not carry out is none.

Theory of operation. One ``epoll`` and many connections. What an attack sends is one payload; what
it does then is its manner: hold the connection and drip, send again for each answer, or connect
anew. Connections are closed with RST, as an attacker would, so that no ports run out.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOLD = "hold"
ANSWERED = "answered"
ANEW = "anew"
LOOPBACK = "127."
TOKEN_BYTES = 18
DRIP_S = 1.0
POLL_S = 0.05
RECEIVE_BYTES = 65_536
# Of the descriptors that a process may have, this many are left for other things.
SPARE_DESCRIPTORS = 100
# When the machine has no port or descriptor left.
PAUSE_S = 0.05
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NOWHERE = (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """
    One kind of attack.

    Attributes:
        connections: to each node at once.
        payload: what a connection sends, made anew each time.
        manner: what comes after it.
        drip: what a held connection sends every second.
    """

    connections: int
    payload: Callable[[], bytes]
    manner: str
    drip: bytes = b""


def _request(method: str, *, token: str = "", headers: str = "", body: bytes = b"") -> bytes:
    head = f"{method} /v1/secret/data/seed/1 HTTP/1.1\r\nHost: node\r\n{headers}"
    if token:
        head += f"X-Vault-Token: {token}\r\n"
    if body or method == "PUT":
        head += f"Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def _random_token() -> str:
    return f"s.{os.urandom(TOKEN_BYTES).hex()[:24]}"


_SLOW = b"PUT /v1/secret/data/seed/1 HTTP/1.1\r\nHost: node\r\nContent-Length: 1000000\r\n\r\n{"
_SLOW_HEAD = b"GET /v1/sys/health HTTP/1.1\r\nHost: node\r\nX-Slow: "
_LARGE = _request("PUT", body=b'{"data":"' + b"x" * 4_000_000 + b'"}')
_DEEP = _request("PUT", body=b'{"data":' + b"[" * 400_000 + b"]" * 400_000 + b"}")
_SPACES = _request("GET", headers="X-Spaces: " + " " * 40_000 + "x\r\n")
_PIPELINE = _request("GET") * 100 + b"\x00\xff junk \r\n\r\n"
_WRITE = b'{"data":{"value":"junk"}}'

ATTACKS: dict[str, Attack] = {
    "slow bodies": Attack(connections=400, payload=lambda: _SLOW, manner=HOLD, drip=b" "),
    "slow heads": Attack(connections=400, payload=lambda: _SLOW_HEAD, manner=HOLD, drip=b"x"),
    "connections": Attack(connections=4_000, payload=lambda: b"", manner=HOLD),
    "churn": Attack(connections=20, payload=lambda: b"", manner=ANEW),
    "requests anew": Attack(connections=50, payload=lambda: _request("GET"), manner=ANEW),
    "large bodies": Attack(connections=8, payload=lambda: _LARGE, manner=ANSWERED),
    "deep bodies": Attack(connections=8, payload=lambda: _DEEP, manner=ANSWERED),
    "header of 40 KB": Attack(connections=20, payload=lambda: _SPACES, manner=ANSWERED),
    "random tokens GET": Attack(
        connections=50, payload=lambda: _request("GET", token=_random_token()), manner=ANSWERED
    ),
    "random tokens PUT": Attack(
        connections=50,
        payload=lambda: _request("PUT", token=_random_token(), body=_WRITE),
        manner=ANSWERED,
    ),
    "pipelined junk": Attack(connections=20, payload=lambda: _PIPELINE, manner=ANSWERED),
    "noise": Attack(connections=20, payload=lambda: os.urandom(512) + b"\r\n\r\n", manner=ANSWERED),
}


class _Lane:
    __slots__ = ("drip_at", "message", "sock", "target")

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.message = memoryview(b"")
        self.drip_at = 0.0


class _Attacker:
    """Carries out one attack."""

    def __init__(self, attack: Attack, targets: list[tuple[str, int]]) -> None:
        self.opened = 0
        self.sent = 0
        self.sent_bytes = 0
        self._attack = attack
        self._poll = select.epoll()
        self._lanes: dict[int, _Lane] = {}
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        room = (hard - SPARE_DESCRIPTORS) // len(targets)
        self._missing = [target for _ in range(min(attack.connections, room)) for target in targets]

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._lanes)

    def run(self, seconds: float) -> None:
        """Attack for so long."""
        end = time.monotonic() + seconds
        drip_at = 0.0
        while (now := time.monotonic()) < end:
            self._connect_missing(end)
            if self._attack.manner == HOLD and now >= drip_at:
                drip_at = now + DRIP_S
                self._drip()
            for fileno, event in self._poll.poll(0.0 if self._missing else POLL_S):
                lane = self._lanes.get(fileno)
                if lane is not None:
                    self._handle(lane, event)

    def _connect_missing(self, end: float) -> None:
        missing, self._missing = self._missing, []
        for place, target in enumerate(missing):
            if time.monotonic() >= end:
                return
            try:
                self._connect(target)
            except OSError as error:
                if error.errno not in _NOWHERE:
                    raise
                self._missing.extend(missing[place:])
                self._poll.poll(PAUSE_S)
                return

    def _connect(self, target: tuple[str, int]) -> None:
        lane = _Lane(target)
        fileno = lane.sock.fileno()
        self._lanes[fileno] = lane
        self._poll.register(fileno, select.EPOLLIN | select.EPOLLOUT)
        try:
            lane.sock.connect(target)
        except BlockingIOError:
            pass
        except ConnectionError:
            self._lose(lane)
            return
        self.opened += 1
        lane.message = memoryview(self._attack.payload())
        self._flush(lane)

    def _handle(self, lane: _Lane, event: int) -> None:
        if event & ~select.EPOLLOUT:
            try:
                answer = lane.sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                answer = None
            except OSError:
                answer = b""
            if answer == b"":
                self._lose(lane)
                return
            if answer and not lane.message and self._attack.manner == ANSWERED:
                lane.message = memoryview(self._attack.payload())
        self._flush(lane)

    def _flush(self, lane: _Lane) -> None:
        while lane.message:
            try:
                count = lane.sock.send(lane.message)
            except BlockingIOError:
                self._poll.modify(lane.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                self._lose(lane)
                return
            self.sent_bytes += count
            lane.message = lane.message[count:]
        if self._attack.manner == ANEW:
            self.sent += 1
            self._lose(lane)
            return
        self.sent += 1
        self._poll.modify(lane.sock.fileno(), select.EPOLLIN)

    def _drip(self) -> None:
        if not self._attack.drip:
            return
        for lane in list(self._lanes.values()):
            if not lane.message:
                lane.message = memoryview(self._attack.drip)
                self._flush(lane)

    def _lose(self, lane: _Lane) -> None:
        del self._lanes[lane.sock.fileno()]
        lane.sock.close()
        self._missing.append(lane.target)


def main(name: str, seconds: str, result_file: str, *addresses: str) -> None:
    """Attack, and write what was achieved."""
    targets = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host.startswith(LOOPBACK):
            sys.exit(f"{host} is not loopback")
        targets.append((host, int(port)))
    attacker = _Attacker(ATTACKS[name], targets)
    attacker.run(float(seconds))
    used = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "opened_per_s": attacker.opened / float(seconds),
        "sent_per_s": attacker.sent / float(seconds),
        "sent_bytes_per_s": attacker.sent_bytes / float(seconds),
        "open": attacker.open,
        "cpu_share": (used.ru_utime + used.ru_stime) / float(seconds),
    }
    temporary = Path(f"{result_file}.part")
    temporary.write_text(json.dumps(result))
    temporary.rename(result_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
