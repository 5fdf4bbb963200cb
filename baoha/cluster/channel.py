"""
The vocabulary of the cluster channel: what the two ends tell each other.

One persistent connection per standby, opened by the standby. The standby asks (``HTTPRequest``) and
sends heartbeats with its ``NodeInfo``; the active node answers, and sends notices and questions of
its own. This file holds the values and the two protocols that ``ha`` implements; ``transport``,
``active_listener`` and ``standby_link`` carry them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from baoha.sansio.patience import PeerPatience
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse

RESOURCE = "/baoha/cluster"

# Executes a forwarded request. It raises NotActive when nothing was executed: the standby is told
# so and may park it.
Execute = Callable[[HTTPRequest], Awaitable[HTTPResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """What a standby says of itself at connect and with every heartbeat."""

    node_id: str  # one UUID per server process: the identity it contends for the HA lock with
    hostname: str
    api_addr: str
    cluster_addr: str
    version: str
    software: str
    ready: bool  # it could take over now: unsealed, warm, not stopping
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderNotice:
    """
    The active node to every standby: leadership passes, or has passed.

    ``phase`` "leaving": the active node has closed its gate; new requests are to be parked.
    ``phase`` "passed": the lock was given to ``successor`` (identity) or released ("").
    """

    phase: str
    successor: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareReply:
    """A standby's answer to "prepare to take over"."""

    ready: bool
    reason: str = ""  # why not


class ConnectedStandby(Protocol):
    """A connected standby, as the active node sees it."""

    @property
    def info(self) -> NodeInfo:
        """What it last said of itself."""

    @property
    def echoed_s_ago(self) -> float:
        """Seconds since its last heartbeat."""

    @property
    def patience(self) -> PeerPatience:
        """What was measured of its delays."""

    @property
    def echoed_at_unix_s(self) -> float:
        """Wall-clock time of its last heartbeat, for display only."""

    async def prepare(self) -> PrepareReply:
        """
        Ask it to prepare for taking over (fresh certificate, keys and mounts reloaded).

        Raises:
            ForwardingError: the channel broke. The caller sets the time limit.
        """

    def notify(self, notice: LeaderNotice) -> None:
        """Queue a notice; it never waits and never fails (a broken channel drops it)."""


class Standbys(Protocol):
    """Whom the cluster listener tells of its standbys. Implemented in ``ha``. Nothing may wait."""

    def joined(self, peer: ConnectedStandby) -> None:
        """Take note of a standby that has completed its hello."""

    def left(self, peer: ConnectedStandby) -> None:
        """Take note of a standby whose channel has ended."""

    def pending(self, count: int) -> None:
        """Take note of how many connections have not said hello, at each change."""


class StandbyHandler(Protocol):
    """What the standby's client calls. Implemented in ``ha``."""

    def node_info(self) -> NodeInfo:
        """Return what to say of this node in the next heartbeat."""

    async def prepare(self) -> PrepareReply:
        """Prepare to take over."""

    def leader_notice(self, notice: LeaderNotice) -> None:
        """Take note of a leader change. Must not wait."""

    def link_changed(self) -> None:
        """Take note that the link came up, became suspect or ended. Must not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The standby: which protocols it speaks, and who it is."""

    protocols: tuple[int, ...]
    node: NodeInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The active node: the protocol that both will use, and what it accepts."""

    protocol: int
    head_bytes_max: int
    body_bytes_max: int
    in_flight_max: int
