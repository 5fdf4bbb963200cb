"""
Active duty: how it is taken up, and how it is handed over.

Rules of this file:

1. Entry and exit order live here and nowhere else. Nothing here decides *whether* to lead.
2. The leader advertisement is written when the node is ready, so that a standby never learns of
   an active node that cannot serve. Source: ours; OpenBao advertises first.
3. Becoming active, and ceasing to be it, are each one synchronous block.

Entry: fence the store, reload keys and mounts, open the cluster listener with the tenure's own
certificate, advertise, have the lock confirmed for its whole ttl; then role and gate at once.

Planned exit: find and prepare a successor while still serving; then close the gate (requests are
parked from here on), let running requests end, look again whether the successor is there, pass the
lock to it in one step and for a short time, tell every standby. What was parked is forwarded to
whoever takes it up.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from baoha import names
from baoha.cluster.active_listener import serve_cluster
from baoha.cluster.certificates import TenureIdentity
from baoha.cluster.channel import ConnectedStandby, LeaderNotice
from baoha.core.view import LinkState
from baoha.diagnostics.codes.port import CANNOT_LISTEN, CONNECTION_REFUSED_AT_PORT
from baoha.errors import (
    BaohaError,
    FencedWrite,
    KeysDoNotFit,
    NotTakenUp,
    StepDownRefused,
    StorageError,
    StorageUnavailable,
)
from baoha.ha.context import HAContext
from baoha.ha.leave_requests import LeaveRequest, LeaveRequests
from baoha.ha.links import linger_limit_s
from baoha.ha.passing import Passed
from baoha.ha.readiness import listen_problem, listen_subject, refresh_keys
from baoha.ha.standbys import StandbyRegistry, is_named
from baoha.ha.successor import prepare_successor, successor_after_drain, wait_appearance
from baoha.ha.tenure import Tenure
from baoha.sansio.advertisement import Advertisement, encode_advertisement
from baoha.sansio.ha_state import HAEvent

log = logging.getLogger("baoha.ha")

REFUSAL_SHOWN_S = 60.0
BIND_RETRY_S = 1.0  # between attempts to bind a cluster address that is taken


async def run_duty(
    ctx: HAContext,
    tenure: Tenure,
    *,
    identity: TenureIdentity,
    standbys: StandbyRegistry,
    requests: LeaveRequests,
) -> None:
    """
    Take up active duty, serve until asked to leave, hand over. Runs inside the tenure's scope.

    Returns when the lock was passed on or given back, and the channel's last replies are out.

    Raises:
        KeysDoNotFit: the keys of this node do not lead to the stored keyring; the lock was given
            back.

    Cancellation: the tenure is over; the gate is closed at once, nothing is written any more.
    Owns: cluster listener, its connections.
    """
    async with trio.open_nursery() as duty:
        try:
            try:
                await _take_up(ctx, tenure, identity=identity, standbys=standbys, duty=duty)
            except StorageError as exc:
                log.error("cannot take up active duty: cause=%r", str(exc))
                tenure.failure = exc
            if tenure.failure is None:
                requests.open()
                await _serve_leave_requests(ctx, tenure, standbys=standbys, requests=requests)
            else:
                await _release(ctx, tenure, successor=None)
                tenure.finish(f"could not take up active duty: {tenure.failure}")
                if isinstance(tenure.failure, KeysDoNotFit):
                    raise tenure.failure
        finally:
            # A no-op after a planned exit. Otherwise this block was cancelled: by the deadline.
            deadline_passed = tenure.remaining_s <= 0
            tenure.finish(
                "the deadline of the HA lock passed without a renewal"
                if deadline_passed
                else "the node was told to stop at once"
            )
        # For replies under way, that of the step-down included.
        with trio.move_on_after(linger_limit_s(ctx.timing)):
            await standbys.wait_gone()
        duty.cancel_scope.cancel()


async def _take_up(
    ctx: HAContext,
    tenure: Tenure,
    *,
    identity: TenureIdentity,
    standbys: StandbyRegistry,
    duty: trio.Nursery,
) -> None:
    ctx.barrier.begin_writes(tenure.fence)
    await refresh_keys(ctx)
    await ctx.duties.reload()
    cluster_addr = ""
    if ctx.lock is not None:
        if ctx.facts.cluster_addr:
            unbound = await _open_listeners(ctx, identity, standbys, duty)
            if len(unbound) < len(ctx.cluster_listen):
                cluster_addr = ctx.facts.cluster_addr
            for address in unbound:
                duty.start_soon(
                    _in_background,
                    tenure,
                    _retry_listener,
                    ctx,
                    tenure,
                    identity,
                    standbys,
                    address,
                )
        await _advertise(ctx, tenure, identity, cluster_addr=cluster_addr)
    # Last of all: who freezes before this has the lock for a short time only.
    await tenure.confirmation.ask()
    await trio.lowlevel.checkpoint_if_cancelled()  # the tenure may have ended in the very last step
    ctx.gate.open(tenure)
    ctx.publisher.apply(
        HAEvent.DUTY_READY,
        leader=ctx.facts.as_leader(tenure.uuid, cluster_addr=cluster_addr),
        link=LinkState.NONE,
        leader_changing=False,
        active_since=tenure.since,
        epoch=tenure.epoch,
        store_problem="",
    )
    log.info("active: epoch=%d uuid=%s", tenure.epoch, tenure.uuid)
    duty.start_soon(_in_background, tenure, ctx.duties.maintain)
    if ctx.lock is not None:
        duty.start_soon(_in_background, tenure, _remove_stale_advertisements, ctx, tenure)


async def _in_background(tenure: Tenure, job: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Do a job of active duty. What the store fences off is the first sign that duty is over."""
    try:
        await job(*args)
    except FencedWrite as exc:
        tenure.end(f"a write was fenced off: {exc}")


