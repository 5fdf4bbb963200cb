"""
The standbys that are connected to this active node, and which of them should be next.

Rule of this file: choosing is a pure decision on what the standbys last said; waiting is separate.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import trio

from baoha.cluster.channel import ConnectedStandby, LeaderNotice, NodeInfo
from baoha.core.view import Member
from baoha.errors import StepDownRefused
from baoha.timing import HATiming

log = logging.getLogger("baoha.ha")


def choose_successor(
    standbys: Sequence[ConnectedStandby], *, to: str | None, timing: HATiming
) -> ConnectedStandby:
    """
    Return the best ready standby, or the one that ``to`` names.

    Best is: fresh heartbeat, highest version, then the most recent heartbeat.

    Args:
        to: node id, API address, cluster address or host name; None for any.

    Raises:
        StepDownRefused: nobody fits; the text says why.
    """
    named = [standby for standby in standbys if to is None or is_named(standby.info, to)]
    if to is not None and not named:
        raise StepDownRefused(
            f"cannot step down: no connected standby is called {to!r}; connected: "
            + (", ".join(sorted(standby.info.api_addr for standby in standbys)) or "none")
        )
    if not named:
        raise StepDownRefused(
            "cannot step down: no standby is connected, so nobody could take over; "
            'unseal another node, or use "force"'
        )
    ready = [standby for standby in named if standby.info.ready and is_fresh(standby, timing)]
    if not ready:
        raise StepDownRefused(
            "cannot step down: no connected standby is ready to take over ("
            + "; ".join(f"{standby.info.api_addr}: {_why_not_ready(standby)}" for standby in named)
            + ")"
        )
    return max(
        ready,
        key=lambda standby: (standby.info.version, -standby.echoed_s_ago, standby.info.node_id),
    )


def is_named(node: NodeInfo, to: str) -> bool:
    """Return whether a node has this name: id, API address, cluster address or host name."""
    return to in (node.node_id, node.api_addr, node.cluster_addr, node.hostname)


def is_fresh(standby: ConnectedStandby, timing: HATiming) -> bool:
    """Return whether its silence, if any, is no longer than its measured delays explain."""
    return standby.echoed_s_ago < standby.patience.allow(timing.heartbeat_timeout_s)


def _why_not_ready(standby: ConnectedStandby) -> str:
    if not standby.info.ready:
        return "; ".join(standby.info.problems) or "not ready"
    return f"silent for {standby.echoed_s_ago:.1f} s"


def member_row(node: NodeInfo, *, active_node: bool, last_echo: datetime | None) -> Member:
    """
    Return a node as a row of ``sys/ha-status``.

    Args:
        last_echo: time of its last heartbeat; None for this node itself.
    """
    return Member(
        hostname=node.hostname,
        api_address=node.api_addr,
        cluster_address=node.cluster_addr,
        active_node=active_node,
        last_echo=last_echo,
        version=node.version,
        node_id=node.node_id,
        ready=node.ready,
        software=node.software,
        problems=node.problems,
    )


class StandbyRegistry:
    """
    Who is connected now.

    Attributes:
        was_joined: whether anybody ever was.
        arriving: how many connections are in the middle of their handshake.
    """

    def __init__(self) -> None:
        self.was_joined = False
        self.arriving = 0
        self._standbys: set[ConnectedStandby] = set()
        self._changed = trio.Event()

    def joined(self, standby: ConnectedStandby) -> None:
        """Add a standby."""
        log.info(
            "standby connected: api_addr=%s node=%s", standby.info.api_addr, standby.info.node_id
        )
        self.was_joined = True
        self._standbys.add(standby)
        self._wake()

    def left(self, standby: ConnectedStandby) -> None:
        """Remove a standby."""
        log.info(
            "standby disconnected: api_addr=%s node=%s", standby.info.api_addr, standby.info.node_id
        )
        self._standbys.discard(standby)
        self._wake()

    def pending(self, count: int) -> None:
        """Take note of how many connections are in the middle of their handshake."""
        self.arriving = count

    def connected(self) -> list[ConnectedStandby]:
        """Return who is connected now."""
        return list(self._standbys)

    def notify(self, notice: LeaderNotice) -> None:
        """Tell everybody. Never waits."""
        for standby in self._standbys:
            standby.notify(notice)

    async def wait_successor(
        self,
        *,
        to: str | None,
        timing: HATiming,
        wait_s: float,
        stretch: float = 1.0,
        without: Collection[ConnectedStandby] = (),
    ) -> ConnectedStandby:
        """
        Return a successor as soon as there is one, for ``wait_s`` seconds at most.

        Seconds in which this process did not run are not counted. While nobody is connected and
        somebody is in the middle of a handshake, it is ``stretch`` times as long.

        Args:
            without: standbys that are not wanted: they were asked, and could not.

        Raises:
            StepDownRefused: there was none in that time.
        """
        give_up_at = trio.current_time() + wait_s
        longest_at = trio.current_time() + stretch * wait_s
        while True:
            changed = self._changed
            try:
                standbys = [standby for standby in self._standbys if standby not in without]
                return choose_successor(standbys, to=to, timing=timing)
            except StepDownRefused:
                now = trio.current_time()
                if now >= give_up_at and (now >= longest_at or self._standbys or not self.arriving):
                    raise
            # Readiness also changes with a heartbeat, which wakes nobody: look again by then.
            pause_s = timing.heartbeat_s / 4
            if now < give_up_at:
                pause_s = min(pause_s, give_up_at - now)
            with trio.move_on_after(pause_s):
                await changed.wait()
            late_s = trio.current_time() - now - pause_s
            give_up_at = min(longest_at, give_up_at + max(0.0, late_s))

    async def wait_gone(self) -> None:
        """Wait until no standby is connected any more."""
        while self._standbys:
            await self._changed.wait()

    def rows(self) -> list[Member]:
        """Return the connected standbys as rows of ``sys/ha-status``."""
        return [
            member_row(
                standby.info,
                active_node=False,
                last_echo=datetime.fromtimestamp(standby.echoed_at_unix_s, UTC),
            )
            for standby in self._standbys
        ]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
