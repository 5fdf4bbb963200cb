"""The request gate: admission, drain, and the end of a tenure with requests inside."""

from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from baoha.core.keys.landed_writes import count_landed
from baoha.errors import (
    BaohaError,
    FencedWrite,
    LeadershipLost,
    NotActive,
    NotFound,
    ReadOnly,
    Sealed,
    StorageCorrupt,
    StorageUnavailable,
    TransactionConflict,
)
from baoha.ha.gate import RequestGate
from baoha.ha.tenure import Tenure
from baoha.storage.base import Fence
from baoha.timing import HATiming


class BootClock:
    """A boot-time clock that can run ahead of trio's, as after a suspend."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return trio.current_time() + self.ahead_s


def make_tenure(clock: BootClock) -> Tenure:
    tenure = Tenure(
        uuid="u",
        fence=Fence("core/lock", "me", 3),
        since=datetime(2026, 1, 1, tzinfo=UTC),
        boot_clock=clock,
        timing=HATiming(),
    )
    tenure.extend(clock())
    return tenure


def test_gate_closed_refuses() -> None:
    gate = RequestGate()
    with pytest.raises(NotActive), gate.admit():
        pytest.fail("admitted")


async def test_gate_after_suspend_refuses_although_open(autojump_clock: object) -> None:
    clock = BootClock()
    gate = RequestGate()
    gate.open(make_tenure(clock))
    clock.ahead_s = 5.1
    with pytest.raises(NotActive), gate.admit():
        pytest.fail("admitted by a node that slept through its deadline")


async def test_gate_suspend_during_a_request_its_reply_does_not_leave(
    autojump_clock: object,
) -> None:
    clock = BootClock()
    gate = RequestGate()
    gate.open(make_tenure(clock))
    with pytest.raises(LeadershipLost), gate.admit() as ticket:
        ticket.require_valid()
        clock.ahead_s = 5.1
        ticket.require_valid()


async def test_gate_suspend_during_a_request_its_refusal_does_not_leave(
    autojump_clock: object,
) -> None:
    clock = BootClock()
    gate = RequestGate()
    gate.open(make_tenure(clock))
    with pytest.raises(NotActive), gate.admit():
        clock.ahead_s = 5.1
        raise NotFound


async def test_drain_short_request_finishes_and_long_one_is_cut(autojump_clock: object) -> None:
    gate = RequestGate()
    gate.open(make_tenure(BootClock()))
    ended: list[str] = []

    async def request(name: str, seconds: float) -> None:
        try:
            with gate.admit():
                await trio.sleep(seconds)
                ended.append(f"{name} finished")
        except LeadershipLost:
            ended.append(f"{name} lost at {trio.current_time() - started_at:g}")

    started_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, "short", 1.0)
        nursery.start_soon(request, "long", 60.0)
        await trio.testing.wait_all_tasks_blocked()
        gate.close()
        with pytest.raises(NotActive), gate.admit():
            pytest.fail("admitted while draining")
        await gate.drain(2.0)
        assert trio.current_time() - started_at == pytest.approx(2.0)
    assert ended == ["short finished", "long lost at 2"]


async def test_drain_request_that_cannot_be_cancelled_delays_by_a_bounded_time(
    autojump_clock: object,
) -> None:
    gate = RequestGate()
    gate.open(make_tenure(BootClock()))

    async def stubborn() -> None:
        with pytest.raises(LeadershipLost), gate.admit():
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
                await trio.sleep(10)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stubborn)
        await trio.testing.wait_all_tasks_blocked()
        gate.close()
        before = trio.current_time()
        await gate.drain(2.0)
        assert trio.current_time() - before < 2.5


async def test_gate_fenced_write_ends_the_tenure(autojump_clock: object) -> None:
    gate = RequestGate()
    tenure = make_tenure(BootClock())
    gate.open(tenure)
    with pytest.raises(FencedWrite), gate.admit():
        raise FencedWrite
    assert "fenced" in tenure.cause
    with pytest.raises(NotActive), gate.admit():
        pytest.fail("admitted after a fenced write")


@pytest.mark.parametrize(
    "error",
    [
        FencedWrite(),
        ReadOnly(),
        Sealed(),
        StorageUnavailable("away"),
        StorageCorrupt("damaged"),
        TransactionConflict(),
    ],
)
async def test_gate_error_after_a_write_that_has_landed_says_unknown(
    autojump_clock: object, error: BaohaError
) -> None:
    gate = RequestGate()
    gate.open(make_tenure(BootClock()))
    assert error.outcome == "not_applied"
    with pytest.raises(BaohaError) as caught, gate.admit():
        count_landed()
        raise error
    assert caught.value.outcome == "unknown"
