"""
Standing by: following the leader and contending for the HA lock.

Rules of this file:

1. It decides nothing. Who leads, whether the lock is to be tried for and how long to wait says the
   ``LeaderPicture``; this file tells it what happens, does what it says, and shows the result.
2. Whatever the picture is told is obeyed in the same moment: the channel is turned and the status
   published without a wait in between.
3. A lock that is acquired is either returned as a grant, or given on at once.

Theory of operation. One task reads the lock's record and takes the picture's steps, then waits for
whatever comes first: the store announces a change, the channel breaks, a notice arrives, or the
time is up. There is no tick in between where the store announces changes.
"""

from __future__ import annotations

import logging

import trio

from baoha.cluster.channel import LeaderNotice, NodeInfo, PrepareReply
from baoha.core.view import LinkState
from baoha.errors import KeysDoNotFit, StorageError
from baoha.ha import following
from baoha.ha.context import HAContext
from baoha.ha.death import is_proven_dead
from baoha.ha.grant import LockGrant, give_on, grant_without_lock, try_lock
from baoha.ha.leader_picture import CheckDeath, LeaderPicture, Own, ReadAdvertisement, TryLock, Wait
from baoha.ha.links import LinkKeeper
from baoha.ha.lock_watch import LockWatch
from baoha.ha.passing import LockSightings
from baoha.ha.readiness import Readiness
from baoha.sansio.ha_state import Phase
from baoha.storage.base import HALock, LockRecord
from baoha.storage.retry import Backoff

log = logging.getLogger("baoha.ha")


