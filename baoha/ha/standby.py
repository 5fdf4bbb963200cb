"""
Standing by: who leads, how to reach them, and when to take over.

Rules of this file:

1. "No leader yet" is never remembered: until there is a working channel, the lock is read anew.
2. The lock is tried for at once when it is free, passed to this node, expired, or when its holder
   is proven dead; there is no tick in between where the store announces changes.
3. A leader counts as alive but unreachable only when it renewed the lock *after* the channel
   broke; until then requests are parked, never redirected.

Theory of operation. One task reads the lock's record and acts on it, then waits for whatever comes
first: the store announces a change, the channel breaks, a notice arrives, the record expires. Death
of a *process* needs two pieces of evidence: its session with the store is gone and its cluster port
refuses connections. Death of a *host* shows by the record's expiry alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import inf
from urllib.parse import urlsplit

import trio

from baoha import names
from baoha.cluster.channel import LeaderNotice, NodeInfo, PrepareReply
from baoha.core.view import Leader, LinkState
from baoha.diagnostics.codes.addresses import TWO_NODES_ONE_ADDRESS
from baoha.diagnostics.codes.forwarding import FORWARDING_OFF
from baoha.errors import BarrierError, KeysDoNotFit, StorageError
from baoha.ha.context import HAContext
from baoha.ha.links import LinkKeeper
from baoha.ha.passing import LockSightings
from baoha.ha.readiness import Readiness, refresh_keys
from baoha.sansio.advertisement import Advertisement, decode_advertisement
from baoha.sansio.ha_state import Phase
from baoha.storage.base import Fence, HALock, LockRecord
from baoha.storage.retry import Backoff

log = logging.getLogger("baoha.ha")

HEAD_START_S = 1.0  # a node that stepped down leaves a free lock to others for so long
LAPSED_START_S = 0.3  # and so long, if it is free because its successor let it lapse
FIRST_LOOK_S = 0.002  # re-read for an advertisement that is not there yet; grows with each look
LOOK_GROWTH = 1.3  # a take-over lasts some milliseconds, and every one of them is a client's
LAST_LOOK_S = 0.1
EVIDENCE_FIRST_S = 0.02  # re-check of a holder whose channel broke; grows with the time since
PORT_CHECK_S = 0.5  # a living port on this machine or in this rack answers well within


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The HA lock was acquired for ``ttl_s`` by a request sent at ``sent_boot_s`` (boot clock)."""

    uuid: str
    fence: Fence | None
    sent_boot_s: float
    ttl_s: float