async def _open_listeners(
    ctx: HAContext, identity: TenureIdentity, standbys: StandbyRegistry, duty: trio.Nursery
) -> list[tuple[str, int]]:
    """Open every cluster listener; return the addresses that cannot be bound now."""
    unbound = []
    for address in ctx.cluster_listen:
        try:
            await _start_listener(ctx, identity, standbys, address, duty)
        except OSError as exc:
            unbound.append(address)
            sentence = listen_problem(address, exc) + "; standbys cannot forward to this node"
            if ctx.problems.report(listen_subject(address), CANNOT_LISTEN, sentence):
                log.error("%s %s", CANNOT_LISTEN, sentence)
    return unbound


async def _start_listener(
    ctx: HAContext,
    identity: TenureIdentity,
    standbys: StandbyRegistry,
    address: tuple[str, int],
    duty: trio.Nursery,
) -> None:
    host, port = address
    bound = await duty.start(
        partial(
            serve_cluster,
            ctx.network,
            host,
            port,
            identity,
            execute=ctx.duties.execute,
            standbys=standbys,
            timing=ctx.timing,
            on_problem=partial(_refused_connection, ctx),
        )
    )
    ctx.problems.clear(listen_subject(address))
    log.info("cluster listener opened: address=%s:%d", *bound[:2])


def _refused_connection(ctx: HAContext, address: str, cause: str) -> None:
    """Show the latest stranger, or misconfigured peer, in ``sys/ha-status`` for a while."""
    host = address.rpartition(":")[0] or address
    ctx.problems.report(
        "cluster connection",
        CONNECTION_REFUSED_AT_PORT,
        f"a connection to the cluster address from {host} was refused: {cause}",
        for_s=REFUSAL_SHOWN_S,
    )


async def _retry_listener(
    ctx: HAContext,
    tenure: Tenure,
    identity: TenureIdentity,
    standbys: StandbyRegistry,
    address: tuple[str, int],
) -> None:
    """Bind an address that was taken as soon as it is free, and advertise it then."""
    async with trio.open_nursery() as listeners:
        bound = advertised = False
        while not advertised:
            await trio.sleep(BIND_RETRY_S)
            try:
                if not bound:
                    await _start_listener(ctx, identity, standbys, address, listeners)
                    bound = True
                await _advertise(ctx, tenure, identity, cluster_addr=ctx.facts.cluster_addr)
                advertised = True
            except OSError:
                continue  # reported when it failed first, and until it is cleared
            except FencedWrite:
                raise
            except StorageError as exc:
                log.warning("cannot advertise the cluster address: cause=%r", str(exc))
        if not tenure.cause:
            leader = ctx.facts.as_leader(tenure.uuid, cluster_addr=ctx.facts.cluster_addr)
            ctx.publisher.publish(leader=leader)


async def _advertise(
    ctx: HAContext, tenure: Tenure, identity: TenureIdentity, *, cluster_addr: str
) -> None:
    advertisement = Advertisement(
        redirect_addr=ctx.facts.api_addr,
        cluster_addr=cluster_addr,
        cluster_cert=identity.certificate_der if cluster_addr else b"",
        key=identity.to_key_params() if cluster_addr else None,
    )
    await ctx.barrier.put(names.LEADER_PREFIX + tenure.uuid, encode_advertisement(advertisement))


async def _remove_stale_advertisements(ctx: HAContext, tenure: Tenure) -> None:
    """Delete the advertisements of former tenures; they only waste space, so a failure can wait."""
    try:
        for uuid in await ctx.barrier.list(names.LEADER_PREFIX):
            if uuid != tenure.uuid:
                await ctx.barrier.delete(names.LEADER_PREFIX + uuid)
    except FencedWrite:
        raise
    except StorageError as exc:
        log.warning("cannot remove stale leader advertisements: cause=%r", str(exc))


