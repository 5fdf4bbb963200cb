"""
What the HA machinery is given by the node: one frozen record, made once per unsealing.

Rule of this file: values and callables only. ``ha`` decides who is active; everything that being
active needs (keys, mounts, answering a request) it is handed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from random import Random

import trio

from baoha.cluster.network import Network
from baoha.core.keys.barrier import Barrier
from baoha.ha.gate import RequestGate
from baoha.ha.status_publisher import StatusBoard
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.storage.base import HALock
from baoha.timing import BootClock, HATiming


@dataclass(frozen=True, slots=True, kw_only=True)
class HAContext:
    """
    Everything around the HA loop.

    Attributes:
        identity: one UUID per server process; holder of the HA lock.
        lock: None without a store that can do HA.
        store_announces: changes of the lock are announced by the store, without polling.
        cluster_addr: advertised, "" when clustering is off.
        cluster_listen: addresses that the cluster listener binds during a tenure.
        reload: re-read the mounts: another node may have written.
        follow_keys: re-read the keys.
        maintain: what active duty does in the background, until cancelled.
        execute: answer a forwarded request as the active node; raises NotActive.
        random: leader UUIDs and the jitter of pauses, never secrets.
    """

    identity: str
    hostname: str
    api_addr: str
    cluster_addr: str
    cluster_listen: tuple[tuple[str, int], ...]
    version: str
    software: str
    timing: HATiming
    boot_clock: BootClock
    now: Callable[[], datetime]
    random: Random
    network: Network
    board: StatusBoard
    gate: RequestGate
    barrier: Barrier
    lock: HALock | None
    store_announces: bool
    reload: Callable[[], Awaitable[None]]
    follow_keys: Callable[[], Awaitable[None]]
    maintain: Callable[[], Awaitable[None]]
    execute: Callable[[HTTPRequest], Awaitable[HTTPResponse]]
    problems: ProblemList = field(default_factory=lambda: ProblemList())


class ProblemList:
    """What this node sees wrong, one sentence for each subject; logged by whoever reports it."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], Sequence[str]]] = []
        self._by_subject: dict[str, str] = {}
        self._until: dict[str, float] = {}

    def include(self, source: Callable[[], Sequence[str]]) -> None:
        """Show what another part of the node sees wrong, too; whoever owns it logs it."""
        self._sources.append(source)

    def report(self, subject: str, sentence: str, *, for_s: float = inf) -> bool:
        """
        Remember a problem; True when it is new or has changed (the moment to log it).

        Args:
            for_s: forget it by itself after so long.
        """
        self._until[subject] = trio.current_time() + for_s
        if self._by_subject.get(subject) == sentence:
            return False
        self._by_subject[subject] = sentence
        return True

    def clear(self, subject: str) -> bool:
        """Forget a problem; True when there was one."""
        return self._by_subject.pop(subject, None) is not None

    def sentences(self) -> tuple[str, ...]:
        """Return all: those that were reported, sorted by subject, then those of the sources."""
        now = trio.current_time()
        for subject in [subject for subject, until in self._until.items() if until <= now]:
            del self._until[subject]
            self._by_subject.pop(subject, None)
        reported = [self._by_subject[subject] for subject in sorted(self._by_subject)]
        return (*reported, *(sentence for source in self._sources for sentence in source()))