class Standby:
    """
    The standby side of a node for as long as it is unsealed.

    Attributes:
        eligible: whether it contends for the lock; off once the node is stopping or sealing.
        is_slow: whether it could not take up active duty last time; it gets more time then.
        sightings: what it sees of the lock.
        has_followed: whether there was ever a channel to another active node.
    """

    def __init__(self, ctx: HAContext, links: LinkKeeper, readiness: Readiness) -> None:
        self._ctx = ctx
        self._links = links
        self._readiness = readiness
        self.eligible = True
        self.has_followed = False
        self.is_slow = False
        self.sightings = LockSightings()
        self._rest_until = 0.0
        self._nudged = trio.Event()
        self._hold_until = 0.0
        self._free_since: float | None = None
        self._record: LockRecord | None = None
        self._asked_at = 0.0  # the record was read between these two
        self._read_at = 0.0
        self._advertised: Advertisement | None = None
        self._look_s = FIRST_LOOK_S
        self._leaving = False  # the active node has announced that it leaves
        self._dead = False  # the holder is proven dead
        self._alive_at = -1.0  # it was seen to be alive (a renewal) no earlier than this
        self._link_down_since: float | None = None

    # --- what the channel calls ------------------------------------------------------------------

    def node_info(self) -> NodeInfo:
        """Return what to say of this node in the next heartbeat."""
        ctx = self._ctx
        problem = ctx.board.status.store_problem
        return ctx.facts.info(
            ready=self.eligible and self._readiness.is_able and ctx.board.phase is Phase.STANDBY,
            problems=(*ctx.problems.sentences(), *((f"store: {problem}",) if problem else ())),
        )

    async def prepare(self) -> PrepareReply:
        """Get ready to take over within milliseconds."""
        if not self.eligible:
            return PrepareReply(ready=False, reason="this node is stopping")
        return await self._readiness.prepare()

    def leader_notice(self, notice: LeaderNotice) -> None:
        """Take note of a leader change: from now on requests are parked."""
        log.info("the active node says: phase=%s epoch=%d", notice.phase, notice.epoch)
        if self._record is not None and notice.epoch < self._record.epoch:
            return  # of a former tenure: it came over a retiring channel, after its successor
        self._leaving = True
        if notice.phase == "passed":
            self._forget_leader()
        self._publish()
        self._nudge()

    def link_changed(self) -> None:
        """Take note of the channel's new state."""
        if self._links.state is LinkState.UP:
            self.has_followed = True
            self._link_down_since = None
            if self._ctx.problems.clear("forwarding"):
                log.info("forwarding to the active node works again")
        elif self._link_down_since is None:
            self._link_down_since = trio.current_time()
        self._publish()
        self._nudge()

    # --- contending ------------------------------------------------------------------------------

    async def contend(self, *, hold_off_s: float, rest_s: float = 0.0) -> Grant:
        """
        Stand by until this node holds the HA lock.

        Args:
            hold_off_s: for so long others get a head start on a free lock (after a step-down).
            rest_s: for so long a free lock is not tried for at all (after a failed take-up).

        Raises:
            KeysDoNotFit: this node has to be unsealed anew.

        Cancellation: safe; a lock acquired in that moment is given back by the store adapter.
        """
        lock = self._ctx.lock
        self._rest_until = trio.current_time() + rest_s
        if lock is None:
            return await self._contend_alone()
        self._hold_until = trio.current_time() + hold_off_s
        self._free_since = None  # it may be from before a tenure of our own
        self._forget_leader()
        self._publish()
        timing = self._ctx.timing
        backoff = Backoff(timing.store_retry_s, timing.store_retry_max_s)
        while True:
            try:
                asked_at = trio.current_time()
                self._take_record(await lock.read(), asked_at)
                # First, so that whoever is to be proven dead is known by address.
                await self._follow_leader()
                grant = await self._try_lock(lock)
                if grant is not None:
                    return grant
            except KeysDoNotFit:
                raise  # no retry helps
            except StorageError as exc:
                self._store_failed(exc)
                await trio.sleep(backoff.next_s())
                continue
            if self._ctx.board.status.store_problem:
                log.info("the store answers again")
                self._ctx.board.publish(store_problem="")
            backoff.reset()
            self._publish()
            await self._wait(lock)

    def step_aside(self) -> None:
        """Forget the leader as known so far: this node was active itself meanwhile."""
        self._leaving = False
        self._forget_leader()

    async def _contend_alone(self) -> Grant:
        await trio.sleep_until(self._rest_until)
        while not self.eligible:
            self._nudged = trio.Event()
            await self._nudged.wait()
        sent_boot_s = self._ctx.clocks.boot()
        return Grant(
            uuid=self._ctx.clocks.new_uuid(), fence=None, sent_boot_s=sent_boot_s, ttl_s=inf
        )

    def _take_record(self, record: LockRecord | None, asked_at: float) -> None:
        """Compare what the store says now, asked at ``asked_at``, with what it said last."""
        now = trio.current_time()
        before = self._record
        if record is None:
            if self._free_since is None:
                # Nobody took up what was passed on: whoever else is there had that time, too.
                lapsed = before is not None and not before.value
                self._free_since = now - (HEAD_START_S - LAPSED_START_S if lapsed else 0.0)
            if before is not None:
                self._forget_leader(linger_s=self._linger_s(before, now))
        else:
            self._free_since = None
            if before is None:
                self._forget_leader()
            elif (before.epoch, before.value) != (record.epoch, record.value):
                self._forget_leader(linger_s=self._linger_s(before, now))
            # An answer may be slow: the least that this one can mean, and the most of the last one.
            elif asked_at + record.expires_in_s > self._read_at + before.expires_in_s + 0.05:
                self._alive_at = self._asked_at
        self._record = record
        self._asked_at = asked_at
        self._read_at = now
        self.sightings.saw(record)

    async def _try_lock(self, lock: HALock) -> Grant | None:
        """Try for the lock if this node may have it now."""
        record = self._record
        if not self.eligible and (record is None or record.identity != self._ctx.facts.identity):
            return None
        evict: LockRecord | None = None
        if record is None:
            if self._head_start_left_s() > 0:
                return None
        elif record.identity != self._ctx.facts.identity:
            if not await self._is_dead(lock, record):
                return None
            evict = record
        uuid = self._ctx.clocks.new_uuid()
        sent_boot_s = self._ctx.clocks.boot()
        timing = self._ctx.timing
        ttl_s = timing.lock_ttl_s if self.is_slow else timing.handover_ttl_s
        fence = await lock.acquire(uuid, ttl_s=ttl_s, evict=evict)
        if fence is None:
            return None
        self.sightings.saw(
            LockRecord(identity=fence.identity, value=uuid, epoch=fence.epoch, expires_in_s=ttl_s)
        )
        if not self.eligible:
            # Passed to us after we had said that we are prepared, or acquired while we were told
            # to stop. Nobody else may wait for its ttl.
            log.info("giving the HA lock on, this node is stopping: epoch=%d", fence.epoch)
            limit_s = self._ctx.timing.cleanup_s
            with trio.CancelScope(shield=True, deadline=trio.current_time() + limit_s):
                await lock.release(fence)
            return None
        log.info("acquired lock, enabling active operation: epoch=%d", fence.epoch)
        return Grant(uuid=uuid, fence=fence, sent_boot_s=sent_boot_s, ttl_s=ttl_s)

    async def _is_dead(self, lock: HALock, record: LockRecord) -> bool:
        """Gather the evidence that the holder's process has ended. False: cannot prove it."""
        if self._links.state is LinkState.UP:
            return False
        if not self._ctx.capabilities.session_lock or not await lock.holder_is_gone(record):
            return False
        if self._advertised is not None:
            address = self._advertised.cluster_addr or self._advertised.redirect_addr
            # At this node's own address nobody else can listen: who answers there is we.
            if address != self._ctx.facts.api_addr and not await self._refuses(address):
                return False
        # A holder without an advertisement has never opened a port in this tenure.
        if not self._dead:
            log.warning("the active node's process is gone: epoch=%d", record.epoch)
        self._dead = True
        self._publish()
        return True

    async def _refuses(self, address: str) -> bool:
        try:
            url = urlsplit(address)
            port = url.port or (443 if url.scheme == "https" else 80)
        except ValueError:
            return False
        with trio.move_on_after(PORT_CHECK_S):
            try:
                stream = await self._ctx.network.connect(url.hostname or "", port)
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
            await trio.aclose_forcefully(stream)
        return False

    # --- following the leader --------------------------------------------------------------------

    async def _follow_leader(self) -> None:
        """Read the advertisement of the current tenure, until it says all, and turn to it."""
        record = self._record
        if record is None or not record.value or self._can_reach_leader():
            return
        if record.identity == self._ctx.facts.identity:
            return
        path = names.LEADER_PREFIX + record.value
        try:
            entry = await self._ctx.barrier.get(path)
        except BarrierError:
            # Written under a key that is newer than ours: another node has rotated meanwhile.
            await refresh_keys(self._ctx)
            entry = await self._ctx.barrier.get(path)
        if entry is None:
            return  # the lock is visible before the advertisement: look again at once
        found = decode_advertisement(entry)
        if found == self._advertised:
            return
        self._advertised = found
        self._leaving = False
        self._hold_until = 0.0  # others have had their turn: when this leader goes, nobody waits
        self._link_down_since = trio.current_time()
        log.info(
            "new leader found: redirect_addr=%s cluster_addr=%s epoch=%d",
            self._advertised.redirect_addr,
            self._advertised.cluster_addr or "none",
            record.epoch,
        )
        self._check_addresses(self._advertised)
        if self._ctx.facts.cluster_addr and self._advertised.cluster_addr:
            self._links.follow(self._advertised, self)
        else:
            self._links.follow(None, self)

    def _can_reach_leader(self) -> bool:
        """Tell whether the advertisement is known and final: a blocked port may become free."""
        advertised = self._advertised
        if advertised is None:
            return False
        return bool(advertised.cluster_addr) or not self._ctx.facts.cluster_addr

    def _check_addresses(self, leader: Advertisement) -> None:
        """Name two nodes that say they live at the same address."""
        ctx, own = self._ctx, self._ctx.facts
        sentence = ""
        if leader.redirect_addr == own.api_addr:
            sentence = f"the active node has the same api_addr as this node: {own.api_addr}"
        elif leader.cluster_addr and leader.cluster_addr == own.cluster_addr:
            sentence = f"the active node has the same cluster_addr as this node: {own.cluster_addr}"
        if not sentence:
            ctx.problems.clear("same address")
        elif ctx.problems.report("same address", TWO_NODES_ONE_ADDRESS, sentence):
            log.error(
                "%s %s; give every node an address of its own", TWO_NODES_ONE_ADDRESS, sentence
            )

    def _linger_s(self, before: LockRecord, now: float) -> float | None:
        """How long the channel to a former leader is still worth something; None: as usual."""
        ran_out = now >= self._read_at + before.expires_in_s
        return 0.0 if ran_out or self._dead else None

    def _forget_leader(self, *, linger_s: float | None = None) -> None:
        self._advertised = None
        self._record = None
        self._dead = False
        self._alive_at = -1.0
        self._look_s = FIRST_LOOK_S
        for subject in ("forwarding", "same address"):  # troubles with this leader
            self._ctx.problems.clear(subject)
        if self._links.current is not None:
            self._links.follow(None, self, linger_s=linger_s)

    # --- telling ---------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Publish leader, link and whether requests are to be parked, in one step."""
        if self._ctx.board.phase is not Phase.STANDBY:
            return
        leader = None
        if self._record is not None and self._advertised is not None:
            leader = Leader(
                uuid=self._record.value,
                redirect_addr=self._advertised.redirect_addr,
                cluster_addr=self._advertised.cluster_addr,
                is_dead=self._dead,
            )
        self._ctx.board.publish(
            leader=leader,
            link=self._link_state(),
            leader_changing=leader is None or self._leaving or self._dead,
        )

    def _link_state(self) -> LinkState:
        state = self._links.state
        if state is LinkState.NONE and self._links.current is not None:
            return LinkState.CONNECTING  # its task has not begun yet
        if state is not LinkState.FAILED:
            return state
        down_since = self._link_down_since
        if down_since is None or self._alive_at < down_since:
            return LinkState.CONNECTING  # it may be dead: park, do not redirect there
        link = self._links.current
        assert link is not None
        assert self._advertised is not None
        sentence = (
            "forwarding is off: cannot reach the active node's cluster address "
            f"{self._advertised.cluster_addr}: {link.last_error}; clients are redirected"
        )
        if self._ctx.problems.report("forwarding", FORWARDING_OFF, sentence):
            log.error("%s %s", FORWARDING_OFF, sentence)
        return LinkState.FAILED

    def _store_failed(self, exc: StorageError) -> None:
        problem = str(exc)
        if self._ctx.board.status.store_problem != problem:
            log.error("the store does not answer as it should, trying again: cause=%r", problem)
        self._ctx.board.publish(store_problem=problem)

    # --- waiting ---------------------------------------------------------------------------------

    async def _wait(self, lock: HALock) -> None:
        """Wait for whatever may change the picture."""
        with trio.move_on_after(self._wait_s()):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_store, lock, nursery.cancel_scope)
                await self._nudged.wait()
                nursery.cancel_scope.cancel()
        self._nudged = trio.Event()

    async def _wait_store(self, lock: HALock, scope: trio.CancelScope) -> None:
        try:
            await lock.wait_change()
        except StorageError as exc:
            log.debug("the store does not announce changes now: cause=%r", str(exc))
            await trio.sleep(self._ctx.timing.watch_poll_s)
        scope.cancel()

    def _wait_s(self) -> float:
        """Seconds until the record is read again even if nothing is announced."""
        timing = self._ctx.timing
        record = self._record
        now = trio.current_time()
        if record is None:
            return max(0.001, self._head_start_left_s()) if self.eligible else timing.watch_poll_s
        waits = [record.expires_in_s - (now - self._read_at) + 0.001]
        if self._advertised is None and record.identity != self._ctx.facts.identity:
            waits.append(self._look_s)
            self._look_s = min(self._look_s * LOOK_GROWTH, LAST_LOOK_S)
        if self._links.state is not LinkState.UP:
            down_s = now - (self._link_down_since or now)
            waits.append(min(timing.watch_poll_s, max(EVIDENCE_FIRST_S, down_s)))
        if not self._ctx.capabilities.watch:
            waits.append(timing.watch_poll_s)
        return max(0.001, min(waits))

    def _head_start_left_s(self) -> float:
        """Seconds that a free lock is still left to other nodes."""
        now = trio.current_time()
        rest_s = self._rest_until - now
        if now >= self._hold_until or self._free_since is None:
            return rest_s
        return max(rest_s, self._free_since + HEAD_START_S - now)

    def _nudge(self) -> None:
        self._nudged.set()

    def retire(self) -> None:
        """Contend no more: the node is stopping or sealing."""
        self.eligible = False
        self._nudge()