async def _serve_leave_requests(
    ctx: HAContext, tenure: Tenure, *, standbys: StandbyRegistry, requests: LeaveRequests
) -> None:
    """Serve until one request to leave was carried out."""

    async def wait(request: LeaveRequest) -> None:
        if ctx.lock is not None:
            await wait_appearance(request, standbys, ctx.timing)
        requests.give_turn(request)

    async with trio.open_nursery() as waiting:
        while True:
            request = await requests.take(lambda begun: waiting.start_soon(wait, begun))
            prepared: ConnectedStandby | None = None
            try:
                with requests.searching() as search:
                    prepared = await _find_successor(ctx, request, standbys)
            except StepDownRefused as exc:
                log.warning("%s: reason=%r", exc, request.reason)
                requests.refuse(exc)
                continue
            if not search.cancelled_caught:
                break
        waiting.cancel_scope.cancel()
    await _hand_over(ctx, tenure, request, prepared, standbys=standbys)


async def _find_successor(
    ctx: HAContext, request: LeaveRequest, standbys: StandbyRegistry
) -> ConnectedStandby | None:
    """
    Return a prepared successor; None: there is none, and it is to be done without.

    Raises:
        StepDownRefused: nobody is ready, and it is not forced. Nothing has changed.
    """
    if ctx.lock is None:
        return None
    try:
        return await prepare_successor(request, standbys, ctx.timing)
    except StepDownRefused as exc:
        if not request.force:
            raise
        log.warning("leaving without a successor: cause=%r", str(exc))
        return None


async def _hand_over(
    ctx: HAContext,
    tenure: Tenure,
    request: LeaveRequest,
    prepared: ConnectedStandby | None,
    *,
    standbys: StandbyRegistry,
) -> None:
    """Pass active duty on."""
    # The successor may have answered in the moment in which the tenure ended for another reason.
    await trio.lowlevel.checkpoint_if_cancelled()
    log.warning(
        "stepping down from active operation to standby: reason=%r successor=%s",
        request.reason,
        prepared.info.api_addr if prepared else "none",
    )
    ctx.publisher.apply(HAEvent.LEAVE_BEGUN, leader_changing=True)
    ctx.gate.close()
    standbys.notify(LeaderNotice(phase="leaving", epoch=tenure.epoch))
    await ctx.gate.drain(ctx.timing.drain_s)
    error = await _let_go(ctx, tenure, request, prepared, standbys)
    # Answered first: the end of the tenure answers whoever still waits with "not active".
    request.answer(error)
    passed = request.passed
    tenure.finish(
        f"handed over to {passed.name}: {request.reason}"
        if passed
        else f"gave active duty up, to nobody: {request.reason}"
    )
    standbys.notify(
        LeaderNotice(
            phase="passed", successor=passed.identity if passed else "", epoch=tenure.epoch
        )
    )


async def _let_go(
    ctx: HAContext,
    tenure: Tenure,
    request: LeaveRequest,
    prepared: ConnectedStandby | None,
    standbys: StandbyRegistry,
) -> BaohaError | None:
    """Pass the lock on, or give it back. Returns what keeps the request from being done."""
    timing = ctx.timing
    successor: ConnectedStandby | None = None
    if prepared is not None:
        successor = successor_after_drain(prepared, standbys, to=request.to, timing=timing)
    if successor is not None:
        request.passed = Passed(
            identity=successor.info.node_id,
            name=successor.info.api_addr,
            # Passing the lock on raises its epoch by one, giving it back does not.
            epoch=tenure.epoch + (1 if ctx.capabilities.hand_over else 0),
            is_reserved=ctx.capabilities.hand_over or request.to is not None,
            lapses_at=trio.current_time() + timing.cleanup_s + timing.handover_ttl_s,
            is_wanted=request.to is None or is_named(successor.info, request.to),
        )
    identity = successor.info.node_id if successor else None
    problem = await _release(ctx, tenure, successor=identity)
    if problem:
        return StorageUnavailable(problem, outcome="unknown")
    if request.passed is not None:
        lapses_at = trio.current_time() + timing.handover_ttl_s
        request.passed = replace(request.passed, lapses_at=lapses_at)
    elif prepared is not None and not request.force:
        return NotTakenUp(
            f"active duty was given up, to nobody: {prepared.info.api_addr} was lost "
            "meanwhile, and no other standby is ready"
        )
    return None


async def _release(ctx: HAContext, tenure: Tenure, *, successor: str | None) -> str:
    """
    Give the lock back, or pass it on where the store can do that in one step; where it cannot, the
    successor takes a lock that is free.

    Returns:
        Why that has failed, or is not known; "" when it is done. The lock runs out by itself then.
    """
    if ctx.lock is None or tenure.fence is None:
        return ""
    problem = "no answer in time"
    tenure.is_given_back = True
    if not ctx.capabilities.hand_over:
        successor = None
    with trio.move_on_after(ctx.timing.cleanup_s) as scope:
        scope.shield = True
        try:
            await ctx.lock.release(
                tenure.fence, successor=successor, ttl_s=ctx.timing.handover_ttl_s
            )
        except BaohaError as exc:
            problem = str(exc)
        else:
            return ""
    log.error(
        "cannot give the HA lock back, it runs out by itself: remaining_s=%.1f cause=%r",
        max(0.0, tenure.remaining_s + ctx.timing.expiry_margin_s),
        problem,
    )
    return f"cannot give the HA lock back: {problem}"
