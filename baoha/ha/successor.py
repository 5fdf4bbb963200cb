"""
Finding the successor of an active node, while it still serves, and again after it has drained.

Rules of this file:

1. A standby is refused only by its own word, by the end of its channel, or by a silence that is
   longer than its measured delays explain; never because it is slow.
2. A slow one keeps nobody from asking the next: whoever is prepared first is it.
3. After the drain nothing waits any more: requests are parked.
"""

from __future__ import annotations

import logging

import trio

from baoha.cluster.channel import ConnectedStandby, PrepareReply
from baoha.errors import ForwardingError, StepDownRefused
from baoha.ha.leave_requests import LeaveRequest
from baoha.ha.standbys import StandbyRegistry, is_fresh, is_named
from baoha.timing import PATIENCE_MAX, HATiming

log = logging.getLogger("baoha.ha")

# A living standby was heard no longer ago than this many heartbeats.
RECENT_HEARTBEATS = 1.5


async def wait_appearance(
    request: LeaveRequest, standbys: StandbyRegistry, timing: HATiming
) -> None:
    """Wait until a standby seems ready for a request, for as long as ``prepare_successor`` says."""
    try:
        await standbys.wait_successor(
            to=request.to, timing=timing, wait_s=request.wait_s, stretch=_stretch(request)
        )
    except StepDownRefused:
        return  # said when it is its turn: who is there now may be asked what is true


async def prepare_successor(
    request: LeaveRequest, standbys: StandbyRegistry, timing: HATiming
) -> ConnectedStandby:
    """
    Return a standby that is ready, and has just prepared itself; the best one that can.

    Takes ``request.wait_s`` to find one, unless the request has waited already, and
    ``handover_wait_s`` to prepare it. Where nobody would mean a refusal, slow ones get
    ``PATIENCE_MAX`` times as long; a request that is forced gives the lock back instead, and
    whoever is fastest takes it.

    Raises:
        StepDownRefused: there is none; the text says why.
    """
    search = _Search(request, standbys, timing)
    async with trio.open_nursery() as nursery:
        await search.run(nursery)
        nursery.cancel_scope.cancel()
    if search.prepared is None:
        raise StepDownRefused(search.refusal)
    return search.prepared


def successor_after_drain(
    chosen: ConnectedStandby, standbys: StandbyRegistry, *, to: str | None, timing: HATiming
) -> ConnectedStandby | None:
    """
    Return who is to have the lock now; None: nobody is left.

    It is the prepared one, as long as it was heard lately; else whoever was heard last. A standby
    that was asked for by name is given up only when its silence means something.
    """
    connected = standbys.connected()
    if chosen in connected:
        if chosen.echoed_s_ago <= RECENT_HEARTBEATS * timing.heartbeat_s:
            return chosen
        if to is not None and is_fresh(chosen, timing):
            return chosen
    able = [standby for standby in connected if standby.info.ready and is_fresh(standby, timing)]
    found = min(able, key=lambda standby: standby.echoed_s_ago, default=None)
    if found is not chosen:
        log.warning(
            "the prepared standby is lost, another one takes over: lost=%s successor=%s",
            chosen.info.api_addr,
            found.info.api_addr if found else "none",
        )
    return found


def _stretch(request: LeaveRequest) -> float:
    return 1.0 if request.force else PATIENCE_MAX


class _Search:
    """Asks one standby after the other to prepare; those that were asked may still answer."""

    def __init__(self, request: LeaveRequest, standbys: StandbyRegistry, timing: HATiming) -> None:
        self.prepared: ConnectedStandby | None = None
        self.refusal = ""
        self._request = request
        self._standbys = standbys
        self._timing = timing
        self._stretch = _stretch(request)
        self._asked: dict[ConnectedStandby, str] = {}  # -> why it is not the one
        self._pending: set[ConnectedStandby] = set()
        self._answered = trio.Event()

    async def run(self, nursery: trio.Nursery) -> None:
        """Return with ``prepared`` or ``refusal`` set."""
        while self.prepared is None:
            try:
                standby = await self._next()
            except StepDownRefused as exc:
                if self._pending:
                    await self._wait_answer()
                elif self.prepared is None:
                    self.refusal = self._reasons() or str(exc)
                    return
                continue
            self._asked[standby] = "no answer"
            self._pending.add(standby)
            nursery.start_soon(self._ask, standby)
            with trio.move_on_after(self._timing.handover_wait_s):
                await self._wait_answer()

    async def _wait_answer(self) -> None:
        self._answered = trio.Event()
        await self._answered.wait()

    async def _next(self) -> ConnectedStandby:
        """Return the best standby that was not asked yet, the ready ones first."""
        to, timing = self._request.to, self._timing
        try:
            return await self._standbys.wait_successor(
                to=to,
                timing=timing,
                wait_s=0.0 if self._asked or self._request.has_waited else self._request.wait_s,
                stretch=self._stretch,
                without=self._asked.keys(),
            )
        except StepDownRefused:
            # What it said of itself may be old: it is asked what is true now.
            for standby in self._standbys.connected():
                if (
                    standby not in self._asked
                    and (to is None or is_named(standby.info, to))
                    and is_fresh(standby, timing)
                ):
                    return standby
            raise

    async def _ask(self, standby: ConnectedStandby) -> None:
        timing = self._timing
        limit_s = self._stretch * timing.handover_wait_s
        reply: PrepareReply | None = None
        with trio.move_on_after(limit_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, standby, nursery.cancel_scope)
                try:
                    reply = await standby.prepare()
                except ForwardingError as exc:
                    reply = PrepareReply(ready=False, reason=str(exc))
                nursery.cancel_scope.cancel()
        if reply is None:
            silent = f"silent for {standby.echoed_s_ago:.1f} s"
            slow = f"no answer within {limit_s:g} s"
            reply = PrepareReply(ready=False, reason=slow if is_fresh(standby, timing) else silent)
        if reply.ready and self.prepared is None:
            self.prepared = standby
        self._asked[standby] = reply.reason
        self._pending.discard(standby)
        self._answered.set()

    async def _watch(self, standby: ConnectedStandby, scope: trio.CancelScope) -> None:
        """Wait no longer for a standby that does not even send heartbeats."""
        pause_s = self._timing.handover_wait_s
        while True:
            await trio.sleep(pause_s)
            if not is_fresh(standby, self._timing):
                scope.cancel()
            pause_s = self._timing.heartbeat_s / 4

    def _reasons(self) -> str:
        if not self._asked:
            return ""
        reasons = "; ".join(
            f"{standby.info.api_addr}: {why}" for standby, why in self._asked.items()
        )
        return f"cannot step down: no standby is prepared to take over ({reasons})"