class Standby:
    """
    The standby side of a node for as long as it is unsealed.

    Attributes:
        eligible: whether it contends for the lock; off once the node is stopping or sealing.
        is_slow: whether it could not take up active duty last time; it gets more time then.
        sightings: what it sees of the lock.
    """

    def __init__(self, ctx: HAContext, links: LinkKeeper, readiness: Readiness) -> None:
        self._ctx = ctx
        self._links = links
        self._readiness = readiness
        self._picture = LeaderPicture(
            Own(
                identity=ctx.facts.identity,
                is_clustered=bool(ctx.facts.cluster_addr),
                store_announces=ctx.capabilities.watch,
                poll_s=ctx.timing.watch_poll_s,
            )
        )
        self._watch = LockWatch(poll_s=ctx.timing.watch_poll_s)
        self.eligible = True
        self.is_slow = False
        self.sightings = LockSightings()

    @property
    def has_followed(self) -> bool:
        """Whether there was ever a channel to another active node."""
        return self._picture.has_followed

    # --- what the channel calls ------------------------------------------------------------------

    def node_info(self) -> NodeInfo:
        """Return what to say of this node in the next heartbeat."""
        ctx = self._ctx
        problem = ctx.publisher.status.store_problem
        return ctx.facts.info(
            ready=self.eligible
            and self._readiness.is_able
            and ctx.publisher.phase is Phase.STANDBY,
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
        if self._picture.heard(notice):
            self._show()
            self._watch.nudge()

    def link_changed(self) -> None:
        """Take note of the channel's new state."""
        state = self._links.state
        self._picture.link_became(state, now=trio.current_time())
        if state is LinkState.UP:
            following.became_reachable(self._ctx)
        self._show()
        self._watch.nudge()

    # --- contending ------------------------------------------------------------------------------

    async def contend(self, *, hold_off_s: float, rest_s: float = 0.0) -> LockGrant:
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
        if lock is None:
            return await self._contend_alone(rest_s)
        self._picture.began(now=trio.current_time(), hold_off_s=hold_off_s, rest_s=rest_s)
        self._show()
        timing = self._ctx.timing
        backoff = Backoff(timing.store_retry_s, timing.store_retry_max_s)
        while True:
            try:
                step = await self._take_steps(lock)
                if isinstance(step, LockGrant):
                    return step
            except KeysDoNotFit:
                raise  # no retry helps
            except StorageError as exc:
                self._store_failed(exc)
                await trio.sleep(backoff.next_s())
                continue
            if self._ctx.publisher.status.store_problem:
                log.info("the store answers again")
                self._ctx.publisher.publish(store_problem="")
            backoff.reset()
            self._show()
            await self._watch.wait(lock, step.seconds)

    def step_aside(self) -> None:
        """Forget the leader as known so far: this node is active itself now."""
        self._picture.became_active()
        self._obey()

    def retire(self) -> None:
        """Contend no more: the node is stopping or sealing."""
        self.eligible = False
        self._watch.nudge()

    async def _contend_alone(self, rest_s: float) -> LockGrant:
        await trio.sleep(rest_s)
        while not self.eligible:
            await self._watch.wait_nudge()
        return grant_without_lock(self._ctx)

    async def _take_steps(self, lock: HALock) -> LockGrant | Wait:
        """Read the record and do what is to be done; returns the grant, or how long to wait."""
        picture = self._picture
        asked_at = trio.current_time()
        record = await lock.read()
        picture.saw_record(record, asked_at=asked_at, now=trio.current_time())
        self._obey()
        self.sightings.saw(record)
        while True:
            match picture.next_step(now=trio.current_time(), eligible=self.eligible):
                case ReadAdvertisement() as step:
                    await self._read_advertisement(step)
                case CheckDeath() as step:
                    await self._check_death(lock, step)
                case TryLock(evict):
                    grant = await self._try_lock(lock, evict)
                    if grant is not None:
                        return grant
                case Wait() as step:
                    return step

    async def _read_advertisement(self, step: ReadAdvertisement) -> None:
        found = await following.read_advertisement(self._ctx, step.uuid)
        # None: the lock is visible before the advertisement. The picture says: look again at once.
        if found is None or not self._picture.saw_advertisement(found, now=trio.current_time()):
            return
        log.info(
            "new leader found: redirect_addr=%s cluster_addr=%s epoch=%d",
            found.redirect_addr,
            found.cluster_addr or "none",
            step.epoch,
        )
        following.check_addresses(self._ctx, found)
        self._obey()

    async def _check_death(self, lock: HALock, step: CheckDeath) -> None:
        ctx = self._ctx
        if not ctx.capabilities.session_lock:
            return
        own = ctx.facts.api_addr
        if not await is_proven_dead(step, lock, network=ctx.network, own_address=own):
            return
        if not self._picture.is_dead:
            log.warning("the active node's process is gone: epoch=%d", step.record.epoch)
        self._picture.proved_dead()
        self._show()

    async def _try_lock(self, lock: HALock, evict: LockRecord | None) -> LockGrant | None:
        timing = self._ctx.timing
        ttl_s = timing.lock_ttl_s if self.is_slow else timing.handover_ttl_s
        grant = await try_lock(self._ctx, lock, ttl_s=ttl_s, evict=evict)
        if grant is None:
            return None
        self.sightings.saw(grant.as_record())
        if not self.eligible:
            # Passed to us after we had said that we are prepared, or acquired while we were told
            # to stop. Nobody else may wait for its ttl.
            log.info("giving the HA lock on, this node is stopping: epoch=%d", grant.epoch)
            await give_on(self._ctx, lock, grant)
            return None
        log.info("acquired lock, enabling active operation: epoch=%d", grant.epoch)
        return grant

    # --- showing ---------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Turn the channel to whom the picture says; troubles with a former leader are over."""
        picture = self._picture
        if picture.advertised is None:
            following.forget_problems(self._ctx)
        if picture.followed is not self._links.followed:
            self._links.follow(picture.followed, self, linger_s=picture.linger_s)

    def _show(self) -> None:
        """Publish leader, link and whether requests are to be parked, in one step."""
        self._obey()
        if self._ctx.publisher.phase is not Phase.STANDBY:
            return
        shown = self._picture.shown()
        if shown.unreachable:
            cause = self._links.current.last_error if self._links.current else ""
            following.report_unreachable(self._ctx, shown.unreachable, cause)
        self._ctx.publisher.publish(
            leader=shown.leader, link=shown.link, leader_changing=shown.changing
        )

    def _store_failed(self, exc: StorageError) -> None:
        problem = str(exc)
        if self._ctx.publisher.status.store_problem != problem:
            log.error("the store does not answer as it should, trying again: cause=%r", problem)
        self._ctx.publisher.publish(store_problem=problem)
