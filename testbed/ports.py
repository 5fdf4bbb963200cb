"""
Pairs of free ports on loopback: one for the API, the next one for the cluster channel.

Rule of this file: a pair is given out once in a process, and lies below the range from which the
kernel takes ports for outgoing connections: a load generator uses up thousands of those.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

HOST = "127.0.0.1"
_FIRST = 10_240
_TRIES = 1_000
_given: set[int] = set()


def free_ports(pairs: int) -> list[int]:
    """
    Return the first port of each of so many free pairs (N, N + 1).

    Raises:
        RuntimeError: there are not so many.
    """
    chosen: list[int] = []
    last = _first_outgoing_port() - 2
    for _ in range(_TRIES):
        if len(chosen) == pairs:
            return sorted(chosen)  # so that names and addresses sort alike
        # Random, so that two labs that run at the same time hardly meet.
        port = random.randrange(_FIRST, last, 2)
        if port not in _given and _is_free(port):
            _given.add(port)
            chosen.append(port)
    raise RuntimeError(f"cannot find {pairs} pairs of free ports")


def _is_free(port: int) -> bool:
    with ExitStack() as held:
        for number in (port, port + 1):
            probe = held.enter_context(socket.socket())
            try:
                probe.bind((HOST, number))
            except OSError:
                return False
    return True


def _first_outgoing_port() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:
        return 32_768
    return max(int(text.split()[0]), _FIRST + 1_000)
