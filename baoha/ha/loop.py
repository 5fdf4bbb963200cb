"""
The HA loop: standby, tenure, standby, ... for as long as the node is unsealed.

Rules of this file: it owns the order of the phases and the lifetime of what outlives one of them
(channels, a cluster listener that finishes its replies); it decides nothing about who leads.
"""

from __future__ import annotations

import logging

import trio

from baoha.core.view import LinkState, Member
from baoha.errors import NotActive, StepDownRefused, StorageCorrupt, StorageError
from baoha.ha.context import HAContext
from baoha.ha.duty import run_duty
from baoha.ha.grant import LockGrant
from baoha.ha.leave_requests import LeaveRequest, LeaveRequests
from baoha.ha.links import LinkKeeper
from baoha.ha.readiness import Readiness
from baoha.ha.standby import Standby
from baoha.ha.standbys import StandbyRegistry, is_named, member_row
from baoha.ha.tenure import Tenure, run_renewal
from baoha.sansio.ha_state import HAEvent, Phase

log = logging.getLogger("baoha.ha")

TAKE_UP_GRACE_S = 0.25  # after a passed lock has lapsed: to read who has it
LAST_WORDS_S = 0.05  # a former tenure's channels may hold up the next tenure for so long


class HALoop:
    """
    The HA machinery of one unsealed node.

    Attributes:
        standby: how it stands by.
        tenure: the one that it is in, or was in last.
        standbys: the standbys of that tenure.
    """

    def __init__(self, ctx: HAContext, links: LinkKeeper) -> None:
        self._ctx = ctx
        self._links = links
        self._gone = trio.Event()  # the former tenure's listener is closed
        self._gone.set()
        self._readiness = Readiness(ctx, is_listening=lambda: not self._gone.is_set())
        self.standby = Standby(ctx, self._links, self._readiness)
        self._requests = LeaveRequests()
        self.standbys = StandbyRegistry()
        self._had_company = False  # in any former tenure
        self.tenure: Tenure | None = None
        self._is_granted = False  # the lock is held, and the phase does not say so yet

    async def run(self) -> None:
        """
        Stand by and lead in turn, until cancelled.

        Raises:
            KeysDoNotFit: this node must be sealed. (In a group: a task of its own says so.)

        Cancellation: an active node gives up at once, without handing over; ``retire`` comes first.
        Owns: channels, cluster listener, the tenure.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._links.run)
            nursery.start_soon(self._readiness.watch)
            hold_off_s = rest_s = 0.0
            while True:
                grant = await self.standby.contend(hold_off_s=hold_off_s, rest_s=rest_s)
                self._is_granted = True
                try:
                    await self._finish_former_tenure()
                    stands_back = await nursery.start(self._run_tenure, grant)
                except BaseException:
                    self._is_granted = False
                    limit_s = self._ctx.timing.cleanup_s
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + limit_s):
                        await self._give_back(grant)
                    raise
                hold_off_s = self._ctx.timing.step_down_pause_s if stands_back else 0.0
                rest_s = self._rest_s()

    def _rest_s(self) -> float:
        """How long not to contend after the last tenure: what has failed at once would again."""
        timing = self._ctx.timing
        failure = self.tenure.failure if self.tenure else None
        if isinstance(failure, StorageCorrupt):
            return timing.step_down_pause_s
        return timing.store_retry_s if failure else 0.0

    async def step_down(self, *, reason: str, to: str | None, force: bool) -> None:
        """
        Hand active duty over; returns when the successor has taken the lock up.

        Nothing is done when ``to`` is a name of this node, which is active.

        Raises:
            NotActive: this node is not active.
            StepDownRefused: nobody is ready, or ``to`` is not.
            NotTakenUp: it left, and nothing shows that the successor has taken over.
            StorageUnavailable: it left, and cannot tell who has the lock.
        """
        timing = self._ctx.timing
        if (
            to is not None
            and self._ctx.publisher.phase is Phase.ACTIVE
            and is_named(self.standby.node_info(), to)
        ):
            return
        passed = await self._requests.submit(
            LeaveRequest(reason=reason, to=to, force=force, wait_s=timing.handover_wait_s)
        )
        if passed is not None:
            grace_s = timing.watch_poll_s + TAKE_UP_GRACE_S
            await self.standby.sightings.wait_taken_up(passed, grace_s=grace_s)

    async def retire(self, *, reason: str) -> None:
        """
        Leave active duty for good and contend no more; afterwards this node only forwards.

        Never refused: without a ready standby the lock is simply given back.
        """
        self.standby.retire()
        publisher = self._ctx.publisher
        while self._is_granted or publisher.phase in (Phase.ENTERING, Phase.ACTIVE, Phase.LEAVING):
            seen = publisher.status
            if publisher.phase is not Phase.ACTIVE:
                await publisher.wait_change(seen)
                continue
            request = LeaveRequest(
                reason=reason, to=None, force=True, wait_s=self._patience_s(), is_final=True
            )
            try:
                await self._requests.submit(request)
            except (NotActive, StepDownRefused, StorageError) as exc:
                log.info("active duty ended meanwhile: cause=%r", str(exc))

    def members(self) -> list[Member]:
        """Return the rows of ``sys/ha-status`` as far as this node knows them."""
        ctx = self._ctx
        own = member_row(
            ctx.facts.info(ready=True, problems=ctx.problems.sentences()),
            active_node=ctx.publisher.phase is Phase.ACTIVE,
            last_echo=None,
        )
        return sorted([own, *self.standbys.rows()], key=lambda member: member.api_address)

    def _patience_s(self) -> float:
        """
        How long to wait for a first standby: they need a moment after a change, not for ever, and a
        node that has never met another one waits for nobody.
        """
        tenure = self.tenure
        if tenure is None:
            return 0.0
        age_s = (self._ctx.clocks.now() - tenure.since).total_seconds()
        wait_s = self._ctx.timing.handover_wait_s
        if self.standbys.rows():
            return wait_s
        if not (self._had_company or self.standbys.was_joined or self.standby.has_followed):
            return 0.0
        # The wall clock may have been set back meanwhile.
        return min(wait_s, max(0.0, wait_s - age_s))

    async def _finish_former_tenure(self) -> None:
        """Close the former tenure's listener: it may be finishing replies, but we need its port."""
        if self.tenure is not None:
            self.tenure.scope.cancel()
        # The port is free at once. The last words to a standby that does not listen take longer,
        # and they are not worth waiting for.
        with trio.move_on_after(LAST_WORDS_S):
            await self._gone.wait()

    async def _run_tenure(
        self, grant: LockGrant, *, task_status: trio.TaskStatus[bool] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run one tenure; ``started`` reports its end (do others go first?), clean-up follows."""
        ctx = self._ctx
        tenure = Tenure(
            uuid=grant.uuid,
            fence=grant.fence,
            since=ctx.clocks.now(),
            boot_clock=ctx.clocks.boot,
            timing=ctx.timing,
        )
        if grant.fence is not None:
            tenure.begin(grant.sent_boot_s, grant.ttl_s)
        self.tenure = tenure
        self._had_company |= self.standbys.was_joined
        self.standbys = StandbyRegistry()
        self._gone = gone = trio.Event()
        self.standby.step_aside()
        ctx.publisher.apply(HAEvent.LOCK_ACQUIRED, leader_changing=True)
        self._is_granted = False

        def over() -> None:
            """Cease to be active. One synchronous block, whatever ended the tenure."""
            phase = ctx.publisher.phase
            ctx.gate.close()
            ctx.gate.cancel_inside()
            ctx.barrier.end_writes()
            ctx.publisher.apply(
                HAEvent.TENURE_ENDED,
                leader=None,
                link=LinkState.NONE,
                leader_changing=True,
                active_since=None,
                epoch=0,
            )
            self._requests.close(tenure.cause, is_left=phase is Phase.LEAVING)
            log.warning("active operation ended: epoch=%d cause=%r", tenure.epoch, tenure.cause)
            self.standby.is_slow = phase is Phase.ENTERING
            # Whoever could not even take up active duty would only fail again at once.
            task_status.started(phase is not Phase.ACTIVE)

        tenure.on_end = over
        try:
            async with trio.open_nursery() as nursery:
                if ctx.lock is not None:
                    nursery.start_soon(self._renew, tenure)
                with tenure.scope:
                    await run_duty(
                        ctx,
                        tenure,
                        identity=self._readiness.take_identity(),
                        standbys=self.standbys,
                        requests=self._requests,
                    )
                nursery.cancel_scope.cancel()
        finally:
            tenure.finish("the HA loop was ended")
            gone.set()

    async def _give_back(self, grant: LockGrant) -> None:
        """Do not strand the lock when the loop ends at once. A lock that was lost is not hurt."""
        if self._ctx.lock is None or grant.fence is None:
            return
        try:
            await self._ctx.lock.release(grant.fence)
        except StorageError as exc:
            log.error("cannot give the HA lock back: cause=%r", str(exc))

    async def _renew(self, tenure: Tenure) -> None:
        assert self._ctx.lock is not None
        await run_renewal(
            self._ctx.lock,
            tenure,
            timing=self._ctx.timing,
            boot_clock=self._ctx.clocks.boot,
            report=lambda problem: self._ctx.publisher.publish(store_problem=problem),
        )
