"""
What the HA machinery is given by the node: frozen records, made once per unsealing.

Rule of this file: values and callables only. ``ha`` decides who is active; everything that being
active needs (keys, mounts, answering a request) it is handed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from uuid import UUID

from baoha.cluster.channel import Execute, NodeInfo
from baoha.cluster.network import Network
from baoha.core.keys.barrier import Barrier
from baoha.core.view import Leader
from baoha.ha.gate import RequestGate
from baoha.ha.problems import Problems
from baoha.ha.status_publisher import StatusPublisher
from baoha.storage.base import Capabilities, HALock
from baoha.timing import BootClock, HATiming


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """
    Who this node is: what others learn of it, and what does not change while it runs.

    Attributes:
        identity: one UUID per server process; holder of the HA lock.
        api_addr: where clients are sent.
        cluster_addr: advertised, "" when clustering is off.
        version: of the API that it speaks.
        software: name and version of the program.
    """

    identity: str
    hostname: str
    api_addr: str
    cluster_addr: str
    version: str
    software: str

    def info(self, *, ready: bool, problems: tuple[str, ...]) -> NodeInfo:
        """Return what the node says of itself."""
        return NodeInfo(
            node_id=self.identity,
            hostname=self.hostname,
            api_addr=self.api_addr,
            cluster_addr=self.cluster_addr,
            version=self.version,
            software=self.software,
            ready=ready,
            problems=problems,
        )

    def as_leader(self, uuid: str, *, cluster_addr: str) -> Leader:
        """
        Return the node as the active one.

        Args:
            uuid: of its tenure.
            cluster_addr: as advertised now: "" while its port cannot be bound.
        """
        return Leader(
            uuid=uuid, redirect_addr=self.api_addr, cluster_addr=cluster_addr, is_self=True
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """
    Time and chance, as the node is given them: a simulation has its own.

    Attributes:
        boot: seconds since the machine's boot, suspends included.
        now: the wall clock, for display.
        random: leader UUIDs and the jitter of pauses, never secrets.
    """

    boot: BootClock
    now: Callable[[], datetime]
    random: Random

    def new_uuid(self) -> str:
        """Return a UUID that no tenure has had."""
        return str(UUID(int=self.random.getrandbits(128), version=4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """
    What being active needs beside the HA machinery.

    Attributes:
        reload: re-read the mounts: another node may have written.
        reload_keyring: re-read the keys.
        maintain: what active duty does in the background, until cancelled.
        execute: answer a forwarded request as the active node; raises NotActive.
    """

    reload: Callable[[], Awaitable[None]]
    reload_keyring: Callable[[], Awaitable[None]]
    maintain: Callable[[], Awaitable[None]]
    execute: Execute


@dataclass(frozen=True, slots=True, kw_only=True)
class HAContext:
    """
    Everything around the HA loop.

    Attributes:
        cluster_listen: (host, port) that the cluster listener binds during a tenure.
        lock: None without a store that can do HA.
        capabilities: of the store that holds the lock; none without a lock.
    """

    facts: NodeFacts
    clocks: Clocks
    timing: HATiming
    network: Network
    cluster_listen: tuple[tuple[str, int], ...]
    publisher: StatusPublisher
    gate: RequestGate
    barrier: Barrier
    lock: HALock | None
    capabilities: Capabilities
    duties: Duties
    problems: Problems = field(default_factory=lambda: Problems())
