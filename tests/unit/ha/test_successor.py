"""
Finding a successor among standbys that are slow, silent, stopping or gone.

The standbys are stand-ins with the timing under test; the registry and the search are real.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from baoha.cluster.channel import LeaderNotice, NodeInfo, PrepareReply
from baoha.errors import ForwardingError, StepDownRefused
from baoha.ha.leave_requests import LeaveRequest
from baoha.ha.standbys import StandbyRegistry
from baoha.ha.successor import prepare_successor, successor_after_drain
from baoha.sansio.patience import PeerPatience
from baoha.timing import PATIENCE_MAX, HATiming
from tests.support.channel import node_info

TIMING = HATiming()


class Standby:
    """
    A connected standby.

    Args:
        takes_s: how long it prepares.
        silent_since: when its last heartbeat came; None: they come all the time.
    """

    def __init__(
        self,
        name: str,
        *,
        takes_s: float = 0.0,
        ready: bool = True,
        reply: PrepareReply | ForwardingError | None = None,
        silent_since: float | None = None,
    ) -> None:
        self.info: NodeInfo = replace(node_info(name), ready=ready)
        self.patience = PeerPatience()
        self.echoed_at_unix_s = 0.0
        self.silent_since = silent_since
        self.asked = 0
        self._takes_s = takes_s
        self._reply = reply or PrepareReply(ready=True)

    @property
    def echoed_s_ago(self) -> float:
        return 0.0 if self.silent_since is None else trio.current_time() - self.silent_since

    async def prepare(self) -> PrepareReply:
        self.asked += 1
        await trio.sleep(self._takes_s)
        if isinstance(self._reply, ForwardingError):
            raise self._reply
        return self._reply

    def notify(self, notice: LeaderNotice) -> None:
        """Nobody reads it."""


def registry(*standbys: Standby) -> StandbyRegistry:
    peers = StandbyRegistry()
    for standby in standbys:
        peers.joined(standby)
    return peers


def wish(*, to: str | None = None, force: bool = False) -> LeaveRequest:
    return LeaveRequest(reason="test", to=to, force=force, wait_s=TIMING.handover_wait_s)


@pytest.mark.parametrize("takes_s", [0.0, 2.9, 3.1, 8.0, 11.9])
@pytest.mark.parametrize("to", [None, "slow"])
async def test_standby_that_is_slow_and_alive_is_waited_for(
    autojump_clock: MockClock, takes_s: float, to: str | None
) -> None:
    """Goal: a machine without spare CPU time is no reason to refuse a step-down."""
    slow = Standby("slow", takes_s=takes_s)
    began = trio.current_time()
    assert await prepare_successor(wish(to=to), registry(slow), TIMING) is slow
    assert trio.current_time() - began == pytest.approx(takes_s)


async def test_standby_that_never_answers_is_refused_in_the_end(autojump_clock: MockClock) -> None:
    stuck = Standby("stuck", takes_s=1e6)
    began = trio.current_time()
    with pytest.raises(StepDownRefused, match="stuck:8200: no answer within 12 s"):
        await prepare_successor(wish(), registry(stuck), TIMING)
    assert trio.current_time() - began == PATIENCE_MAX * TIMING.handover_wait_s


async def test_forced_wish_waits_no_longer_than_configured(autojump_clock: MockClock) -> None:
    stuck = Standby("stuck", takes_s=1e6)
    began = trio.current_time()
    with pytest.raises(StepDownRefused):
        await prepare_successor(wish(force=True), registry(stuck), TIMING)
    assert trio.current_time() - began == TIMING.handover_wait_s


async def test_slow_standby_keeps_nobody_from_asking_the_next(autojump_clock: MockClock) -> None:
    slow, quick = Standby("z-slow", takes_s=8.0), Standby("quick")
    slow.info = replace(slow.info, version="9.0.0")  # preferred
    began = trio.current_time()
    assert await prepare_successor(wish(), registry(slow, quick), TIMING) is quick
    assert trio.current_time() - began == TIMING.handover_wait_s


async def test_slow_standby_may_still_answer_when_the_next_one_cannot(
    autojump_clock: MockClock,
) -> None:
    slow = Standby("slow", takes_s=5.0)
    slow.info = replace(slow.info, version="9.0.0")
    unable = Standby("unable", reply=PrepareReply(ready=False, reason="disk is full"))
    began = trio.current_time()
    assert await prepare_successor(wish(), registry(slow, unable), TIMING) is slow
    assert trio.current_time() - began == 5.0


async def test_standby_that_falls_silent_while_it_prepares_is_given_up(
    autojump_clock: MockClock,
) -> None:
    frozen = Standby("frozen", takes_s=1e6, silent_since=trio.current_time())
    began = trio.current_time()
    with pytest.raises(StepDownRefused, match="frozen:8200: silent for"):
        await prepare_successor(wish(), registry(frozen), TIMING)
    assert trio.current_time() - began <= TIMING.handover_wait_s + TIMING.heartbeat_s


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (PrepareReply(ready=False, reason="this node is stopping"), "this node is stopping"),
        (ForwardingError("the channel to the standby has ended"), "the channel to the standby"),
    ],
)
async def test_standby_that_cannot_is_named_with_its_reason(
    autojump_clock: MockClock, reply: PrepareReply | ForwardingError, reason: str
) -> None:
    with pytest.raises(StepDownRefused, match=f"one:8200: {reason}"):
        await prepare_successor(wish(), registry(Standby("one", reply=reply)), TIMING)


async def test_standby_that_called_itself_not_ready_is_asked_what_is_true_now(
    autojump_clock: MockClock,
) -> None:
    """Goal: an old heartbeat ("the store does not answer") is no verdict."""
    once = Standby("once", ready=False)
    assert await prepare_successor(wish(), registry(once), TIMING) is once


async def test_ready_standby_is_preferred_to_one_that_called_itself_not_ready(
    autojump_clock: MockClock,
) -> None:
    no, yes = Standby("no", ready=False), Standby("yes")
    assert await prepare_successor(wish(), registry(no, yes), TIMING) is yes
    assert no.asked == 0


@pytest.mark.parametrize(("after_s", "is_found"), [(5.0, True), (11.0, True), (13.0, False)])
async def test_standby_in_the_middle_of_its_handshake_is_waited_for(
    autojump_clock: MockClock, after_s: float, is_found: bool
) -> None:
    peers, late = registry(), Standby("late")
    peers.arriving = 1
    async with trio.open_nursery() as nursery:

        async def arrive() -> None:
            await trio.sleep(after_s)
            peers.arriving = 0
            peers.joined(late)

        nursery.start_soon(arrive)
        if is_found:
            assert await prepare_successor(wish(), peers, TIMING) is late
        else:
            with pytest.raises(StepDownRefused, match="no standby is connected"):
                await prepare_successor(wish(), peers, TIMING)


async def test_seconds_in_which_this_process_did_not_run_are_not_waited(
    autojump_clock: MockClock,
) -> None:
    peers, late = registry(), Standby("late")
    found: list[object] = []

    async def search() -> None:
        found.append(await prepare_successor(wish(), peers, TIMING))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(search)
        await trio.sleep(0.1)
        autojump_clock.jump(5.0)
        await trio.sleep(0.5)
        peers.joined(late)
    assert found == [late]


@pytest.mark.parametrize(
    ("silent_s", "other_silent_s", "to", "taken"),
    [
        (0.5, 0.1, None, "chosen"),
        (1.6, 0.1, None, "other"),  # one heartbeat is missing, and the other one's is not
        (1.6, 2.0, None, "chosen"),
        (1.6, 0.1, "chosen", "chosen"),  # asked for by name: given up only when it is silent
        (2.6, 0.1, "chosen", "other"),
        (2.6, 2.6, None, "nobody"),
    ],
)
async def test_successor_is_looked_at_again_after_the_drain(
    autojump_clock: MockClock, silent_s: float, other_silent_s: float, to: str | None, taken: str
) -> None:
    now = trio.current_time()
    chosen = Standby("chosen", silent_since=now - silent_s)
    other = Standby("other", silent_since=now - other_silent_s)
    found = successor_after_drain(chosen, registry(chosen, other), to=to, timing=TIMING)
    assert (found.info.node_id if found else "nobody") == taken


async def test_successor_that_has_left_during_the_drain_is_replaced(
    autojump_clock: MockClock,
) -> None:
    chosen, other = Standby("chosen"), Standby("other")
    found = successor_after_drain(chosen, registry(other), to="chosen", timing=TIMING)
    assert found is other
