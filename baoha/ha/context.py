"""
What the HA machinery is given by the node: one frozen record, made once per unsealing.

Rule of this file: values and callables only. ``ha`` decides who is active; everything that being
active needs (keys, mounts, answering a request) it is handed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from baoha.cluster.network import Network
from baoha.core.keys.barrier import Barrier
from baoha.ha.gate import RequestGate
from baoha.ha.problems import ProblemList
from baoha.ha.status_publisher import StatusBoard
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.storage.base import Capabilities, HALock
from baoha.timing import BootClock, HATiming


@dataclass(frozen=True, slots=True, kw_only=True)
class HAContext:
    """
    Everything around the HA loop.

    Attributes:
        identity: one UUID per server process; holder of the HA lock.
        lock: None without a store that can do HA.
        capabilities: of the store that holds the lock; none without a lock.
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
    capabilities: Capabilities
    reload: Callable[[], Awaitable[None]]
    follow_keys: Callable[[], Awaitable[None]]
    maintain: Callable[[], Awaitable[None]]
    execute: Callable[[HTTPRequest], Awaitable[HTTPResponse]]
    problems: ProblemList = field(default_factory=lambda: ProblemList())
